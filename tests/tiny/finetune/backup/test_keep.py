"""What outlives a machine: copies in a folder that knows no locks, no appending and no renaming; and their return."""

import os
import shutil
import threading

import pytest

from core import settings
from core.workspace import Owner
from finetune.backup.keeper import WorkspaceBackup
from finetune.backup.places import FolderPlace, place_from_settings
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.launch.delete import remove
from finetune.runs.log import Journal
from finetune.runs.run import list_runs
from finetune.training.attempt import train
from tests.refusals import refused
from tests.tiny.keeping import keep_in_a_child
from tests.tiny.training import make_run, write_data


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.json")


def keep(bucket):
    """A round as the app makes it: bring back, then copy."""
    keeper = WorkspaceBackup(FolderPlace(bucket), settings.home())
    return keeper.restore(), keeper.copy_changed()


def go(run, model, stop=lambda: False):
    return train(run, model, Journal(run), stop)


def losses(run):
    return {step: event["loss"] for step, event in run.progress().train.items()}


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifests(bucket):
    return sorted(bucket.rglob("*.json"))


@pytest.mark.ci
def test_a_stopped_run_goes_on_from_a_bucket_on_the_same_curve(owner, tiny_model, data, bucket, workspace):
    whole, stopped = make_run(owner, tiny_model, data), make_run(owner, tiny_model, data)
    go(whole, tiny_model)
    go(stopped, tiny_model, lambda: stopped.progress().step >= 4)
    first = keep_in_a_child(workspace, bucket)
    assert set(first["refused"]) == {"append", "overwrite", "rename", "replace", "lock"}
    assert (first["restored"], first["copied"], first["again"]) == (0, 3, 0) and first["made"]
    before = {run.id: files_in(run.model) for run in (whole,)}
    shutil.rmtree(workspace)
    second = keep_in_a_child(workspace, bucket)
    assert (second["restored"], second["copied"], second["made"]) == (3, 0, [])
    assert [dataset.name for dataset in list_datasets(owner)] == ["data.json"]
    assert {run.id: run.status().status for run in list_runs(owner)} == {whole.id: "done", stopped.id: "stopped"}
    assert {whole.id: files_in(whole.model)} == before
    stopped.log.write("queued", device="cpu")
    go(stopped, tiny_model)
    assert stopped.progress().started["step"] == 5 and stopped.status().status == "done"
    assert losses(stopped) == losses(whole)
    third = keep_in_a_child(workspace, bucket)
    assert (third["restored"], third["copied"]) == (0, 1)


def test_a_run_at_work_is_copied_at_each_checkpoint_with_whole_lines(owner, tiny_model, data, bucket, workspace):
    run = make_run(owner, tiny_model, data)
    go(run, tiny_model, lambda: run.progress().step >= 4)
    keeper = WorkspaceBackup(FolderPlace(bucket), workspace)
    keeper.restore()
    descriptor = os.open(run.lock_path, os.O_RDWR | os.O_CREAT)
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with (run.folder / "events.jsonl").open("a") as events:
        events.write('{"t": 1, "type": "oth')
    assert keeper.copy_changed() == 2
    with (run.folder / "events.jsonl").open("a") as events:
        events.write('er"}\n')
    assert keeper.copy_changed() == 0
    shutil.copytree(run.checkpoints / "checkpoint-5", run.checkpoints / "checkpoint-6")
    assert keeper.copy_changed() == 1
    os.close(descriptor)
    shutil.rmtree(workspace)
    assert keep(bucket) == (2, 0)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-6"]
    assert not (run.folder / "lock").exists() and run.status().status == "stopped"


def test_of_each_thing_the_bucket_holds_one_copy(owner, data, bucket, tiny_model):
    run = make_run(owner, tiny_model, data)
    for number in range(3):
        run.log.write("queued", device=f"number {number}")
        assert keep(bucket)[1] == (2 if number == 0 else 1)
        assert len(manifests(bucket)) == 2
    contents = [path for path in bucket.rglob("*") if path.parent.name == "objects"]
    assert len(contents) == len({path.name for path in contents}) == 2 + 3


def test_what_was_never_finished_or_was_changed_does_not_come_back(owner, data, bucket, workspace, caplog):
    dataset = import_file(data, owner)
    keep(bucket)
    shutil.rmtree(workspace)
    kept = next(path for path in bucket.rglob("objects/*") if path.stat().st_size == 0 or path.is_file())
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + b"?")
    assert keep(bucket) == (0, 0) and not dataset.folder.exists()
    assert "is incomplete, so it was not restored" in str(caplog.records[-1].facts)
    kept.write_bytes(content)
    whole = manifests(bucket)[0]
    later = whole.with_name(whole.name.replace("0", "9", 1))
    later.write_bytes(whole.read_bytes()[:-40])
    assert keep(bucket) == (1, 0) and dataset.rows() == import_file(data, owner).rows()
    whole.unlink()
    shutil.rmtree(workspace)
    assert keep(bucket) == (0, 0)


