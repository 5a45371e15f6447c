"""An app that is restarted on an empty disk has its owner's things back from the backup."""

import os
import shutil
import signal
import subprocess
import time

from core import settings
from core.workspace import Owner
from finetune.data.store import list_datasets
from tests.app_process import ROOT, running_app
from tests.ui.train.test_runs_outlive import ask


def test_what_was_imported_is_there_again_after_the_disk_was_lost(tmp_path, monkeypatch):
    home, bucket = tmp_path / "home", tmp_path / "bucket"
    bucket.mkdir()
    monkeypatch.setenv("TUNESCOPE_HOME", str(home))
    environment = {"OMP_NUM_THREADS": "1", "TUNESCOPE_BACKUP": str(bucket), "TUNESCOPE_LOG": "json"}
    with running_app(tmp_path, environment) as first:
        ask(first, "bring_example", [])
        while not list(bucket.rglob("datasets/*/*.json")):
            time.sleep(0.05)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    shutil.rmtree(home)
    with running_app(tmp_path, environment) as second:
        while not list_datasets(Owner("local")):
            assert second.process.poll() is None
            time.sleep(0.05)
        while '"event": "restore"' not in second.log.read_text():
            time.sleep(0.05)
    (dataset,) = list_datasets(Owner("local"))
    assert len(dataset.rows()) == 60
    assert "backup_problem" not in second.log.read_text()


def test_an_address_that_is_none_stops_the_start_with_a_sentence(tmp_path):

    command = [settings.python(), "app.py", "--port", "0"]
    environment = os.environ | {"TUNESCOPE_BACKUP": "s3://mine"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "TUNESCOPE_BACKUP" in done.stderr and "Traceback" not in done.stderr
