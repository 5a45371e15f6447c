"""Processes that are killed in the middle of an import or a start, and two that do the same at once on one workspace:
nothing is half visible, and the next try works."""

import subprocess

import pytest

from core import settings
from core.files import write_json
from finetune.config.run_config import load_yaml, to_yaml
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.launch.local.launcher import LocalLauncher
from finetune.runs.run import list_runs
from inference.models.fingerprint import fingerprint
from tests.tiny.dying import killed_at
from tests.tiny.keeping import ROOT
from tests.tiny.training import make_config, make_run, write_data

pytestmark = pytest.mark.matrix


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.json")


@pytest.fixture
def config(owner, tiny_model, data, tmp_path):
    """The file of a run's settings; its data is a file that is not imported yet."""
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(make_config(tiny_model, data, optim__epochs=2000)))
    return file


@pytest.mark.parametrize(
    ("moment", "text"),
    [("os.rename", "/.import-"), ("open", "report.json"), ("os.rename", ".part")],
    ids=["when the rows are written", "before the report", "before it appears"],
)
def test_killed_during_an_import(owner, config, data, moment, text):
    assert killed_at(moment, text, "start", config)
    assert list_datasets(owner) == [] == list_runs(owner)
    assert import_file(data, owner).report.rows_kept == 24
    assert len(list_datasets(owner)) == 1


@pytest.mark.parametrize(
    ("moment", "text", "visible"),
    [("open", ".env.json", 0), ("open", ".config.yaml", 0), ("subprocess.Popen", "finetune.launch.local.worker", 1)],
    ids=["before its environment", "before its settings", "before its process"],
)
def test_killed_during_the_start_of_a_run(owner, config, moment, text, visible):
    """Where the settings stand already it is a run, which says that it ended, and can be resumed."""
    assert killed_at(moment, text, "start", config)
    runs = list_runs(owner)
    assert [run.status().status for run in runs] == ["failed"] * visible
    if not runs:
        LocalLauncher().start(load_yaml(config.read_bytes(), config.parent), owner)
    for run in runs:
        LocalLauncher().resume(run, owner)
    (run,) = list_runs(owner)
    assert run.alive()
    LocalLauncher().stop(run)
    run.wait()
    assert run.status().status == "stopped"


IMPORT = """
import sys
from pathlib import Path
from core.workspace import Owner
from finetune.data.importing.importer import import_file
print("ready", flush=True)
sys.stdin.readline()
print(import_file(Path(sys.argv[1]), Owner("local")).id)
"""
RESUME = """
import sys
from pathlib import Path
from core.errors import UserError
from core.workspace import Owner
from finetune.launch.local.launcher import LocalLauncher
from finetune.runs.run import Run
import inference.models.locate
print("ready", flush=True)
sys.stdin.readline()
try:
    LocalLauncher().resume(Run(Path(sys.argv[1])), Owner("local"))
    print("resumed")
except UserError as error:
    print(error.code)
"""
START = """
import sys
from pathlib import Path
from core.workspace import Owner
from finetune.config.run_config import load_yaml
from finetune.launch.local.launcher import LocalLauncher
import inference.models.locate
print("ready", flush=True)
sys.stdin.readline()
config = load_yaml(Path(sys.argv[1]).read_bytes(), Path(sys.argv[1]).parent)
print(LocalLauncher().start(config, Owner("local")))
"""


def both(program, argument):
    """What two processes print that do the same at the same moment."""
    command = [settings.python(), "-c", program, str(argument)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return said


@pytest.mark.ci
def test_two_apps_import_the_same_file_and_have_one_dataset(owner, tmp_path):
    said = both(IMPORT, write_data(tmp_path / "data.json", 3000))
    (dataset,) = list_datasets(owner)
    assert said == [dataset.id] * 2 and len(dataset.rows()) == 3000
    assert [path.name for path in owner.datasets.iterdir()] == [dataset.id]


def end(run):
    LocalLauncher().stop(run)
    run.wait()
    return run.status().status


@pytest.mark.ci
def test_two_apps_start_a_run_each(owner, config, cold):
    said = both(START, config)
    runs = list_runs(owner)
    assert {run.id for run in runs} == set(said) and len(runs) == 2
    assert [end(run) for run in runs] == ["stopped", "stopped"]


def test_two_apps_resume_the_same_run_and_one_is_refused(owner, tiny_model, data):
    run = make_run(owner, tiny_model, data, optim__epochs=2000)
    run.log.write("stopped", step=0)
    write_json(run.folder / "env.json", {**run.environment(), "fingerprint": fingerprint(tiny_model)})
    assert sorted(both(RESUME, run.folder)) == ["resumed", "run.alive"]
    assert end(run) == "stopped"
    assert run.progress().attempt == 2
