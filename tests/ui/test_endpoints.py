"""What programs may ask the page, and what they get."""

import html
import json

import httpx
import pytest
from gradio_client import Client

from tests.ui.here import served
from tests.ui.people import Visitor, entry_of


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False, analytics_enabled=False)


def test_compare_is_the_one_endpoint_that_is_listed(client):
    listed = client.view_api(return_format="dict")
    assert list(listed["named_endpoints"]) == ["/compare"] and listed["unnamed_endpoints"] == {}
    parameters = {part["parameter_name"]: part for part in listed["named_endpoints"]["/compare"]["parameters"]}
    assert list(parameters) == [
        "prompt", "columns", "model", "adapter", "seed", "max_new_tokens", "dtype", "raw", "exact",
    ]  # fmt: skip
    assert parameters["columns"]["python_type"]["type"] == "list[str]"
    assert parameters["max_new_tokens"]["parameter_default"] == 100
    assert parameters["exact"]["python_type"]["type"] == "bool" and parameters["exact"]["parameter_default"] is False


def test_compare_answers_a_program(client, tiny_model):
    asked = ["greedy", "beam num_beams=2", "nucleus top_p=0.9 temperature=0.8"]
    result = client.predict(
        "the quick brown", asked, model=str(tiny_model), max_new_tokens=6, seed=3, api_name="/compare"
    )
    assert [column["name"] for column in result["columns"]] == asked
    assert all(1 <= len(column["token_ids"]) <= 6 for column in result["columns"])
    assert result["forwards"] <= 6


def test_a_program_may_ask_for_exactness(client, tiny_model):
    """Each column has forwards of its own then: two columns of one token are two."""
    given = {"model": str(tiny_model), "max_new_tokens": 1, "dtype": "bfloat16", "api_name": "/compare"}
    fast, exact = (client.predict("the", ["greedy", "sample"], exact=exact, **given) for exact in (False, True))
    assert [(one["exact"], one["forwards"]) for one in (fast, exact)] == [(False, 1), (True, 2)]


@pytest.mark.parametrize(
    ("columns", "model", "said"),
    [(["greedy top=1"], "", "greedy"), ([], "", "1 to 12"), (["greedy"], "/etc", "/etc"), (["greedy"], "../x", "../x")],
)
def test_what_is_wrong_comes_back_as_a_sentence(client, tiny_model, columns, model, said):
    with pytest.raises(Exception, match=said):
        client.predict("hello", columns, model=model or str(tiny_model), api_name="/compare")


NO_TYPES = [
    *[("seed", value) for value in ("abc", "7", None, 1.5, True, [7])],
    *[("max_new_tokens", value) for value in ("9", None, 2.5, 3.0, True, {"tokens": 3})],
    *[("columns", value) for value in ([1], None, "greedy", [None], {"greedy": 1}, [["greedy"]])],
    *[("prompt", value) for value in (5, ["hello"], True)],
    *[("model", value) for value in (None, 5, ["a/b"])],
    *[("adapter", value) for value in (5, False, {})],
    *[("dtype", value) for value in (5, ["float32"])],
    *[(name, value) for name in ("raw", "exact") for value in ("yes", None, 1)],
]


@pytest.fixture(scope="module")
def program(app):
    return Visitor(app)


@pytest.mark.parametrize(("field", "value"), NO_TYPES)
def test_a_field_of_another_type_is_refused_by_name_value_and_remedy(program, app, tiny_model, field, value):
    entry = entry_of(app, "compare")
    asked = {"prompt": "hi", "columns": ["greedy"], "model": str(tiny_model), "adapter": "", "seed": 0}
    asked |= {"max_new_tokens": 3, "dtype": "auto", "raw": False, "exact": False}
    message = program.call(entry, list((asked | {field: value}).values()), program.session)
    sentence = html.unescape(message["output"]["error"])
    assert f'"{field}" is {json.dumps(value)}' in sentence and "Use" in sentence


def test_sentences_hold_no_markup(app):
    entry = entry_of(app, "compare")
    message = Visitor(app).call(
        entry, ["hi", ["greedy"], "<img src=x onerror=alert(1)>", "", 0, 5, "auto", False, False]
    )
    assert "<img" not in message["output"]["error"] and "&lt;img" in message["output"]["error"]


def test_nothing_is_recorded_counted_or_shared(app):
    config = app.config()
    assert config["run_history"] is False and config["analytics_enabled"] is False
    assert httpx.get(f"{app.url}/monitoring/summary").status_code in (403, 404)
    assert httpx.get(f"{app.url}/gradio_api/runs").status_code == 404


def test_every_entry_goes_through_the_one_handler(locked):
    fns = [entry.fn for entry in locked.demo.fns.values() if entry.fn is not None]
    assert len(fns) > 20
    assert [fn for fn in fns if not getattr(fn, "tunescope_handler", False)] == []
    open_to_anyone = {fn.__name__ for fn in fns if fn.open_to_anyone}
    below = {"compare_seen", "compare_forks", "compare_curves", "compare_tree", "compare_tree_part"}
    below |= {"compare_csv", "compare_json", "compare_check", "compare_check_stop"}
    tab = {"compare", "compare_run", "compare_ask", "compare_stop", "compare_link", "compare_opened"}
    choosing = {"pick", "pick_open", "pick_filter", "pick_close"}
    assert open_to_anyone == tab | below | choosing | {"machine_line", "example"}


def test_a_handler_of_more_than_four_inputs_gets_them_by_name(locked):
    """But for the endpoint that programs call, whose order of parameters is listed."""
    many = [event for event in locked.demo.fns.values() if event.fn is not None and len(event.inputs) > 4]
    assert len(many) > 15
    assert [event.api_name for event in many if not event.inputs_as_dict] == ["compare"]


def test_no_event_of_the_page_leaves_a_status_on_what_it_gives(locked):
    """The page would look each of those up at the beginning and the end of every event, the timer's among them, and
    never rest (see ui/parts/wiring.py). One shows its progress, on one component."""
    events = [event for event in locked.demo.config["dependencies"] if event["api_name"] != "compare"]
    assert len(events) > 60
    shown = {event["api_name"]: len(event["show_progress_on"]) for event in events if event["show_progress_on"] != []}
    assert shown == {"choose_place": 1}


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """The page behind a password, served by this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(tmp_path_factory.mktemp("locked")))
        patch.setenv("TUNESCOPE_PASSWORD", "rhubarb")
        with served() as here:
            yield here


def test_with_a_password_nobody_gets_in_without(locked):
    config = httpx.get(f"{locked.url}/config")
    assert config.status_code == 401
    wrong = {"username": "tunescope", "password": "custard"}
    assert httpx.post(f"{locked.url}/login", data=wrong).status_code == 400
    right = httpx.post(f"{locked.url}/login", data={"username": "tunescope", "password": "rhubarb"})
    assert httpx.get(f"{locked.url}/config", cookies=right.cookies).status_code == 200


def test_exactly_one_line_is_printed_and_it_holds_the_address(app):
    first, *others = app.log.read_text().splitlines()
    assert first.endswith(app.url)
    assert not any(app.url in line for line in others)
