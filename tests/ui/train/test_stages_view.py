"""A run of several stages as the page shows it: rows and results of each stage, curves told apart, marks on them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from core.words import LOCALES, say, speaking
from core.workspace import Owner
from finetune.cli.main import main
from finetune.runs.events import fold
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.runs.stage_report import reports
from finetune.training.attempt import train
from tests.tiny.stages import run_of, staged
from tests.ui.parts.test_views import MARKUP, Named
from ui.parts.views import render
from ui.train import plots, run_view
from ui.web.handler import Caller

ALL = ("pretrain", "sft", "dpo")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A workspace with a trained run of every objective, to be copied."""
    folder = tmp_path_factory.mktemp("staged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        patch.setenv("TUNESCOPE_CACHE", str(folder / "cache"))
        run = run_of(Owner("local"), staged(tiny_model, folder, ALL, optim__epochs=2), tiny_model)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        train(run, tiny_model, Journal(run), lambda: False)
        torch.set_num_threads(before)
    return run


@pytest.fixture
def run(trained, owner):
    return Run(Path(shutil.copytree(trained.folder, owner.runs / trained.id)))


def test_each_stage_tells_its_rows_steps_losses_and_time(run):
    progress = run.progress()
    found = reports(progress)
    assert [(stage.number, stage.objective, stage.state) for stage in found] == [
        (1, "pretrain", "done"),
        (2, "sft", "done"),
        (3, "dpo", "done"),
    ]
    for stage in found:
        assert stage.kept == stage.rows - stage.dropped - stage.refused > 0 and stage.held_out > 0
        assert stage.done == stage.steps > 0 and stage.after < stage.before and stage.seconds > 0
        assert stage.after == progress.evals[stage.first_step + stage.steps]["eval_loss"]
    assert found[0].packed < found[0].kept and found[1].packed is None
    assert found[2].preferred == 1 and found[2].margin > 0 and found[1].margin is None


def test_the_shell_tells_the_stages_too(run, capsys):
    assert main(["status", run.id]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = reports(run.progress())
    for line, stage in zip(lines[1:4], found, strict=True):
        assert f"stage {stage.number}, {stage.objective}" in line and f"{stage.before:.4f} -> {stage.after:.4f}" in line
    assert main(["status", run.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][2]["preferred"] == 1


def test_the_page_shows_the_stages_and_tells_their_curves_apart(run, owner):
    view = run_view._view(Caller(owner, "en", "tab"), run.id, None)
    html, loss, margin, preferred = (view[name] for name in ("state", "loss", "margin", "preferred"))
    assert html.count("<tr") == 4 and "3 Preference optimization (DPO)" in html
    assert say("page.stage_refused", count="0") in html
    assert view["plots"]["visible"] and view["preference_plots"]["visible"]
    names = {
        say("page.series_training", number=number, objective=say(f"config.objective.{key}"))
        for number, key in enumerate(ALL, 1)
    }
    assert names < set(loss["value"]["series"]) and len(set(loss["value"]["series"])) == 6
    assert set(margin["series"]) == {"training", "validation"} and preferred["preferred"].max() == 1
    steps = run.progress().started["stages"][2]["stage_steps"]
    assert (margin["series"] == "training").sum() == steps


def test_best_step_and_early_end_are_marked(owner, tiny_model, tmp_path):
    more = dict(optim__epochs=30, optim__learning_rate=0.3, optim__early_stopping=2, optim__keep_best=True)
    run = run_of(owner, staged(tiny_model, tmp_path, ("sft",), watch__evaluate_every=2, **more), tiny_model)
    train(run, tiny_model, Journal(run), lambda: False)
    progress = run.progress()
    (stage,) = reports(progress)
    assert stage.early == stage.best + 4 and stage.done == stage.early < stage.steps
    assert stage.after == progress.evals[stage.best]["eval_loss"]
    marks = {(step, name) for step, _, name in plots.marks(progress)}
    assert marks == {(stage.best, say("page.series_best", number=1)), (stage.early, say("page.series_early", number=1))}
    html = render(
        "run", run=Named("r1"), about="x", state="done", progress=progress, error=None, outcome=None, reports=[stage]
    )
    assert say("page.stage_best", step=stage.best) in html and say("page.stage_early", step=stage.early) in html


@pytest.mark.parametrize("language", LOCALES)
def test_what_a_stage_left_out_is_shown_while_it_runs_and_as_text(language):
    tally = {"rows": 9, "kept": 4, "dropped": 1, "refused": 3, "cut": 2, "problems": [MARKUP]}
    told = {"objective": "sft", "first_step": 0, "stage_steps": 5, "rows": 4, "validation_rows": 1, "tally": tally}
    stages = [{**told, "stage": 0}, {**told, "stage": 1, "first_step": 5}]
    events = [{"type": "started", "step": 0, "steps": 10, "stages": stages}, {"type": "stage", "step": 0, **stages[0]}]
    progress = fold(events)
    assert [stage.state for stage in reports(progress)] == ["working", "waiting"]
    with speaking(language):
        shown = render(
            "run",
            run=Named("r1"),
            about="x",
            state="running",
            progress=progress,
            error=None,
            outcome=None,
            reports=reports(progress),
        )
        for code, count in (("kept", 4), ("dropped", 1), ("refused", 3), ("cut", 2), ("held", 1)):
            assert say(f"page.stage_{code}", count=count) in shown
        assert say("page.stage_of", number=1, count=2, objective=say("config.objective.sft")) in shown
        assert "<img" not in shown and "&lt;img" in shown
