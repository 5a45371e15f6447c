"""A disk that is full at any write of an import or a run: a sentence, nothing half visible, and the next try works.

Tried twice: on a small file system of its own where this machine lets us have one, and under a limit on the size of
files (`ulimit -f`), which any machine knows.
"""

import os
import resource
import shutil
import subprocess

import pytest

from core import settings
from core.workspace import Owner
from finetune.backup.keeper import WorkspaceBackup
from finetune.backup.places import FolderPlace
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.launch.local.launcher import LocalLauncher
from finetune.plan.prepare import import_data
from finetune.runs.failure_reasons import explain
from finetune.runs.log import Journal
from finetune.runs.run import list_runs
from finetune.training.attempt import train
from tests.refusals import refused
from tests.small_disk import fill, make_room, small_disk
from tests.tiny.finetune.backup.test_keep import losses
from tests.tiny.keeping import ROOT
from tests.tiny.training import make_config, make_run, write_data

pytestmark = pytest.mark.matrix

ROWS = 400


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A small disk with the workspace on it."""
    with small_disk(tmp_path / "small") as folder:
        monkeypatch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.json", ROWS)


def left_in(folder):
    """What an owner's folder of datasets or runs holds, in sight or not."""
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


def test_an_import(disk, data):
    owner = Owner("local")
    owner.datasets.mkdir(parents=True)
    fill(disk)
    assert str(owner.datasets) in refused("core.disk_full", import_file, data, owner)
    assert left_in(owner.datasets) == [] and list_datasets(owner) == []
    make_room(disk)
    assert import_file(data, owner).report.rows_kept == ROWS


def test_the_start_of_a_run(disk, data, tiny_model):
    owner = Owner("local")
    config = import_data(make_config(tiny_model, data, optim__max_steps=1, limits__max_rows=8), owner)
    fill(disk)
    refused("plan.disk", LocalLauncher().start, config, owner)
    assert list_runs(owner) == [] and left_in(owner.runs) == []
    make_room(disk)
    started = LocalLauncher().start(config, owner)
    (run,) = list_runs(owner)
    assert run.id == started and run.alive()
    LocalLauncher().stop(run)
    run.wait()
    assert run.status().status == "stopped"


def failing(run, model, folder, when):
    """Train until the disk is filled at an event; returns the sentence that the worker writes down."""

    class Filling(Journal):
        def write(self, type, **facts):
            event = super().write(type, **facts)
            if when(event) and not (folder / "ballast").exists():
                fill(folder)
            return event

    with pytest.raises(Exception) as caught:
        train(run, model, Filling(run), lambda: False)
    return str(explain(caught.value, run.config(), 0, "cpu", run.folder))


@pytest.mark.parametrize(
    "moment",
    [
        lambda event: event["type"] == "train" and event["step"] == 6,
        lambda event: event.get("phase") == "saving",
    ],
    ids=["a checkpoint", "the result"],
)
def test_what_a_run_writes(disk, data, tiny_model, tmp_path, monkeypatch, moment):
    owner = Owner("local")
    changes = {"optim__max_steps": 6, "watch__checkpoint_every": 3, "limits__max_rows": 24}
    run = make_run(owner, tiny_model, data, **changes)
    assert "The disk is full" in failing(run, tiny_model, disk, moment)
    assert not run.model.exists() and not list(run.folder.glob(".*.part"))
    assert all((path / "trainer_state.json").stat().st_size for path in run.checkpoints.iterdir())
    make_room(disk)
    run.log.write("queued", device="cpu")
    assert train(run, tiny_model, Journal(run), lambda: False) is False
    assert run.status().status == "done" and run.model.is_dir()
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "elsewhere"))
    whole = make_run(owner, tiny_model, data, **changes)
    train(whole, tiny_model, Journal(whole), lambda: False)
    assert losses(run) == losses(whole)


def test_copies_in_a_full_bucket(disk, data, tmp_path, monkeypatch):
    bucket = disk / "bucket"
    bucket.mkdir()
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "home"))
    owner = Owner("local")
    import_file(data, owner)
    keeper = WorkspaceBackup(FolderPlace(bucket), settings.home())
    keeper.restore()
    fill(disk)
    assert str(bucket) in refused("keep.no_room", keeper.copy_changed)
    assert [path for path in bucket.rglob("*") if path.is_file()] == []
    make_room(disk)
    assert keeper.copy_changed() == 1


def test_what_comes_back_from_copies(disk, data, tmp_path, monkeypatch, caplog):
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    owner = Owner("local")
    dataset = import_file(data, owner)
    WorkspaceBackup(FolderPlace(bucket), settings.home()).copy_changed()
    shutil.rmtree(settings.home())
    settings.home().mkdir()
    fill(disk)
    keeper = WorkspaceBackup(FolderPlace(bucket), settings.home())
    monkeypatch.setattr("finetune.backup.keeper.MARGIN", 0)
    assert keeper._round(False) is False or not list_datasets(owner)
    assert "the disk of" in caplog.records[-1].facts["said"] and left_in(owner.datasets) == []
    make_room(disk)
    assert WorkspaceBackup(FolderPlace(bucket), settings.home()).restore() == 1
    assert list_datasets(owner)[0].id == dataset.id


def shell(*words, most=None):
    """`python -m finetune ...`, which may write no file larger than `most` bytes."""
    limit = None if most is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    command = [settings.python(), "-m", "finetune", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, preexec_fn=limit, capture_output=True, text=True)


@pytest.mark.ci
def test_everything_from_the_shell_under_a_limit(workspace, tmp_path, tiny_model, data):
    from finetune.config.run_config import to_yaml

    owner = Owner("local")
    config = make_config(tiny_model, data, optim__max_steps=4, watch__checkpoint_every=2, limits__max_rows=24)
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(config))
    failed = shell("train", file, most=2_000)
    assert failed.returncode == 2 and "The disk is full" in failed.stderr and "Traceback" not in failed.stderr
    assert list_datasets(owner) == [] == list_runs(owner) and left_in(owner.datasets) == []
    failed = shell("train", file, most=30_000)
    assert failed.returncode == 1
    (run,) = list_runs(owner)
    assert "The disk is full" in run.status().error
    assert left_in(run.checkpoints) == [] and not run.model.exists()
    run.log.write("queued", device="cpu")
    assert train(run, tiny_model, Journal(run), lambda: False) is False
    assert run.status().status == "done"
