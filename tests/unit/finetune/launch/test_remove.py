"""What is deleted is gone for good, and only what is one's own and at rest."""

import os

import pytest

from core.errors import UserError
from core.workspace import Owner
from finetune.cli.main import main
from finetune.config.run_config import load_yaml
from finetune.data.importing.importer import import_file
from finetune.data.store import example_file, list_datasets
from finetune.launch.delete import remove
from finetune.runs.job_record import JobRecord, save
from finetune.runs.lock import take
from finetune.runs.run import create, list_runs
from tests.refusals import refused


@pytest.fixture
def dataset(owner):
    return import_file(example_file(), owner)


@pytest.fixture
def run(owner, dataset):
    return create(load_yaml(f"stages: [{{data: [{{dataset: {dataset.id}}}]}}]"), owner)


def test_a_deleted_run_and_dataset_leave_nothing(owner, dataset, run):
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    assert remove(run.id, owner) == run.id and list_runs(owner) == []
    assert remove(dataset.id[:12], owner) == dataset.id and list_datasets(owner) == []
    assert [*owner.runs.iterdir(), *owner.datasets.iterdir()] == []


def test_what_is_at_work_stays_whole(owner, dataset, run):
    lock = take(run)
    assert run.id in refused("run.alive", remove, run.id, owner)
    assert run.id in refused("run.dataset_in_use", remove, dataset.id, owner)
    os.close(lock)
    assert list_runs(owner)[0].id == run.id and list_datasets(owner)[0].id == dataset.id
    remove(dataset.id, owner)


def test_a_run_whose_job_is_at_work_stays(owner, run):
    save(run, JobRecord("1", None, "ada", "a10g-small", 1.0, 60, 1, "ada/in", "ada/out", stage="RUNNING"))
    assert run.id in refused("run.alive", remove, run.id, owner)
    save(run, JobRecord("1", None, "ada", "a10g-small", 1.0, 60, 1, "ada/in", "ada/out", stage="CANCELED"))
    remove(run.id, owner)
    assert list_runs(owner) == []


def test_only_an_id_of_ones_own_is_taken(owner, run, tmp_path):
    for text in (str(run.folder), str(tmp_path), "ada/tea", "", "..", "r20200101-000000-0000", "0" * 12):
        with pytest.raises(UserError):
            remove(text, owner)
    with pytest.raises(UserError):
        remove(run.id, Owner("grace"))
    assert [found.id for found in list_runs(owner)] == [run.id]


def test_what_a_killed_deletion_left_goes_with_the_next(owner, dataset, run):
    left = owner.runs / ".r20200101-000000-0000.12345678.gone"
    left.mkdir()
    remove(run.id, owner)
    assert not left.exists()


def test_the_shell_deletes_and_says_so(owner, run, capsys):
    assert main(["delete", run.id]) == 0 and run.id in capsys.readouterr().out
    assert main(["delete", run.id]) == 2 and run.id in capsys.readouterr().err
