"""Where everything lies, which part may import which, and what stays light."""

import json
import subprocess
import sys

import pytest

from tests.rules import layout
from tests.rules.source import PACKAGES, ROOT, dotted, imported, modules

HEAVY = ("torch", "transformers", "peft", "accelerate", "gradio", "huggingface_hub", "pandas")
WITH_TORCH = (
    *("inference.columns", "inference.engine", "inference.compare.numerical_ties", "inference.compare.replay"),
    *("finetune.kernels", "finetune.training", "finetune.evaluation.losses", "finetune.evaluation.samples"),
)
"""What computes, and may load torch; all else below the page imports it, and the Hub's client, where it is called."""
LIGHT_ALL_THE_SAME = ("inference.engine.detokenize", "inference.engine.prompts", "inference.engine.stops")


def test_no_two_modules_import_each_other_in_a_circle():
    assert layout.cycles(layout.imports()) == []


def test_no_two_packages_import_each_other_in_a_circle():
    assert layout.cycles(layout.packages()) == []


def test_a_circle_would_be_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set()}
    assert layout.cycles(graph) == [["a", "b", "c"]]


def test_every_package_has_its_place_in_the_order():
    assert set(layout.packages()) == set(layout.ORDER)


def test_imports_go_downwards():
    place = layout.ORDER.index
    upwards = [
        f"{module} imports {other}"
        for module, others in layout.imports().items()
        for other in sorted(others)
        if place(layout.package(other)) > place(layout.package(module))
    ]
    assert upwards == []


def test_a_folder_can_be_taken_in_at_a_glance():
    found = layout.folders()
    assert {folder: count for folder, count in found.items() if count > layout.MOST_MODULES} == {}
    assert [folder for folder in found if len(folder.split("/")) > layout.DEEPEST] == []


def test_so_can_a_folder_of_tests():
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    assert {path.name: count for path in folders if (count := len(list(path.glob("*.py")))) > 25} == {}


def test_the_walks_are_seen_from_their_beginning_to_their_end():
    """`python -m tests.rules.layout` shows modules a folder and what a knob, a row and an id pass."""
    print(f"\n{layout.report()}")
    walks = layout.walks()
    assert {"inference.strategies", "inference.columns", "finetune.publish.kinds"} <= set(walks["top_p"])
    path = ("core", "finetune.data.importing", "finetune.data", "finetune.data.tokenizing", "finetune.training")
    assert set(path) <= set(walks["a data row"])
    assert {"core", "finetune.runs", "finetune.launch.local", "finetune.cli", "ui.train"} <= set(walks["a run id"])


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    above = set(PACKAGES[PACKAGES.index(package) + 1 :]) | {"app", "tests", "benchmarks"}
    wrong = {dotted(path): imported(path) & above for path in modules(package)}
    assert {name: names for name, names in wrong.items() if names} == {}


def test_only_the_page_imports_gradio():
    wrong = [dotted(path) for path in modules("core", "inference", "finetune") if "gradio" in imported(path)]
    assert wrong == []


def test_the_page_leaves_models_and_the_hub_to_the_packages_below():
    heavy = {"torch", "transformers", "peft", "huggingface_hub"}
    wrong = {dotted(path): imported(path) & heavy for path in modules("ui", "app")}
    assert {name: names for name, names in wrong.items() if names} == {}


def _light():
    names = [dotted(path) for path in modules("core", "inference", "finetune")]
    heavy = [name for name in names if f"{name}.".startswith(tuple(f"{room}." for room in WITH_TORCH))]
    return [name for name in names if name not in heavy or name in LIGHT_ALL_THE_SAME]


def test_what_may_load_torch_is_there():
    """A name that leads nowhere would hold nothing to anything."""
    names = [dotted(path) for path in modules("core", "inference", "finetune")]
    assert set(WITH_TORCH) | set(LIGHT_ALL_THE_SAME) <= set(names)


def test_light_modules_load_nothing_heavy():
    program = (
        "import importlib, json, sys\n"
        f"for name in {_light()!r}:\n"
        "    importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_page_opens_without_torch():
    program = (
        "import json, sys, app, ui.page\nprint(json.dumps([n for n in ('torch', 'transformers') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
