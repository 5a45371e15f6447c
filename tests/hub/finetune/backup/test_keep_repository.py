"""Copies in a private dataset repository: what a restart brings back, and what the Hub may answer meanwhile."""

import shutil

import pytest

from core import settings
from core.workspace import Owner
from finetune.backup.keeper import WorkspaceBackup
from finetune.backup.repository import RepositoryPlace
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.launch.delete import remove
from finetune.runs.run import list_runs
from tests.hub import hubstore
from tests.hub.standin import TOKEN
from tests.refusals import refused
from tests.tiny.training import write_data

REPO = "tester/kept"


@pytest.fixture
def keeper(hub, workspace):
    """A function that makes the keeper of a freshly started app."""
    return lambda: WorkspaceBackup(RepositoryPlace(REPO, TOKEN), settings.home())


def commits(hub):
    return hub.repos["datasets", REPO].commits


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_and_a_run_come_back_from_a_private_repository(hub, keeper, finished, publisher, tmp_path):
    import_file(write_data(tmp_path / "data.json"), publisher)
    first = keeper()
    assert (first.restore(), first.copy_changed(), first.copy_changed()) == (0, 2, 0)
    assert hub.repos["datasets", REPO].private
    model = files_in(finished.model)
    shutil.rmtree(publisher.folder)
    second = keeper()
    assert (second.restore(), second.copy_changed()) == (2, 0)
    assert files_in(finished.model) == model and list_runs(publisher)[0].status().status == "done"
    assert len(list_datasets(publisher)) == 1
    finished.log.write("done", step=20)
    before = set(commits(hub)[-1].files)
    assert second.copy_changed() == 1
    assert len(commits(hub)) == 1 + 3 and len(set(commits(hub)[-1].files)) == len(before)


def test_what_was_deleted_for_good_goes_from_the_repository(hub, keeper, publisher, tmp_path):
    dataset = import_file(write_data(tmp_path / "data.json"), publisher)
    one = keeper()
    one._lock_path().touch()
    one.restore()
    one.copy_changed()
    remove(dataset.id, publisher)
    assert one.copy_changed() == 0 and set(commits(hub)[-1].files) == {".gitattributes"}
    assert keeper().restore() == 0


def test_visitors_tokens_are_never_used(hub, keeper, workspace, tmp_path):
    hub.add_user("ada")
    import_file(write_data(tmp_path / "data.json"), Owner("5f1d2c3b4a", "hf_adawrite"))
    hub.heal()
    assert (keeper().restore(), keeper().copy_changed()) == (0, 1)
    with_token = [request.authorization for request in hub.requests]
    assert set(with_token) - {None} == {f"Bearer {TOKEN}"}


def test_a_repository_that_everybody_can_read_gets_nothing(hub, keeper, publisher, tmp_path):
    import_file(write_data(tmp_path / "data.json"), publisher)
    hub.add_repo(REPO, kind="datasets")
    assert REPO in refused("keep.public", keeper().restore)
    assert len(commits(hub)) == 1


@pytest.mark.parametrize("kind", ["commit", "preupload", "lfs_batch", "lfs_put"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}, {"status": 403}])
def test_faults_on_the_way_leave_nothing_half_and_the_next_round_copies(
    hub, keeper, publisher, tmp_path, caplog, kind, fault, monkeypatch
):
    monkeypatch.setattr(hubstore, "_LFS_SIZE", 1000)
    dataset = import_file(write_data(tmp_path / "data.json"), publisher)
    one = keeper()
    one.restore()
    hub.fail(kind, times=50, **fault)
    assert one._round(True) and one._round(True)
    (told,) = (record for record in caplog.records if record.name == "tunescope")
    assert told.getMessage() == "backup_problem" and TOKEN not in str(vars(told))
    assert len(commits(hub)) == 1
    hub.heal()
    one._round(True)
    shutil.rmtree(publisher.folder)
    assert keeper().restore() == 1 and dataset.rows()


def test_a_commit_whose_answer_was_lost_is_made_again(hub, keeper, publisher, tmp_path):
    import_file(write_data(tmp_path / "data.json"), publisher)
    one = keeper()
    one.restore()
    hub.fail("commit", lost=True)
    one._round(True)
    one._round(True)
    names = [name for name in commits(hub)[-1].files if name.endswith(".json")]
    assert len(names) == 1
    shutil.rmtree(publisher.folder)
    assert keeper().restore() == 1


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(kind, fault) for kind in ("info", "tree", "file") for fault in ({"status": 503}, {"status": 401})]
    + [("info", {"cut": True}), ("tree", {"cut": True})],
)
def test_faults_while_bringing_back_end_in_a_sentence_and_the_next_start_brings_all(
    hub, keeper, publisher, tmp_path, caplog, kind, fault
):
    dataset = import_file(write_data(tmp_path / "data.json"), publisher)
    first = keeper()
    first.restore()
    first.copy_changed()
    shutil.rmtree(publisher.folder)
    hub.fail(kind, times=200, **fault)
    second = keeper()
    assert second._round(False) is False
    assert caplog.records and not dataset.folder.exists()
    assert not list(settings.home().glob(".keep-*"))
    hub.heal()
    assert second._round(False) is True and dataset.rows()
