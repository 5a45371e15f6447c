"""Which part may import which, and what stays light."""

import json
import subprocess
import sys

import pytest

from tests.rules.source import PACKAGES, ROOT, dotted, imported, modules

HEAVY = ("torch", "transformers", "peft", "accelerate", "gradio", "huggingface_hub", "pandas")
LIGHT = [
    *(dotted(path) for path in modules("core")),
    "finetune",
    "finetune.config.run_config",
    "finetune.runs.run",
    "finetune.runs.events",
    "finetune.launch",
    "finetune.launch.local.launcher",
    "finetune.plan.planner",
    "finetune.data",
    "finetune.publish",
    "finetune.publish.kinds",
    "finetune.__main__",
    "inference",
    "inference.strategies.table",
    "inference.__main__",
]


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


def test_light_modules_load_nothing_heavy():
    program = (
        "import importlib, json, sys\n"
        f"for name in {LIGHT!r}:\n"
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
