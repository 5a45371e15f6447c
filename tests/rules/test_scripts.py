"""The page's scripts: each is loaded, and the modules that it names are joined in front of it.

eslint takes the word of `/* global name */` and `/* exported name */`; whether the two meet is held here.
"""

import ast
import re

from tests.rules.source import ROOT, modules, nodes, tree

TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "ui").rglob("*.js")}


def _loaded():
    """The names of scripts that stand together in a tuple or in a call, in their order."""
    for path in modules("ui"):
        for node in nodes(tree(path)):
            held = node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
            names = [one.value for one in held if isinstance(one, ast.Constant) and str(one.value).endswith(".js")]
            if names:
                yield names


def _names(kind, script):
    return {name for found in re.findall(rf"/\* {kind} (.*?) \*/", TEXTS[script]) for name in found.split(", ")}


def test_every_script_is_loaded():
    assert {name for names in _loaded() for name in names} == set(TEXTS)


def test_a_script_has_the_modules_that_it_names_before_it():
    for *before, last in _loaded():
        given = set().union(*(_names("exported", name) for name in before))
        wanted = set().union(*(_names("global", name) for name in (*before, last)))
        assert wanted == given, f"{last} is loaded behind {before}"
        assert len(given) == len(before), f"{before}: one name a module"


def test_a_module_has_no_other_name_than_its_own():
    """What stands at the top of a module is in the scope of every script that is joined with it."""
    for name in TEXTS:
        if exported := _names("exported", name):
            tops = set(re.findall(r"^(?:async )?(?:function|const|let|var|class)\s+(\w+)", TEXTS[name], re.MULTILINE))
            assert tops == exported, name
