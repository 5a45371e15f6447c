"""What the app writes about itself: ids and outcomes, a JSON object a line, and nothing of anybody's."""

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from core import logs
from core.errors import UserError
from core.workspace import Owner
from tests.app_process import ROOT
from tests.hub.finished_run import make_finished_run
from tests.ui.people import Visitor, entry_of, file_data, filled

MARKER = "periwinkle-behind-the-shed"
ALLOWED = ("Tunescope is open at", "GRADIO_HOT_RELOAD")


@pytest.fixture(scope="module")
def written(space, tmp_path_factory):
    """A whole session of somebody with a secret token; returns all that the app wrote, and the folder it lives in."""
    folder = space.log.parent
    ada = Visitor(space, "70cc33dd44", token=space.token)
    path = ada.upload("diary.jsonl", json.dumps({"prompt": MARKER, "response": MARKER}).encode()).json()[0]
    data = [file_data(path)]
    assert (
        ada.call(entry_of(space, "look"), data)["success"] and ada.call(entry_of(space, "bring_file"), data)["success"]
    )
    dataset = next(item.name for item in (folder / "home" / ada.sub / "datasets").iterdir() if item.name[0] != ".")
    assert MARKER in json.dumps(ada.call(entry_of(space, "show"), [dataset, "chat", space.model, 64]))
    asked = [MARKER, ["greedy", "sample"], space.model, "", 1, 4, "float32", True, False]
    assert ada.call(entry_of(space, "compare"), asked)["success"]
    assert Visitor(space).call(entry_of(space, "compare"), asked)["success"]
    _publish(space, ada, folder)
    _fail(space, ada)
    return space.log.read_text(), folder


def _publish(space, ada, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        run = make_finished_run(Owner(ada.sub), folder / "endless", base_text=space.model)
    known = {"publish-run": run.id, "publish-repo": f"{space.user}/of-the-log", "publish-visibility": "private"}
    assert ada.join(entry_of(space, "preview"), filled(space, entry_of(space, "preview"), known)).status_code == 200
    said = [message for message in ada.read() if message["msg"] == "process_completed"]
    assert said[-1]["success"], said
    (known["publish-text"],) = [value for value in said[-1]["output"]["data"] if str(value).startswith("---")]
    sends = space.log.read_text().count('"handler": "send"')
    assert ada.join(entry_of(space, "send"), filled(space, entry_of(space, "send"), known)).status_code == 200
    while not (run.folder / "published.json").is_file():
        assert space.log.read_text().count('"handler": "send"') == sends, "the push ended too soon"
        time.sleep(0.05)
    ada.post("run/predict", {"data": [], "fn_index": entry_of(space, "stop_1")["id"], "session_hash": ada.session})
    assert ada.read()


def _fail(space, ada):
    """Inputs that no component takes, a bug's worth of them, mistakes of a person, and routes that are closed."""
    for name in ("show", "bring_hub", "compare_run", "fill_from_yaml", "show_yaml"):
        entry = entry_of(space, name)
        for value in (MARKER, {"path": MARKER}, [MARKER], {MARKER: MARKER}):
            assert not ada.call(entry, [value] * len(entry["inputs"]))["success"]
            assert ada.predict(entry, [value]).status_code != 200
    assert not ada.call(entry_of(space, "compare"), ["hi", [MARKER], MARKER, "", 1, 4, "auto", True, False])["success"]
    assert ada.get(f"file=/{MARKER}").status_code == 403
    assert ada.post("queue/join", [MARKER]).status_code == 422
    assert ada.post(f"component_server?{MARKER}", {"data": MARKER}).status_code == 404


@pytest.mark.ci
def test_nothing_of_anybodys_stands_in_what_the_app_wrote(written, space):
    text, _ = written
    for secret in (MARKER, space.token, "hf_token_of_the_test", "client-secret-of-the-test", "70cc33dd44"):
        assert secret not in text, [line for line in text.splitlines() if secret in line][:3]


@pytest.mark.ci
def test_a_token_lies_nowhere_on_the_disk(written, space):
    _, folder = written
    found = subprocess.run(["grep", "-rl", space.token, folder], capture_output=True, text=True)
    assert found.stdout == ""


@pytest.mark.ci
def test_every_line_is_an_object_that_says_when_how_grave_and_what(written):
    text, _ = written
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(ALLOWED)]
    told = [json.loads(line) for line in lines]
    assert all({"time", "level", "event"} <= set(line) for line in told)
    calls = [line for line in told if line["event"] == "call"]
    assert {"compare", "look", "bring_file", "send", "show"} <= {call["handler"] for call in calls}
    assert all({"id", "visitor", "ms", "outcome"} <= set(call) for call in calls)
    assert all("owner" in call for call in calls if call["outcome"] == "ok")
    assert {"ok", "refused decode.strategy_unknown"} <= {call["outcome"] for call in calls}
    assert any(line["event"] == "turned away" for line in told)


PROGRAM = """
import logging, threading, traceback, warnings
from core import logs
logs.set_up()
try:
    raise ValueError("SECRET")
except ValueError as error:
    logging.getLogger("tunescope").error("broken %s", "1234", exc_info=error)
    traceback.print_exc()
    try:
        raise KeyError("SECRET") from error
    except KeyError as later:
        logging.getLogger("somebody.else").error("could not open %s", "SECRET", exc_info=later)
def work():
    raise OSError("SECRET")
thread = threading.Thread(target=work)
thread.start()
thread.join()
with logs.timed("call", handler="look") as facts:
    facts["owner"] = logs.pseudonym("ada")
raise RuntimeError("SECRET")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_is_told_by_kind_and_place_without_its_message(form, tmp_path):
    env = {**os.environ, "TUNESCOPE_LOG": form, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "SECRET" not in done.stdout + done.stderr
    for word in ("1234", "ValueError", "KeyError", "OSError", "RuntimeError", "could not open %s", "look"):
        assert word in done.stderr, done.stderr
    if form == "json":
        told = [json.loads(line) for line in done.stderr.splitlines()]
        assert [line["event"] for line in told] == ["broken 1234", "traceback", "library", "thread", "call", "crash"]
        assert "ada" not in told[4]["owner"]


def test_a_file_takes_the_lines_where_one_is_named(tmp_path):
    path = tmp_path / "app.log"
    env = {**os.environ, "TUNESCOPE_LOG": "json", "TUNESCOPE_LOG_FILE": str(path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "" and len(path.read_text().splitlines()) == 6


def test_a_form_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LOG", "xml")
    with pytest.raises(UserError, match='"xml"'):
        logs.set_up()
    assert not isinstance(logging.root.handlers[:1] and logging.root.handlers[0].formatter, logs._Json)
