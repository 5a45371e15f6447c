"""The page opens what people have from before the modules moved: a share link, and the names of its entries."""

import pytest

from tests.app_process import call
from tests.fixtures.before_move import Before
from tests.rules import names


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return Before(tmp_path_factory.mktemp("before-move"))


def test_a_share_link_fills_compare_with_what_it_asks_for(app, before):
    entry = next(entry for entry in app.config()["dependencies"] if entry["api_name"] == "compare_opened")
    message = call(app, entry, [before.run("link")])
    assert message["success"], message
    prompt, model, seed, length, dtype, system, turns, raw, exact, columns, note, tab = message["output"]["data"]
    assert (prompt, model, seed, length, dtype) == ("how to make tea", before.run("finished"), 0, 12, "auto")
    assert (system, turns, raw, exact) == ("", "", False, False)
    laid = columns["value"]["lay"] if "value" in columns else columns["lay"]
    assert [card["strategy"] for card in laid] == ["greedy", "beam", "nucleus", "greedy"]
    assert "Filled from a link" in str(note) and tab["selected"] == "compare"


def test_no_entry_of_the_page_lost_its_name():
    assert set(names.kept()["endpoints"]) <= set(names.endpoints())