def test_what_was_deleted_for_good_goes_from_the_bucket_and_what_vanished_comes_back(owner, data, bucket, workspace):
    deleted, vanished = import_file(data, owner), import_file(write_data(data.with_name("more.json"), 30), owner)
    keeper = WorkspaceBackup(FolderPlace(bucket), workspace)
    keeper._lock_path().touch()
    assert (keeper.restore(), keeper.copy_changed()) == (0, 2)
    remove(deleted.id, owner)
    shutil.rmtree(vanished.folder)
    assert keeper.copy_changed() == 0
    assert {path.parent.name for path in manifests(bucket)} == {vanished.id}
    assert not [path for path in bucket.rglob("*") if path.is_file() and deleted.id in str(path)]
    assert keep(bucket) == (1, 0)
    assert [dataset.id for dataset in list_datasets(owner)] == [vanished.id]
    remove(vanished.id, owner)
    assert keep(bucket) == (0, 0) and not manifests(bucket)


def test_what_is_there_is_never_touched(owner, tiny_model, data, bucket):
    run = make_run(owner, tiny_model, data)
    keep(bucket)
    run.log.write("done", step=3)
    keeper = WorkspaceBackup(FolderPlace(bucket), settings.home())
    assert keeper.restore() == 0 and run.status().status == "done"
    assert keeper.copy_changed() == 1


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil", "a//b", "a\\b", ""])
def test_a_manifest_that_leads_out_of_its_thing_is_none(owner, data, bucket, workspace, name):
    from finetune.backup import manifests as written

    dataset = import_file(data, owner)
    key = f"local/datasets/{dataset.id}"
    copied = {name: written.CopiedFile("ab" * 32, 3)}
    path, content = written.write(written.Manifest(key, copied))
    assert written.read(path, content) is None
    path, content = written.write(written.Manifest(key, {"rows": written.CopiedFile("ab" * 32, 3)}))
    assert written.read(path, content) is not None and written.read(path, content[:-1]) is None
    assert written.read(path.replace("local", "other"), content) is None


def test_two_apps_keep_one_workspace_by_turns(owner, data, bucket, workspace):
    import_file(data, owner)
    ends = [threading.Event(), threading.Event()]
    keepers = [WorkspaceBackup(FolderPlace(bucket), workspace) for _ in ends]
    for keeper in keepers:
        keeper.place.every = 0.01
    threads = [threading.Thread(target=keeper.work, args=(end,)) for keeper, end in zip(keepers, ends, strict=True)]
    threads[0].start()
    while not manifests(bucket):
        assert threads[0].is_alive()
    threads[1].start()
    ends[0].set()
    threads[0].join()
    write = write_data(data.with_name("more.json"), 30)
    import_file(write, owner)
    while len(manifests(bucket)) < 2:
        assert threads[1].is_alive()
    ends[1].set()
    threads[1].join()


def test_a_place_that_fails_is_told_once_and_tried_again(owner, data, bucket, workspace, caplog):
    import_file(data, owner)
    keeper = WorkspaceBackup(FolderPlace(bucket), workspace)
    away = bucket.rename(bucket.with_name("away"))
    assert not keeper._round(False) and not keeper._round(False)
    assert [record.getMessage() for record in caplog.records] == ["backup_problem"]
    assert "this folder was not found" in caplog.records[0].facts["said"]
    away.rename(bucket)
    assert keeper._round(False) and len(manifests(bucket)) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("hf://models/ada/x", "keep.address"),
        ("hf://datasets/ada", "keep.address"),
        ("hf://datasets/ada/x", "keep.no_token"),
        ("backup", "keep.no_folder"),
        ("/no/such/folder", "keep.no_folder"),
    ],
)
def test_an_address_that_is_none_is_refused_in_words(monkeypatch, value, code):
    monkeypatch.setenv("TUNESCOPE_BACKUP", value)
    assert value in refused(code, place_from_settings)


def test_a_folder_in_the_workspace_is_no_backup_and_the_token_leaves_the_environment(workspace, monkeypatch):
    assert place_from_settings() is None
    (workspace / "kept").mkdir(parents=True)
    for folder in (workspace / "kept", workspace, workspace.parent):
        monkeypatch.setenv("TUNESCOPE_BACKUP", str(folder))
        refused("keep.inside", place_from_settings)
    monkeypatch.setenv("TUNESCOPE_BACKUP", "hf://datasets/ada/kept")
    monkeypatch.setenv("TUNESCOPE_BACKUP_TOKEN", "hf_abc")
    assert place_from_settings().name == "hf://datasets/ada/kept"
    assert "TUNESCOPE_BACKUP_TOKEN" not in os.environ


def test_every_owner_has_their_things_back(data, bucket, workspace):
    owners = [Owner("5f1d2c3b4a"), Owner("another")]
    for owner in owners:
        import_file(data, owner)
    keep(bucket)
    shutil.rmtree(workspace)
    assert keep(bucket) == (2, 0)
    assert [len(list_datasets(owner)) for owner in owners] == [1, 1]
