"""The project's own sources, for the rules that hold over all of them."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "inference", "finetune", "ui")


def modules(*packages: str) -> list[Path]:
    """All Python files of the packages, and `app.py` for the name "app"."""
    found = []
    for package in packages:
        found += [ROOT / "app.py"] if package == "app" else sorted((ROOT / package).rglob("*.py"))
    assert found, f"no sources in {packages}"
    return found


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file, once for all rules."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(module: ast.Module) -> tuple[ast.AST, ...]:
    """Return all nodes of a module, walked once for all rules."""
    return tuple(ast.walk(module))


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """The names of the top packages that a module imports, at its top or anywhere in it."""
    names: set[str] = set()
    for node in _statements(tree(path), top_level_only):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def _statements(module: ast.Module, top_level_only: bool) -> Iterable[ast.AST]:
    return ast.iter_child_nodes(module) if top_level_only else nodes(module)


def dotted(path: Path) -> str:
    """`finetune/data/store.py` as `finetune.data.store`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
