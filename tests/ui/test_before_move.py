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
    ids = {part["id"]: part["props"].get("elem_id") for part in app.config()["components"]}
    values = dict(zip(map(ids.get, entry["outputs"]), message["output"]["data"], strict=True))
    filled = {"prompt": "how to make tea", "compare-model": before.run("finished"), "compare-seed": 0}
    filled |= {"compare-length": 12, "compare-dtype": "auto", "compare-raw": False, "compare-exact": False}
    assert {name: values[name] for name in filled} == filled
    unnamed = [value for part, value in zip(entry["outputs"], message["output"]["data"], strict=True) if not ids[part]]
    assert unnamed.count("") == 2, "no system message and no earlier turns"
    (tab,) = filter(None, unnamed)
    columns, note = values["feed-link"], values["compare-status"]
    laid = columns["value"]["lay"] if "value" in columns else columns["lay"]
    assert [card["strategy"] for card in laid] == ["greedy", "beam", "nucleus", "greedy"]
    assert "Filled from a link" in str(note) and tab["selected"] == "compare"


def test_no_entry_of_the_page_lost_its_name():
    assert set(names.kept()["endpoints"]) <= set(names.endpoints())
