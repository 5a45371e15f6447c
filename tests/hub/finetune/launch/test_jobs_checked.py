"""A job is checked without being started: the same checks and the same price, and nothing is sent, paid or kept."""

import json

import pytest
import yaml

from finetune.cli.main import main
from finetune.data.store import list_datasets
from finetune.launch.follow import api as job_api
from finetune.launch.jobs import launcher as jobs
from finetune.runs.run import Run
from tests.hub.standin import TOKEN, USER

RENTED = ("--on", "jobs", "--flavor", "a10g-largex2", "--timeout", "90m")


@pytest.fixture
def config(renter, recipe, tmp_path, monkeypatch):
    """A config as a file, of somebody who is logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    path = tmp_path / "config.yaml"
    raw = recipe.model_dump(exclude_none=True)
    raw["compute"].pop("processes")
    path.write_text(yaml.safe_dump(raw))
    return path


def nothing_came_of_it(hub, renter):
    return (
        not hub.jobs.all
        and not {"create", "commit", "preupload", "job_start"} & set(hub.kinds())
        and list_datasets(renter) == []
        and not list(renter.runs.glob("r*"))
    )


def test_the_shell_checks_what_a_start_would_and_leaves_nothing(hub, renter, config, capsys):
    assert main(["check", str(config), *RENTED]) == 0
    shown = capsys.readouterr()
    assert "24 rows" in shown.out and "steps" in shown.out
    for part in (
        f"The access token of {USER} has write access.",
        "--num_processes 2",
        "$3.00 an hour",
        "Rough",
        "90 minutes",
    ):
        assert part in shown.err, shown.err
    assert nothing_came_of_it(hub, renter)
    hub.heal()
    assert main(["check", str(config), *RENTED, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 24 and nothing_came_of_it(hub, renter)


def test_the_same_price_is_told_when_it_is_started(hub, renter, config, capsys):
    prices = []
    for command in ("check", "start"):
        assert main([command, str(config), *RENTED]) == 0
        prices += [line for line in capsys.readouterr().err.splitlines() if "Rough estimate" in line]
    assert len(set(prices)) == 1 and len(prices) == 2 and len(hub.jobs.all) == 1


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--on", "jobs"], "A job needs --flavor and --timeout"),
        (["--flavor", "a10g-small"], "start a job with --on jobs"),
        (["--on", "jobs", "--flavor", "dgx", "--timeout", "1h"], '"dgx" is not a hardware flavor'),
        (["--on", "jobs", "--flavor", "a10g-small", "--timeout", "9d"], '"9d" is not a valid time limit'),
    ],
)
def test_what_a_start_refuses_a_check_refuses(hub, renter, config, capsys, more, part):
    assert main(["check", str(config), *more]) == 2
    assert part in capsys.readouterr().err and nothing_came_of_it(hub, renter)


def test_a_data_file_is_not_checked_on_a_machine(renter, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert main(["check", str(tmp_path / "rows.jsonl"), *RENTED]) == 2
    assert "checks a config" in capsys.readouterr().err


def test_the_launcher_tells_what_the_data_holds_that_is_left_out(hub, renter, recipe, tmp_path):
    path = tmp_path / "faulty.jsonl"
    rows = [{"prompt": f"{number}?", "completion": f"{number}." if number else ""} for number in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    stage = recipe.stages[0]
    source = stage.data[0].model_copy(update={"path": str(path)})
    faulty = recipe.model_copy(update={"stages": [stage.model_copy(update={"data": [source]})]})
    found = jobs.JobsLauncher("a10g-small", "2h").check(faulty, renter)
    assert [(one.rule, one.rows) for one in found] == [("empty_answer", [1])] and nothing_came_of_it(hub, renter)


def test_going_on_is_checked_and_priced_like_a_start(hub, renter, config, capsys):
    assert main(["start", str(config), *RENTED]) == 0
    run = Run(renter.runs / capsys.readouterr().out.strip())
    hub.jobs.newest.end("ERROR", "Job timeout")
    hub.accounts[USER].can_pay = False
    job_api._known.clear()  # who the caller is, is remembered for a minute
    assert main(["resume", run.id, "--timeout", "2h"]) == 0
    shown = capsys.readouterr().err
    assert "prepaid credit" in shown and "$3.00 an hour" in shown and "120 minutes" in shown
    assert jobs.job_of(run).attempt == 2 and jobs.job_of(run).timeout == 7200
