"""The README and the guides are true: front matter, length, packages, commands, shell examples."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from core import settings
from tests.rules.source import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALLATION = ("pip install -r requirements.txt && python app.py", "pip install -r requirements-dev.txt && pytest")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
RUN_IN_ORDER = ("README.md", "docs/guide.md", "docs/publishing.md", "docs/jobs.md")
"""Pages whose ```bash blocks run, one page after another. A ```sh block is only parsed: it would rent a machine."""
PACKAGES = ("core", "inference", "finetune", "ui", "benchmarks", "tests")
SECTIONS = (
    "Install and open",
    "In the browser",
    "In the shell",
    "What it supports",
    "Status",
    "Documentation",
    "Development and license",
)


def _tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def _page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _tree() -> list[str]:
    """The paths in the list of packages: one a line, with what it is."""
    lines = TEXT.split("## Packages")[1].split("```")[1].strip("\n").splitlines()
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), lines
    return [line.split(maxsplit=1)[0] for line in lines]


def _packages() -> list[str]:
    """The folders of the project that hold Python modules; of the tests the top one alone."""
    folders = {path.rpartition("/")[0] for path in _tracked() if path.endswith(".py") and "/" in path}
    return sorted(folder for folder in folders if folder.split("/")[0] in PACKAGES and not folder.startswith("tests/"))


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 180


def test_the_first_hundred_lines_hold_what_a_reader_needs():
    beginning = "\n".join(TEXT.splitlines()[:100])
    assert re.findall(r"^## (.+)$", beginning, re.MULTILINE) == list(SECTIONS)
    bullets = beginning.split("](docs/compare.png)")[1].split("## ")[0].strip().splitlines()
    assert len(bullets) == 4 and all(line.startswith("- **") for line in bullets)


def test_what_it_supports_is_six_short_rows():
    rows = [line for line in TEXT.split("## What it supports")[1].split("## ")[0].splitlines() if line.startswith("| ")]
    cells = [cell.strip() for row in rows[1:] for cell in row.strip("|").split(" | ")]
    assert len(rows) == 7
    assert [cell for cell in cells if len(cell.split()) > 12] == []


def test_what_the_tree_names_is_there():
    assert [path for path in _tree() if not (ROOT / path).exists()] == []


def test_every_package_is_in_the_tree_once():
    named = [path.rstrip("/") for path in _tree() if path.endswith("/") and path != "docs/"]
    assert sorted(named) == _packages()


def test_everything_at_the_top_is_in_the_tree():
    named = TEXT.split("## Packages")[1].split("```")[1]
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in _tracked()}
    missing = [
        name for name in top - {".gitignore", ".ci/", "README.md"} if not re.search(rf"(?<!\S){name}(?!\S)", named)
    ]
    assert missing == []


@pytest.mark.parametrize("package", _packages())
def test_the_readme_of_a_package_names_its_modules_and_nothing_that_is_not_there(package):
    """Modules without their ending, folders with a slash, each on a line of its own; other files may be named."""
    inside = [path.removeprefix(f"{package}/") for path in _tracked() if path.startswith(f"{package}/")]
    modules = {path.removesuffix(".py") for path in inside if path.endswith(".py") and "/" not in path}
    folders = {path.split("/")[0] + "/" for path in inside if "/" in path}
    page = _page(f"{package}/README.md")
    named = re.findall(r"^- `([^`]+)`: \S", page, re.MULTILINE)
    assert page.startswith(f"# {package}\n")
    assert len(named) == len(set(named))
    assert (modules | folders) - {"__init__"} - set(named) == set()
    assert set(named) - modules - folders - {path for path in inside if "/" not in path} == set()


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


def _pages() -> list[str]:
    """All pages that people read: the README, the docs, the packages' own."""
    return [path for path in _tracked() if path.endswith(".md")]


@pytest.mark.parametrize("name", _pages())
def test_the_links_of_a_page_lead_somewhere(name):
    page = _page(name)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
        path, _, anchor = target.partition("#")
        if not target.startswith("http"):
            linked = ROOT / Path(name).parent / path if path else ROOT / name
            assert linked.exists(), target
            assert not anchor or anchor in _anchors(linked.read_text(encoding="utf-8")), target


def _anchors(page: str) -> list[str]:
    """The anchors of a page's headings, as GitHub and the Hub make them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("name", _pages())
def test_the_files_that_a_page_names_are_there(name):
    """Paths from the top of the project, and tests by their names alone; both may hold a *."""
    code = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", _page(name), flags=re.DOTALL))
    words = [word.split("::")[0] for span in code for word in re.split(r"[\s,<]+", span)]
    paths = [word for word in words if word.split("/")[0] in (*PACKAGES, "docs") and "/" in word]
    tests = [word for word in words if re.fullmatch(r"test_[\w*]+\.py", word)]
    assert [path for path in paths if not [*ROOT.glob(path), *ROOT.glob(f"tests/*/{path}")]] == []
    assert [path for path in tests if not list((ROOT / "tests").rglob(path))] == []


def _commands(page: str) -> Iterator[list[str]]:
    """The words of each `python -m finetune ...` and `python -m inference ...`, in a shell block or in a line."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", page, re.DOTALL)
    outside = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`(python -m [^`]+)`", outside)]:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        yield from _calls(list(words))


def _calls(words: list[str]) -> Iterator[list[str]]:
    for index in range(len(words) - 2):
        if words[index : index + 2] == ["python", "-m"] and words[index + 2] in ("finetune", "inference"):
            rest = words[index + 2 :]
            end = next((at for at, word in enumerate(rest) if set(word) <= set("();<>|&")), len(rest))
            yield rest[:end]


COMMANDS = [
    pytest.param(words, id=f"{name}: {' '.join(words)[:60]}") for name in _pages() for words in _commands(_page(name))
]


def test_the_pages_hold_commands():
    """Else the tests below would hold nothing."""
    assert len(list(_commands(TEXT))) == 7 and len(COMMANDS) >= 30


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_a_page_names_can_be_parsed(words):
    from finetune.cli.main import _parser as finetune
    from inference.cli.main import _parser as inference

    if len(words) == 1 or words[-1] == "--help":
        return
    parser = finetune() if words[0] == "finetune" else inference()
    assert callable(parser.parse_args(words[1:]).run)


@pytest.mark.ci
def test_the_shell_examples_run(tmp_path, hub_process):
    """All of them in the order given, in one shell, on a tiny model and a Hub on this machine.

    Slow: dozens of commands, each in a process of its own, several trainings among them.
    """
    from tests.tiny_model import make_tiny_model

    blocks = [block for name in RUN_IN_ORDER for block in re.findall(r"```bash\n(.*?)```", _page(name), re.DOTALL)]
    blocks = [block for block in blocks if block.strip() not in INSTALLATION]
    assert len(blocks) >= 4
    script = "set -euxo pipefail\n" + "\n".join(blocks)
    assert script.count(MODEL) >= 2
    model = make_tiny_model(tmp_path / "model", context=1024)
    script = script.replace(MODEL, str(model)).replace("ada/", f"{hub_process.user}/")
    script, presets = re.subn(r"(finetune preset .*) >", rf"\1 | sed 's|{MODEL}|{model}|' >", script)
    assert presets
    for name in ("finetune", "inference", "core"):
        (tmp_path / name).symlink_to(ROOT / name)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{settings.python()}" "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, **hub_process.environment, "TUNESCOPE_HOME": str(tmp_path / "home")}
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "greedy" in done.stdout
