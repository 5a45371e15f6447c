"""What a check of a config says of its data, and that nothing of it stays behind."""

import json
import threading

import pytest

from finetune.cli.main import main
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.plan.prepare import check_run, import_data
from tests.refusals import refused
from tests.tiny.training import make_config, write_data


def write_faulty(path, rows=20):
    """Rows of which the 2nd, 7th and 19th have no answer, the 9th is the 8th again, and the 15th is very long."""
    data = [{"prompt": f"say {row}", "completion": f"it is {row}"} for row in range(1, rows + 1)]
    for row in (2, 7, 19):
        data[row - 1]["completion"] = ""
    data[8] = data[7]
    data[14]["completion"] = "and more " * 200
    path.write_text("\n".join(map(json.dumps, data)))
    return path


def found(config, owner):
    return {finding.rule: finding.rows for finding in check_run(config, owner).findings}


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (None, {"empty_answer": [2, 7, 19], "duplicate": [9], "too_long": [15]}),
        (4, {"empty_answer": [2]}),
        (6, {"empty_answer": [2, 7]}),
        (7, {"empty_answer": [2, 7], "duplicate": [9]}),
        (12, {"empty_answer": [2, 7], "duplicate": [9], "too_long": [15]}),
        (15, {"empty_answer": [2, 7], "duplicate": [9], "too_long": [15]}),
        (16, {"empty_answer": [2, 7, 19], "duplicate": [9], "too_long": [15]}),
    ],
)
def test_only_findings_up_to_the_last_row_that_is_used_are_told(owner, tmp_path, tiny_model, most, expected):
    """After the rows left out: 4 rows end at the 5th, 6 at the 8th, 7 at the 10th, 12 at the 15th, 15 at the 18th."""
    config = make_config(tiny_model, write_faulty(tmp_path / "rows.jsonl"), limits__max_rows=most)
    assert found(config, owner) == expected


def test_a_second_source_of_which_no_row_is_used_has_no_findings(owner, tmp_path, tiny_model):
    files = [write_faulty(tmp_path / f"{name}.jsonl") for name in "ab"]
    config = make_config(tiny_model, files[0], limits__max_rows=3)
    raw = config.model_dump(exclude_none=True)
    raw["stages"][0]["data"].append({"path": str(files[1])})
    assert found(type(config).model_validate(raw), owner) == {"empty_answer": [2]}


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_check_leaves_no_dataset_whether_the_config_is_fine_or_refused(owner, tmp_path, tiny_model):
    data = write_data(tmp_path / "rows.json")
    assert check_run(make_config(tiny_model, data), owner).rows == 24
    refused("run.context", check_run, make_config(tiny_model, data, limits__max_length=100_000), owner)
    assert list_datasets(owner) == [] and everything_in(owner.folder) == []


def test_a_dataset_that_was_there_before_a_check_is_there_after_it(owner, tmp_path, tiny_model):
    data = write_data(tmp_path / "rows.json")
    dataset = import_file(data, owner)
    before = everything_in(owner.folder)
    assert check_run(make_config(tiny_model, data), owner).rows == 24
    assert everything_in(owner.folder) == before and list_datasets(owner)[0].id == dataset.id


def test_the_shell_says_what_it_reads_and_keeps_nothing(owner, tmp_path, tiny_model, capsys):
    data = write_data(tmp_path / "rows.json")
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {tiny_model}\nstages: [{{data: [{{path: rows.json}}]}}]\nlimits: {{max_length: 128}}\n")
    assert main(["check", str(config), "--set", "limits.max_rows=2", "--set", "optim.epochs=1"]) == 0
    shown = capsys.readouterr()
    assert "reading rows.json" in shown.err
    assert ", lora, 2 rows, about 1 step." in shown.out
    assert everything_in(owner.folder) == [] and data.is_file()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["limits.max_rows=1"], "only one row"),
        (["limits.validation=0", "optim.keep_best=true"], '"optim.keep_best" needs the loss'),
        (["limits.validation=0", "optim.early_stopping=2"], '"optim.early_stopping" needs the loss'),
    ],
)
def test_what_is_judged_by_rows_held_out_needs_some(owner, tmp_path, tiny_model, capsys, settings, said):
    config = tmp_path / "config.yaml"
    write_data(tmp_path / "rows.json")
    config.write_text(f"model: {tiny_model}\nstages: [{{data: [{{path: rows.json}}]}}]\nlimits: {{max_length: 128}}\n")
    changes = [word for setting in settings for word in ("--set", setting)]
    for command in ("check", "train"):
        assert main([command, str(config), *changes]) == 2
        assert said in capsys.readouterr().err
    assert list(owner.runs.glob("*")) == []


LAUNCH = (
    "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0"
    " -m finetune.launch.local.rank_process"
)


@pytest.mark.parametrize(("processes", "shown"), [(2, True), (1, False)])
def test_how_several_processes_are_started_is_told_before_they_are(
    owner, tmp_path, tiny_model, capsys, processes, shown
):
    write_data(tmp_path / "rows.json")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {tiny_model}\nstages: [{{data: [{{path: rows.json}}]}}]\nlimits: {{max_length: 128}}\n"
        f"compute: {{device: cpu, processes: {processes}}}\n"
    )
    assert main(["check", str(config)]) == 0
    assert (f'started with "{LAUNCH}"' in capsys.readouterr().out) == shown
    assert main(["check", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["launch"] == (LAUNCH if shown else None)


def test_an_import_tells_how_far_it_is_and_can_be_stopped(owner, tmp_path, tiny_model):
    config = make_config(tiny_model, write_data(tmp_path / "rows.json", 1000))
    told, stop = [], threading.Event()
    import_data(config, owner, told.append, stop)
    assert {progress.text for progress in told} == {"reading rows.json"}
    assert told[-1].done == told[-1].total == (tmp_path / "rows.json").stat().st_size
    assert [progress.done for progress in told] == sorted(progress.done for progress in told) and len(told) > 2
    stop.set()
    other = make_config(tiny_model, write_data(tmp_path / "other.json", 999))
    refused("models.stopped", import_data, other, owner, told.append, stop)
    refused("models.stopped", check_run, other, owner, told.append, stop)
    assert len(list_datasets(owner)) == 1 and len(list(owner.datasets.iterdir())) == 1
