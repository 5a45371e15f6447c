"""Finished runs on the tiny model, really trained for a few steps, for tests of what is measured on them."""

from core.files import write_json
from finetune.journal import Journal
from finetune.training import train
from inference.fingerprint import fingerprint
from tests.tiny.training import make_run, write_data


def trained(owner, model, folder, *, rows=40, **changes):
    """A run that learned from `rows` rows, a quarter of them held out."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"limits__validation": 0.25, "optim__epochs": 4, "seed": 5} | changes
    run = make_run(owner, model, write_data(folder / "data.json", rows), **settings)
    write_json(run.folder / "env.json", run.environment() | {"fingerprint": fingerprint(model)})
    assert train(run, model, Journal(run), lambda: False) is False
    return run
