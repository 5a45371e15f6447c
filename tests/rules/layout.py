"""Where the modules lie and what they import, lazily and for types alone too: `python -m tests.rules.layout` prints it.

An import counts wherever it stands in a module. What is not an import does not count: a module started by its name
(`python -m ...`), and a package that Python imports on the way to one of its modules.
"""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from tests.rules.source import PACKAGES, dotted, modules, nodes, tree

MOST_MODULES = 12
ORDER = (
    *("core", "core.hub"),
    *("inference.events", "inference.strategies", "inference.columns", "inference.measures", "inference.models"),
    *("inference.engine", "inference.compare", "inference.prompt_sets", "inference.cli", "inference"),
    *("finetune.kernels", "finetune.objectives", "finetune.methods", "finetune.config", "finetune.base_models"),
    *("finetune.data", "finetune.data.importing", "finetune.data.tokenizing", "finetune.runs", "finetune.training"),
    *("finetune.backup", "finetune.publish.repo", "finetune.evaluation", "finetune.plan"),
    *("finetune.launch", "finetune.launch.local", "finetune.launch.follow", "finetune.launch.inside"),
    *("finetune.launch.jobs", "finetune.publish.card", "finetune.publish.formats", "finetune.publish.proof"),
    *("finetune.publish", "finetune.publish.kinds", "finetune.cli", "finetune"),
    *("ui.web", "ui.parts", "ui.data", "ui.train", "ui.compare", "ui.evaluate", "ui.publish"),
    *("ui.header", "ui.page", "ui.server", "ui", "app"),
)
"""Packages, and modules that stand beside packages; each imports only from those before it."""
DEEPEST = 3
"""Folders of the longest path: a top package, and two below it."""
ROWS = ("core.rows", "finetune.data.tokenizing.tokenize", "finetune.data.tokenizing.token_rows")
"""Where the forms of a data row are defined: typed, as tokens, and those in a file."""


@cache
def sources() -> dict[str, Path]:
    """Every module of the program by its dotted name."""
    return {dotted(path): path for path in modules(*PACKAGES, "app")}


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the program's own modules that it imports."""
    return {name: _imported(path) - {name} for name, path in sources().items()}


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in sources() else node.module for name in names}
    return found & sources().keys()


def package(module: str) -> str:
    """The package of a module; what stands in the order by itself is its own."""
    if module in ORDER or sources()[module].name == "__init__.py":
        return module
    return module.rpartition(".")[0]


def packages() -> dict[str, set[str]]:
    """Package -> those that its modules import."""
    found: dict[str, set[str]] = {package(module): set() for module in sources()}
    for module, others in imports().items():
        found[package(module)] |= {package(other) for other in others} - {package(module)}
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """What imports itself by way of others: each knot once, by its names."""
    reach = {name: _reached(graph, name) for name in graph}
    knots = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph}
    return sorted(list(knot) for knot in knots if knot)


def _reached(graph: dict[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[name])
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += graph[other]
    return found


def folders() -> dict[str, int]:
    """Folder -> how many modules lie in it, `__init__.py` aside."""
    found: Counter[str] = Counter()
    for path in modules(*PACKAGES):
        found[dotted(path.parent / "__init__.py").replace(".", "/")] += path.name != "__init__.py"
    return dict(found)


def walks() -> dict[str, list[str]]:
    """The packages that a knob, a data row and a run's id pass, in the order of the packages.

    They are read from the code, not followed: `top_p` passes where its name stands, in quotation marks or not; a row
    where a class of its forms is imported; an id where a name says `run_id`, or `run` is asked for its `id`. What only
    hands on a dictionary or a run, and names none of these, is not seen.
    """
    knob = {module for module, path in sources().items() if "top_p" in _words(path)}
    row = {module for module, path in sources().items() if module in ROWS or _takes_a_row(path)}
    run = {module for module, path in sources().items() if {"run_id", "RUN_ID"} & _words(path)}
    found = {"top_p": knob, "a data row": row, "a run id": run}
    return {what: sorted({package(one) for one in passed}, key=ORDER.index) for what, passed in found.items()}


def _takes_a_row(path: Path) -> bool:
    """Whether a class is imported from where the rows are defined; those of a row begin with a capital."""
    found = [node for node in nodes(tree(path)) if isinstance(node, ast.ImportFrom) and node.module in ROWS]
    return any(alias.name[0].isupper() and not alias.name.isupper() for node in found for alias in node.names)


def _words(path: Path) -> set[str]:
    """The names and texts of a module; `run.id` counts as `run_id`."""
    words: set[str] = set()
    for node in nodes(tree(path)):
        match node:
            case ast.Attribute(attr="id", value=ast.Name(id="run") | ast.Attribute(attr="run")):
                words.add("run_id")
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=str(word)):
                words.add(word)
            case ast.alias(name=word) | ast.Constant(value=str(word)):
                words.add(word)
    return words


def report() -> str:
    """Modules a folder, cycles, and the walks."""
    lines = [f"{count:3} {folder}" for folder, count in folders().items()]
    lines += [f"cycles between modules: {cycles(imports())}", f"cycles between packages: {cycles(packages())}"]
    lines += [f"{what} passes {len(passed)} packages: {', '.join(passed)}" for what, passed in walks().items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
