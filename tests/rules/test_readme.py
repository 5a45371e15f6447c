"""The README is true: its file tree, its front matter, its shell examples."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement

from tests.rules.source import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALLATION = ("pip install -r requirements.txt && python app.py", "pip install -r requirements-dev.txt && pytest")


def _tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def _tree_paths():
    """The paths in the file tree: one a line with what it is, files indented under their folder."""
    folder, paths = "", []
    for line in TEXT.split("## Files")[1].split("```")[1].strip("\n").splitlines():
        name, what = line.split(maxsplit=1)
        assert what, line
        folder = folder if line.startswith("  ") else name
        paths.append(folder + name if line.startswith("  ") else name)
    return paths


def test_what_the_tree_names_is_there():
    assert [path for path in _tree_paths() if not (ROOT / path).exists()] == []


def test_every_source_of_the_packages_is_in_the_tree():
    named = set(_tree_paths())
    packages = ("core", "finetune", "inference", "ui", "benchmarks")
    sources = [path for path in _tracked() if path.split("/")[0] in packages and not path.endswith("__init__.py")]
    below = tuple(path for path in named if path.count("/") == 2 and path.endswith("/"))
    assert [path for path in sources if path not in named and not path.startswith(below)] == []


def test_everything_at_the_top_is_in_the_tree():
    top = {path.split("/")[0] for path in _tracked()} - {".gitignore", ".ci", "README.md"}
    assert top - {path.split("/")[0] for path in _tree_paths()} == set()


def test_the_front_matter_is_a_spaces():
    head = yaml.safe_load(TEXT.split("---")[1])
    assert head["sdk"] == "gradio"
    assert head["python_version"] == "3.12"
    assert head["app_file"] == "app.py"
    assert head["hf_oauth"] is True
    assert set(head["hf_oauth_scopes"]) == {
        "read-repos",
        "gated-repos",
        "contribute-repos",
        "jobs",
        "write-discussions",
    }
    assert len(head["short_description"]) <= 60


def test_the_space_gets_a_gradio_that_the_requirements_allow():
    head = yaml.safe_load(TEXT.split("---")[1])
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    allowed = next(Requirement(line) for line in lines if line.startswith("gradio["))
    assert head["sdk_version"] in allowed.specifier, f"sdk_version {head['sdk_version']}, but {allowed}"


@pytest.mark.parametrize("command", INSTALLATION)
def test_the_two_commands_stand_there_exactly(command):
    assert f"```bash\n{command}\n```" in TEXT


def test_the_checks_call_the_test_command_of_the_readme():
    assert INSTALLATION[1] in (ROOT / ".ci" / "run").read_text()


def test_the_shell_examples_run(tmp_path, tiny_model, hub_process):
    """All of them in the order given, in one shell, on a tiny model and a Hub on this machine."""
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) if block.strip() not in INSTALLATION]
    assert len(blocks) >= 4
    script = "set -euxo pipefail\n" + "\n".join(blocks)
    assert script.count("HuggingFaceTB/SmolLM2-135M-Instruct") >= 2
    script = script.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tiny_model))
    script = script.replace("ada/", f"{hub_process.user}/")
    for name in ("finetune", "inference", "core"):
        (tmp_path / name).symlink_to(ROOT / name)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, **hub_process.environment, "TUNESCOPE_HOME": str(tmp_path / "home")}
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "greedy" in done.stdout
