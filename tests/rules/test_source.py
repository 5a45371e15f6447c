"""What the sources look like, and what must never stand in them."""

import ast
import re

from tests.rules.source import ROOT, dotted, modules, nodes, tree

EVERYTHING = ("core", "inference", "finetune", "ui", "app")


def test_functions_of_the_page_are_short():
    assert _longer_than(40, "ui", "app") == []


def test_functions_elsewhere_stay_readable():
    assert _longer_than(60, "core", "inference", "finetune") == []


def _longer_than(limit, *packages):
    return [
        f"{dotted(path)}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in modules(*packages)
        for node in nodes(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= limit
    ]


NO_VERB = re.compile(
    "A|All|An|As|At|Bytes|Each|Every|For|How|If|It|No|Of|On|One|Only|Raises|Returns|Rows|Seconds|So|That|The|This|Tokens|"
    "What|When|Where|Whether|Which|Who|Why|[^A-Z].*"
)
"""First words with which a docstring names a thing, or asks, where it should say what the function does."""


def test_docstrings_of_functions_begin_with_a_verb():
    first = [
        (f"{dotted(path)}.{node.name}", ast.get_docstring(node).split()[0].strip(",:;."))
        for path in modules(*EVERYTHING)
        for node in nodes(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node)
        if not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert len(first) > 1500
    assert [name for name, word in first if NO_VERB.fullmatch(word)] == []


def test_remote_code_is_never_trusted():
    wrong = [dotted(path) for path in modules(*EVERYTHING) if "trust_remote_code=True" in path.read_text()]
    assert wrong == []


def test_every_token_argument_is_said():
    """`token=None` falls back to the process's own token."""
    wrong = [dotted(path) for path in modules(*EVERYTHING) if re.search(r"\btoken=None\b", path.read_text())]
    assert wrong == []


def test_nothing_that_executes_code_is_unpickled_or_evaluated():
    names = {"eval", "exec", "compile"}
    wrong = []
    for path in modules(*EVERYTHING):
        for node in nodes(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                wrong.append(f"{dotted(path)}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pickle.load", "pickle.loads", "yaml.load"):
                wrong.append(f"{dotted(path)}:{node.lineno}")
    assert wrong == []


def test_every_file_says_what_it_is():
    wrong = [dotted(path) for path in modules(*EVERYTHING, "benchmarks") if not ast.get_docstring(tree(path))]
    assert wrong == []


def test_the_repository_names_no_machine():
    pattern = re.compile(r"/work/main|/work/shared|/tmp/venv|/tmp/team|/root/\.")
    suffixes = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".css", ".js", ".jinja", ".yaml"}
    own = [p for p in ROOT.rglob("*") if p.suffix in suffixes and not _hidden(p) and p.name != "test_source.py"]
    assert [str(p) for p in own if pattern.search(p.read_text(encoding="utf-8", errors="replace"))] == []


def _hidden(path):
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part in ("tunescope-data", "screenshots", "__pycache__") for part in parts)
