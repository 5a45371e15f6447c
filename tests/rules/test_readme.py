"""The README is true: its file tree, its front matter, its shell examples."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.rules.source import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALLATION = ("pip install -r requirements.txt && python app.py", "pip install -r requirements-dev.txt && pytest")


def _tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def _tree_paths():
    """The paths in the file tree: two columns of names with what they are, folders one deep."""
    tree = TEXT.split("## Files")[1].split("```")[1]
    folder, paths = "", []
    for line in tree.strip("\n").splitlines():
        indented = line.startswith("  ")
        names = re.findall(r"(?:^|\s{2,})(\.?[A-Za-z_][\w.-]*(?:/[\w.-]+)*/?)(?=\s{2,})", line)
        assert names, f"no name in the line {line!r}"
        if not indented and names[0].endswith("/"):
            folder = names[0]
        paths += [folder + name if indented else name for name in names]
    return paths


def test_what_the_tree_names_is_there():
    assert [path for path in _tree_paths() if not (ROOT / path).exists()] == []


def test_every_source_of_the_packages_is_in_the_tree():
    named = set(_tree_paths())
    sources = [p for p in _tracked() if p.split("/")[0] in ("core", "finetune", "inference", "ui", "benchmarks")]
    covered = [p for p in sources if p in named or any(f.endswith("/") and p.startswith(f) and "/" in f[:-1] for f in named)]
    assert sorted(set(sources) - set(covered) - {p for p in sources if p.endswith("__init__.py")}) == []


def test_every_folder_and_file_at_the_top_is_in_the_tree():
    top = {path.split("/")[0] for path in _tracked()} - {".gitignore", ".ci", ".gitattributes", "README.md"}
    assert top - {path.split("/")[0] for path in _tree_paths()} == set()


def test_the_front_matter_is_a_spaces():
    head = yaml.safe_load(TEXT.split("---")[1])
    assert head["sdk"] == "gradio"
    assert head["python_version"] == "3.12"
    assert head["app_file"] == "app.py"
    assert head["hf_oauth"] is True
    assert set(head["hf_oauth_scopes"]) == {"read-repos", "gated-repos", "contribute-repos"}
    assert len(head["short_description"]) <= 60
    import gradio

    assert head["sdk_version"].split(".")[:2] == gradio.__version__.split(".")[:2]


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
