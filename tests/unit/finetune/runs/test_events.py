"""The event file: written by one, read from a cursor by many, folded into what a run is doing."""

from finetune.runs.events import EventLog, fold, read_events


def test_events_are_read_from_where_one_left_off(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert read_events(path) == ([], 0)
    log.write("queued", device="cpu")
    first, cursor = read_events(path)
    log.write("progress", phase="loading")
    second, end = read_events(path, cursor)
    assert [event["type"] for event in first + second] == ["queued", "progress"]
    assert end == path.stat().st_size
    assert read_events(path, end) == ([], end)


def test_a_last_line_without_newline_waits_for_its_end(tmp_path):
    path = tmp_path / "events.jsonl"
    EventLog(path).write("queued")
    whole = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b'{"type": "tr')
    assert read_events(path) == (read_events(path)[0], whole)
    with open(path, "ab") as file:
        file.write(b'ain", "step": 1}\n')
    assert read_events(path, whole)[0] == [{"type": "train", "step": 1}]


def test_the_half_line_of_a_killed_writer_spoils_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    EventLog(path).write("queued")
    with open(path, "ab") as file:
        file.write(b'{"type": "train", "st')
    EventLog(path).write("failed", error="x")
    assert [event["type"] for event in read_events(path)[0]] == ["queued", "failed"]


def _train(step, loss):
    return {"type": "train", "step": step, "loss": loss, "tokens_per_s": 10.0}


def test_for_a_step_written_twice_the_later_one_counts():
    started = {"type": "started", "step": 0, "steps": 4}
    again = {"type": "started", "step": 1, "steps": 4}
    progress = fold([{"type": "queued"}, started, _train(1, 3.0), _train(2, 9.0), _train(3, 9.5)])
    assert (progress.step, progress.loss) == (3, 9.5)
    progress = fold([{"type": "queued"}, again, _train(2, 2.0)], progress)
    assert {step: event["loss"] for step, event in progress.train.items()} == {1: 3.0, 2: 2.0}
    assert (progress.step, progress.attempt, progress.loss) == (2, 2, 2.0)


def test_the_last_attempt_decides_how_a_run_ended():
    stopped = fold([{"type": "queued"}, {"type": "stopped", "step": 0}])
    assert stopped.ending == "stopped"
    resumed = fold([{"type": "queued"}], stopped)
    assert (resumed.ending, resumed.begun) == (None, False)


def _staged(*more):
    told = [
        {"type": "queued", "t": 0},
        {"type": "started", "t": 1, "step": 0, "steps": 6},
        {"type": "eval", "t": 2, "step": 0, "stage": 0, "eval_loss": 3.0},
        {"type": "stage", "t": 2, "step": 0, "stage": 0},
        _train(2, 2.0),
        {"type": "eval", "t": 9, "step": 2, "stage": 0, "eval_loss": 2.0},
        {"type": "early", "t": 9, "step": 2, "stage": 0, "best": 1},
        {"type": "stage_done", "t": 10, "step": 2, "stage": 0, "best": None},
        {"type": "stage", "t": 15, "step": 3, "stage": 1},
        {"type": "eval", "t": 16, "step": 3, "stage": 1, "eval_loss": 0.7, "begin": True},
        {**_train(4, 0.6), "t": 17, "stage": 1},
    ]
    return fold([*told, *more])


def test_a_stages_time_is_that_at_work_on_it_over_all_attempts():
    progress = _staged({"type": "queued", "t": 100}, {"type": "stage", "t": 110, "step": 3, "stage": 1})
    progress = fold([{**_train(4, 0.6), "t": 113, "stage": 1}], progress)
    assert progress.seconds == {0: 8.0, 1: 5.0}
    assert progress.early[0]["best"] == 1 and progress.over.keys() == {0}


def test_a_resume_before_a_stage_forgets_that_it_began_or_ended():
    progress = _staged({"type": "started", "t": 20, "step": 1, "steps": 6})
    assert (progress.over, progress.early, progress.begins) == ({}, {}, {})
    progress = _staged({"type": "started", "t": 20, "step": 3, "steps": 6})
    assert progress.over.keys() == progress.early.keys() == {0} and progress.begins.keys() == {1}


def test_where_an_earlier_checkpoint_was_kept_what_came_after_it_does_not_count():
    progress = _staged({"type": "done", "t": 30, "step": 2, "kept": 2})
    assert (progress.ending, progress.kept, progress.step) == ("done", 2, 2)
    assert list(progress.train) == [2] and progress.begins == {}
    assert fold([{"type": "queued", "t": 40}], progress).kept is None
