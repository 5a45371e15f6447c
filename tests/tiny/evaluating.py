"""Finished runs on the tiny model, really trained for a few steps, for tests of what is measured on them."""

from core.files import write_json
from finetune.runs.log import Journal
from finetune.training.attempt import train
from inference.models.fingerprint import fingerprint
from tests.tiny.stages import run_of, staged
from tests.tiny.training import make_run, write_data


def trained(owner, model, folder, *, rows=40, **changes):
    """A run that learned from `rows` rows, a quarter of them held out."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"limits__validation": 0.25, "optim__epochs": 4, "seed": 5} | changes
    return _go(make_run(owner, model, write_data(folder / "data.json", rows), **settings), model)


def trained_in_stages(owner, model, folder, objectives, **changes):
    """A run of several stages, a third of the rows of each held out."""
    folder.mkdir(parents=True, exist_ok=True)
    return _go(run_of(owner, staged(model, folder, objectives, limits__validation=0.34, **changes), model), model)


def _go(run, model):
    write_json(run.folder / "env.json", run.environment() | {"fingerprint": fingerprint(model)})
    assert train(run, model, Journal(run), lambda: False) is False
    return run
