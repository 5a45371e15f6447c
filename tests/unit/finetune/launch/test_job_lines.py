"""What a job prints is taken for an event only where every reader can live with it."""

import json

import pytest

from core.workspace import Owner
from finetune.launch.follow.intake import feed
from finetune.launch.follow.lines import PREFIX, from_line, to_line
from finetune.launch.inside.tell import EventPrinter
from finetune.runs.events import fold
from finetune.runs.job_record import JobRecord, locked, save
from finetune.runs.run import Run

TRAIN = {"t": 1.0, "type": "train", "step": 3, "loss": 0.5, "tokens_per_s": 9.0}
BROKEN = (
    {"type": "train"},
    {**TRAIN, "step": "3"},
    {**TRAIN, "step": -1},
    {**TRAIN, "loss": "low"},
    {**TRAIN, "t": "now"},
    {**TRAIN, "job": "another"},
    {**TRAIN, "self": 1},
    {"type": "started", "step": 0},
    {"type": "eval", "step": 1},
    {"type": "done"},
)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    with locked(run):
        save(run, JobRecord("j", None, "ada", "cpu-basic", 0.01, 60, 1, "ada/inputs", "ada/results"))
    return run


def test_an_event_of_ours_is_read_as_it_was_written():
    assert from_line(to_line(TRAIN, 1)) == {**TRAIN, "n": 1}
    assert from_line(to_line({"type": "progress", "phase": "loading", "done": 0}, 2))["phase"] == "loading"


@pytest.mark.parametrize("event", BROKEN)
def test_what_would_break_the_readers_of_a_run_is_a_plain_line(run, event):
    feed(run, Owner("local"), "j", [PREFIX + json.dumps({**event, "n": 1}), to_line(TRAIN, 1)])
    events = run.events()[0]
    assert [found["step"] for found in events] == [3] and fold(events).loss == 0.5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"type": "train", "n": 1, "loss": NaN}', '{"type": "x", "n": 1e99}'])
def test_what_is_no_json_of_ours_is_a_plain_line(text):
    assert from_line(PREFIX + text) is None


def test_a_job_that_prints_without_end_fills_neither_memory_nor_disk(run, monkeypatch):
    from finetune.launch.follow import intake as job_intake

    monkeypatch.setattr(job_intake, "_LARGEST_LOG", 10_000)
    plain = 0
    for _ in range(20):
        plain = feed(run, Owner("local"), "j", ["x" * 1_000_000], plain)
    assert plain == 20 and run.log_path.stat().st_size < 20_000


def test_the_copy_of_the_events_holds_no_token(capfd):
    printer = EventPrinter("hf_secret")
    printer.fail("the Hub said hf_secret is wrong")
    assert "hf_secret" not in capfd.readouterr().out + "".join(printer.events)
    assert from_line(printer.events[0])["error"] == "the Hub said *** is wrong"
