"""The names that people's files, scripts and links hold, found in the code: `python -m tests.rules.names` prints them.

They are kept in names.json beside this file. A name may be added; one that goes breaks something that somebody has.
"""

import argparse
import ast
import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from finetune.__main__ import main as finetune
from inference.__main__ import main as inference
from tests.rules.source import PACKAGES, modules, nodes, tree

FILE = Path(__file__).with_name("names.json")


def kept() -> dict:
    """The names as they are kept."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def names() -> dict:
    """All of them but the endpoints, as the code has them now."""
    from finetune.config.presets import PRESETS
    from finetune.config.run_config import knobs, stage_knobs
    from finetune.methods import METHODS
    from finetune.objectives import OBJECTIVES
    from finetune.publish.kinds import KINDS
    from inference.strategies.table import STRATEGIES

    return {
        "knobs": {knob.path: list(knob.choices or []) for knob in (*knobs(), *stage_knobs())},
        "strategies": {key: [knob.name for knob in one.knobs] for key, one in STRATEGIES.items()},
        "methods": list(METHODS),
        "objectives": list(OBJECTIVES),
        "presets": list(PRESETS),
        "kinds": list(KINDS),
        "events": sorted(set(events())),
        "variables": sorted(set(variables())),
        "shell": {**flags("finetune", finetune), **flags("inference", inference)},
        "words": sorted(words()),
    }


def endpoints() -> list[str]:
    """The names that the page's entries are given; those that are not given one are called after their function."""
    from ui import page

    named = re.compile(r"compare\w*?|train_pick\w*?")
    found = {str(entry.api_name) for entry in page.build().fns.values()}
    return sorted(name for name in found if named.fullmatch(name) and not re.search(r"_\d+$", name))


def events() -> Iterator[str]:
    """The types of events that some source writes, and other types in what is written as JSON."""
    files = [tree(path) for path in modules(*PACKAGES)]
    constants = dict(pair for module in files for pair in _constants(module))
    for module in files:
        for node in nodes(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "write":
                given = node.args[:1]
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "type"]
            else:
                continue
            texts = [constants.get(ast.unparse(part), getattr(part, "value", None)) for part in given]
            yield from (text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z_]+", text))


def _constants(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The texts at the top of a file that have a name."""
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            target, value = node.targets[0], node.value
            pairs = zip(target.elts, value.elts, strict=True) if isinstance(target, ast.Tuple) else [(target, value)]
            for name, text in pairs:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield ast.unparse(name), text.value


def variables() -> Iterator[str]:
    """The environment variables of our own."""
    for path in modules(*PACKAGES, "app"):
        for node in nodes(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from re.findall(r"\bTUNESCOPE_[A-Z_]+\b", node.value)


def words() -> list[str]:
    from core.words import catalogue

    return list(catalogue("en"))


def flags(program: str, main: Callable[[list[str]], int]) -> dict[str, list[str]]:
    """The options of each command, as its help lists them."""
    commands = re.findall(r"^    (\w+)", _help(main), re.MULTILINE)
    found = {}
    for command in commands:
        lines = [line for line in _help(main, command).splitlines() if line.startswith("  -")]
        options = [re.findall(r"(?:^  |, )(--?[\w-]+)", line) for line in lines]
        found[f"{program} {command}"] = sorted({option for several in options for option in several} - {"-h", "--help"})
    return found


def _help(main: Callable[[list[str]], int], *command: str) -> str:
    out = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "200"}),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return out.getvalue()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps({**names(), "endpoints": endpoints()}, indent=1))
