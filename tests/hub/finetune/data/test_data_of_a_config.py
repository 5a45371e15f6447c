"""A config that names a dataset of the Hub: what is said while it is brought, and that it can be stopped."""

import json
import threading

import pytest

from core.hub import reach
from finetune.config.run_config import validate
from finetune.data.store import list_datasets
from finetune.plan.prepare import import_data
from tests.hub.standin import USER
from tests.refusals import refused

REPO = f"{USER}/asked"
ROWS = [{"asked": f"p{number}", "told": f"c{number}"} for number in range(600)]


@pytest.fixture(autouse=True)
def repository(hub):
    reach.forget()
    hub.add_repo(REPO, {"train.jsonl": "\n".join(map(json.dumps, ROWS)).encode()}, kind="datasets")
    yield
    reach.forget()


def config(**source):
    return validate({"stages": [{"data": [{"hub": REPO, **source}]}]})


def test_a_dataset_of_the_hub_is_brought_with_progress_and_a_mapping(owner):
    told = []
    source = config(mapping={"prompt": "asked", "answer": "told"})
    import_data(source, owner, told.append)
    assert {progress.text for progress in told} == {f"reading {REPO}"}
    assert told[0].done == 0 and told[-1].done == told[-1].total > 0
    assert list_datasets(owner)[0].report.rows_kept == 600


def test_a_stop_ends_it_before_anything_is_stored(owner):
    stop = threading.Event()
    stop.set()
    refused("models.stopped", import_data, config(mapping={"prompt": "asked", "answer": "told"}), owner, None, stop)
    assert list_datasets(owner) == []


def test_without_a_mapping_its_columns_are_named(owner):
    assert '"asked", "told"' in refused("data.unrecognised", import_data, config(), owner)
