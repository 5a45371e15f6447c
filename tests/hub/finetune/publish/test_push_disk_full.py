"""A disk that is full when a push or a proof writes down what it did: a sentence, and the next try works."""

import pytest

from finetune.publish import prepare, prove, push, read_push
from finetune.runs.run import Run
from tests.hub.conftest import copy_run
from tests.hub.finetune.publish.test_publish import REPO
from tests.hub.finished_run import BASE_ID
from tests.refusals import refused
from tests.small_disk import fill, make_room, small_disk


@pytest.fixture
def disk(tmp_path, monkeypatch):
    with small_disk(tmp_path / "small") as folder:
        monkeypatch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture
def run(disk, publisher, hub, trained, tiny_model) -> Run:
    hub.add_repo(BASE_ID, tiny_model)
    publisher.runs.mkdir(parents=True)
    return copy_run(trained["lora"], publisher)


def test_what_was_pushed_on_a_full_disk_is_found_again(hub, run, publisher, disk):
    plan = prepare(run, REPO, publisher)
    fill(disk)
    assert "Files pushed before are still on the Hub" in refused("publish.no_room", push, plan, publisher)
    assert read_push(run) is None and len(hub.repos["models", REPO].commits) == 2
    assert "Files pushed before are still on the Hub" in refused("publish.no_room", push, plan, publisher)
    make_room(disk)
    pushed = push(prepare(run, REPO, publisher), publisher)
    assert read_push(run) == pushed and len(hub.repos["models", REPO].commits) == 2


def test_a_proof_on_a_full_disk_is_refused_before_anything_is_fetched(hub, run, publisher, disk):
    pushed = push(prepare(run, REPO, publisher), publisher)
    fill(disk)
    hub.heal()
    refused("publish.no_room", prove, run, REPO, pushed.commit, publisher)
    assert "file" not in hub.kinds() and not list(run.folder.glob("proof*"))
