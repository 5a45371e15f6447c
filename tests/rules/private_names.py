"""Finds the names of other people's code that the sources use although nobody promises them: private ones, and those
of modules that their documentation leaves out."""

import ast
import functools
import importlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.rules.source import PACKAGES, ROOT, modules, nodes, tree

DOCUMENTED = {
    "gradio": "themes",
    "huggingface_hub": "constants errors hf_api utils utils.logging",
    "transformers": "utils utils.logging",
    "torch": "autograd backends cuda linalg mps nn nn.functional optim utils utils.data "
    "distributed distributed.device_mesh distributed.fsdp distributed.tensor",
    "peft": "",
    "accelerate": "",
}
"""The modules that a library's reference describes; its top one is always among them."""
_REFLECTING = ("getattr", "setattr", "hasattr", "delattr")


def private_names() -> dict[str, set[str]]:
    """Every such name, with the files that use it: a dotted path where it is imported, else the bare name."""
    files = {path: tree(path) for path in modules(*PACKAGES, "app")}
    own = {name for module in files.values() for name in _defined(module)}
    found: dict[str, set[str]] = defaultdict(set)
    for path, module in files.items():
        for name in [*_imported(module), *_reached(module, own), *_overridden(module, path, files)]:
            found[name].add(path.relative_to(ROOT).as_posix())
    return dict(found)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in PACKAGES and top not in sys.stdlib_module_names


def _imported(module: ast.Module) -> Iterator[str]:
    """What is imported from a private or undocumented module, or is private itself; and such modules that are reached
    from the library's name."""
    tops: dict[str, str] = {}
    for node in nodes(module):
        if isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names if _foreign(alias.name)]
            tops |= {alias.asname or alias.name.partition(".")[0]: alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and _foreign(node.module):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in whole if not _promised(name))
    for node in nodes(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in tops:
            whole = [f"{tops[node.value.id]}.{node.attr}"]
            yield from (name for name in whole if _file(name) is not None and not _promised(name))


def _promised(whole: str) -> bool:
    """Whether a dotted name is public and the module that it comes from is in its library's reference."""
    if any(map(is_private, whole.split("."))):
        return False
    top, _, rest = whole.partition(".")
    source = rest if _file(whole) is not None else rest.rpartition(".")[0]
    return top not in DOCUMENTED or source in ("", *DOCUMENTED[top].split())


@functools.cache
def _file(whole: str) -> Path | None:
    """The file or folder of a dotted name that is a module of an installed library; nothing is imported."""
    top, _, rest = whole.partition(".")
    found = importlib.util.find_spec(top)
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place, *rest.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return path
    return None


def _defined(module: ast.Module) -> Iterator[str]:
    """The names that a file defines: functions, classes, variables, attributes of `self`."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


def _is_self(value: ast.expr) -> bool:
    above = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"
    return above or (isinstance(value, ast.Name) and value.id in ("self", "cls"))


def _reached(module: ast.Module, own: set[str]) -> Iterator[str]:
    """Private attributes of something else: of objects, of `self` where no source of ours defines them, by name."""
    here = set(_defined(module))
    for node in nodes(module):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            standard = isinstance(node.value, ast.Name) and node.value.id in sys.stdlib_module_names
            if node.attr not in (own if _is_self(node.value) else here) and not standard:
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REFLECTING:
            for given in node.args[1:2]:
                if isinstance(given, ast.Constant) and is_private(str(given.value)) and str(given.value) not in here:
                    yield str(given.value)


def _overridden(module: ast.Module, path: Path, files: dict[Path, ast.Module]) -> Iterator[str]:
    """Private methods of ours that take the place of those of a library's class: the library calls them."""
    for node in nodes(module):
        if isinstance(node, ast.ClassDef):
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef) and is_private(part.name)}
            bases = list(_library_bases(node, module, files)) if methods else []
            for name in sorted(methods):
                yield from (f"{base.__name__}.{name}" for base in bases if hasattr(base, name))


def _library_bases(node: ast.ClassDef, module: ast.Module, files: dict[Path, ast.Module]) -> Iterator[type]:
    """The classes of libraries that a class inherits from, also by way of ours."""
    for base in map(ast.unparse, node.bases):
        whole = _origin(base, module)
        if whole is None:
            continue
        if _foreign(whole):
            place, _, name = whole.rpartition(".")
            yield getattr(importlib.import_module(place), name)
            continue
        place, _, name = whole.rpartition(".")
        source = ROOT.joinpath(*place.split(".")).with_suffix(".py")
        for other in ast.walk(files[source]) if source in files else ():
            if isinstance(other, ast.ClassDef) and other.name == name:
                yield from _library_bases(other, files[source], files)


def _origin(name: str, module: ast.Module) -> str | None:
    """Where a name of a file comes from, as a dotted path; None for one of the file's own or Python's."""
    first, _, rest = name.partition(".")
    for node in nodes(module):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if (alias.asname or alias.name.partition(".")[0]) != first:
                continue
            found = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]
            whole = f"{found}.{rest}" if rest else found
            return whole if whole.partition(".")[0] not in sys.stdlib_module_names else None
    return None
