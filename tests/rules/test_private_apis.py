"""`docs/private-apis.md` lists every private or undocumented name of other libraries that the sources use."""

import ast
import re

import pytest

from tests.rules import private_names as found
from tests.rules.source import ROOT

PAGE = (ROOT / "docs" / "private-apis.md").read_text(encoding="utf-8")


def _rows():
    """The rows of the page's tables: names, files, why, test."""
    lines = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    assert lines and all(len(cells) == 4 for cells in lines)
    return [[cell.strip() for cell in cells] for cells in lines]


def _named(cell):
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.mark.ci
def test_the_page_lists_each_name_with_the_files_that_use_it():
    """Slow: it imports the libraries, to see which of their methods a class of ours overrides."""
    listed = {name: _named(files) for names, files, _, _ in _rows() for name in _named(names)}
    assert listed == found.private_names()


def test_each_name_has_a_reason_and_a_test_that_is_there():
    for _, _, why, test in _rows():
        path, _, name = test.strip("`").partition("::")
        tests = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert why and name in tests, test


def _names_in(source, own=()):
    module = ast.parse(source)
    return {*found._imported(module), *found._reached(module, {*found._defined(module), *own})}


def test_the_search_finds_every_way_to_reach_a_private_name():
    assert _names_in("from gradio.routes import App") == {"gradio.routes.App"}
    assert _names_in("from gradio import routes") == {"gradio.routes"}
    assert _names_in("import gradio as gr\ngr.routes.App") == {"gradio.routes"}
    assert _names_in("from huggingface_hub import _commit_api as api") == {"huggingface_hub._commit_api"}
    assert _names_in("import torch\ntorch._C.x\ngetattr(torch, '_dynamo')") == {"_C", "_dynamo"}
    assert _names_in("class A(Trainer):\n  def f(self): return self._globalstep, super()._inner()") == {
        "_globalstep",
        "_inner",
    }
    assert _names_in("def f(api): api._headers = api._build()") == {"_headers", "_build"}


def test_the_search_passes_over_what_is_public_or_ours():
    assert _names_in("from transformers import Trainer\nfrom huggingface_hub.utils import logging") == set()
    assert _names_in("import torch\ntorch.nn.functional.linear\ntorch.backends.mkldnn") == set()
    assert _names_in("import os, gradio\nos._exit(1)\ngradio.__version__") == set()
    assert _names_in("def _own(x): return x._own\nclass A:\n  def f(self): self._b = 1; return self._b") == set()
    assert _names_in("class A(B):\n  def f(self): return self._elsewhere", own=["_elsewhere"]) == set()
