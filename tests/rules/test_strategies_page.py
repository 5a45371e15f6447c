"""The page of strategies is what the table says, and each names a test that is there."""

from inference.strategies.docs_page import HELD, page
from inference.strategies.knobs import Knob
from inference.strategies.table import STRATEGIES
from tests.rules.source import ROOT, tree


def test_the_page_of_strategies_is_what_the_table_says():
    assert (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8") == page()


def test_every_strategy_names_the_test_that_compares_it_and_that_test_runs_it():
    assert set(HELD) == set(STRATEGIES)
    for key, (_, where) in HELD.items():
        name, function = where.split("::")
        path = ROOT / "tests" / "tiny" / name
        assert function in {getattr(node, "name", "") for node in tree(path).body}, where
        source = path.read_text(encoding="utf-8")
        assert f'"{key}' in source or f"{key} " in source, f"{name} does not run {key}"


def test_every_knob_stands_in_the_page_with_its_bounds():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    for strategy in STRATEGIES.values():
        own = next(row for row in rows if row.startswith(f"| `{strategy.key}` | **"))
        for knob in (*strategy.knobs, *strategy.more):
            assert isinstance(knob, Knob)
            row = next(row for row in rows if row.startswith(f"| `{knob.name}` | ") and " | **" not in row)
            assert f"{knob.maximum:,}".removesuffix(".0") in row or knob.type in ("choice", "texts", "ids"), knob.name
        assert all(f"`{knob.name}` {str(knob.default).lower()} (" in own for knob in strategy.knobs)
        assert strategy.source in own
