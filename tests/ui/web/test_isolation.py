"""Two who are signed in and one who is not try, with each other's ids, every entry and every route of the page."""

import html
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from core.files import write_json
from core.workspace import Owner
from finetune.config.run_config import validate
from finetune.runs.job_record import JobRecord, save
from finetune.runs.lock import take
from finetune.runs.run import Run, create
from tests.app_process import SPACE
from tests.ui.people import Visitor, config_of, entries, entry_of, file_data, filled, new_session, snapshot

pytestmark = pytest.mark.matrix

MARKER = "larkspur-under-the-window"
ROWS = [{"prompt": f"say {number}", "response": f"{MARKER} {number}"} for number in range(3)]
OF_JOBS = ("choose_place", "reprice", "start", "rent", "check", "show_17", "stop_run", "resume_run", "rent_again")
"""The entries about jobs; they are attached, followed and their results fetched by `runs_line`, for who asks."""
CONFIG = {"stages": [{"objective": "sft", "data": [{"dataset": "ab" * 32}]}], "watch": {"samples": [MARKER]}}


@dataclass
class Things:
    """What is Ada's: an uploaded file, a dataset, a run that ended, one at work, the process of that one, and one on a
    rented machine."""

    folder: Path
    upload: str
    dataset: str
    stopped: Run
    working: Run
    rented: Run
    process: subprocess.Popen


@pytest.fixture(scope="module")
def ada(space):
    return Visitor(space, "5f1d2c3b4a")


@pytest.fixture(scope="module")
def others(space):
    return {"grace": Visitor(space, "60aa11bb22"), "nobody": Visitor(space)}


@pytest.fixture(scope="module")
def things(space, ada):
    """Ada's things; the run at work is held by this process, its handle names a process that a stop would end."""
    path = ada.upload("diary.jsonl", "\n".join(map(json.dumps, ROWS)).encode()).json()[0]
    joined = ada.join(entry_of(space, "bring_file"), [file_data(path)])
    assert joined.status_code == 200 and ada.read()[-2]["success"]
    home = space.log.parent / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(home))
        owner = Owner(ada.sub)
        stopped, working, rented = (create(validate(CONFIG), owner) for _ in range(3))
    for run in (stopped, working, rented):
        run.log.write("started", steps=9, step=0, device="cpu", dtype="float32", trainable=1, total=1)
        run.log.write("sample", step=3, prompt=MARKER, text=MARKER)
        run.log_path.write_text(MARKER)
    stopped.log.write("stopped", step=3)
    _rent(rented)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    write_json(working.folder / "handle.json", {"host": os.uname().nodename, "pid": process.pid})
    lock = take(working)
    dataset = next(path.name for path in (home / ada.sub / "datasets").iterdir() if not path.name.startswith("."))
    yield Things(home / ada.sub, path, dataset, stopped, working, rented, process)
    os.close(lock)
    process.kill()
    process.wait()


def _rent(run):
    """Make it a job at work, as far as was heard: its record, a sample of its machine, a result that came."""
    url = f"http://127.0.0.1:9/{MARKER}"
    save(run, JobRecord("ab" * 12, url, "ada", "a10g-small", 1.0, 7200, 1, "ada/in", "ada/out", stage="RUNNING"))
    (run.folder / "metrics.jsonl").write_text(json.dumps({"cpu_usage_pct": 7, "note": MARKER}) + "\n")
    run.model.mkdir()
    (run.model / "adapter_config.json").write_text(MARKER)


def naming(things, run):
    """Ada's ids for the fields that take one."""
    ids = {"datasets": things.dataset, "train-on": [things.dataset], "publish-repo": "grace/mine", "prompt": "hi"}
    files = {"upload": file_data(things.upload), "upload-yaml": file_data(things.upload)}
    return ids | files | dict.fromkeys(("runs", "publish-run", "compare-model"), run.id)


def asking(space, entry, things, run):
    """The inputs of an entry with Ada's ids wherever one fits, and else what the page shows at first."""
    if entry["api_name"] == "compare":
        return ["hi", ["greedy"], run.id, "", 0, 5, "auto", False]
    known = naming(things, run)
    parts = {part["id"]: part for part in config_of(space.url)["components"]}
    lists = (parts[number]["props"] for number in entry["inputs"] if parts[number]["type"] == "dropdown")
    for props in lists:  # lists that are filled for each visitor take ids, too
        if props.get("elem_id") and not props["choices"]:
            known.setdefault(props["elem_id"], [run.id] if props.get("multiselect") else run.id)
    return filled(space, entry, known)


def test_ada_herself_reaches_what_is_hers(space, ada, things):
    """So that the refusals below mean something."""
    said = {}
    for name in ("show_14", "show_17", "refresh", "refresh_1", "show_yaml"):
        entry = entry_of(space, name)
        said[name] = json.dumps(ada.call(entry, asking(space, entry, things, things.stopped))["output"])
    assert things.dataset in said["refresh"] and things.stopped.id in said["refresh_1"]
    assert MARKER in said["show_17"] + said["show_14"]
    assert ada.get(f"file={things.upload}").text.count(MARKER) == 3
    view = entry_of(space, "show_17")
    job = json.dumps(ada.call(view, asking(space, view, things, things.rented)))
    assert f"127.0.0.1:9/{MARKER}" in job and "a10g-small" in job


@pytest.mark.ci
@pytest.mark.parametrize("who", ["grace", "nobody"])
def test_no_entry_shows_or_changes_what_is_anothers(space, others, things, who):
    """Slow: more than a hundred calls, each of which Gradio answers in some tenths of a second."""
    visitor, before = others[who], snapshot(things.folder)
    tries = [(entry, asking(space, entry, things, things.working)) for entry in entries(space)]
    for entry in (entry_of(space, name) for name in ("show_17", "resume_run", "preview", "send", "compare_run")):
        tries.append((entry, asking(space, entry, things, things.stopped)))
    tries += [(entry, asking(space, entry, things, things.rented)) for entry in map(partial(entry_of, space), OF_JOBS)]
    assert len(tries) > 60

    def attempt(tasks):
        session = new_session()
        for entry, data in tasks:
            name = f"{entry['id']} {entry['api_name']}"
            yield name, visitor.call(entry, data, session), visitor.predict(entry, data, session)

    with ThreadPoolExecutor(2) as pool:
        answers = [one for half in pool.map(list, map(attempt, (tries[::2], tries[1::2]))) for one in half]
    told = [(name, json.dumps(message) + direct.text) for name, message, direct in answers]
    assert [(name, text) for name, text in told if MARKER in text] == []
    assert {name for name, text in told if who == "nobody" and things.dataset in text} == set()
    if who == "nobody":
        got = {name for name, message, direct in answers if message["success"] or direct.status_code == 200}
        assert all("compare" in name or "_check_login_status" in name for name in got)
    for run in (things.stopped, things.working, things.rented):
        said = visitor.call(entry_of(space, "compare"), ["hi", ["greedy"], run.id, "", 0, 5, "auto", False, False])
        assert f'Run "{run.id}" was not found' in html.unescape(said["output"]["error"])
    assert snapshot(things.folder) == before and things.process.poll() is None


def test_a_config_that_names_anothers_things_is_refused(space, others, things):
    grace, entry = others["grace"], entry_of(space, "fill_from_yaml")
    for name in (things.dataset, things.dataset[:12]):
        text = f"stages: [{{objective: sft, data: [{{dataset: {name}}}]}}]"
        path = grace.upload("config.yaml", text.encode()).json()[0]
        message = grace.call(entry, [file_data(path)])
        assert not message["success"] and MARKER not in json.dumps(message)
    for path in (things.upload, things.folder / "datasets" / things.dataset / "rows.parquet", things.stopped.log_path):
        text = f"stages: [{{objective: sft, data: [{{path: {path}}}]}}]"
        uploaded = grace.upload("config.yaml", text.encode()).json()[0]
        message = grace.call(entry, [file_data(uploaded)])
        assert not message["success"] and MARKER not in json.dumps(message), path


def routes(ada, things, event, entry):
    """Every route of Gradio that takes an id, with Ada's: what it is, how it is asked."""
    rows = things.folder / "datasets" / things.dataset / "rows.parquet"
    session, joined = ada.session, {"data": [], "fn_index": entry["id"], "session_hash": ada.session}
    again = {"data": [None] * 6, "fn_index": entry_of(ada.app, "bring_again")["id"], "session_hash": session}
    other_file = {"data": [file_data(things.upload)], "fn_index": entry_of(ada.app, "bring_file")["id"]}
    crooked = f"{Path(things.upload).parent}/../{Path(things.upload).parent.name}/diary.jsonl"
    server = {"data": None, "component_id": 1, "session_hash": session, "fn_name": "ls"}
    return {
        "join the queue in her session": lambda v: v.post("queue/join", joined).status_code,
        "with the file her session remembers": lambda v: v.post("queue/join", again).status_code,
        "with her uploaded file": lambda v: v.post("queue/join", {**other_file, "session_hash": v.session}).status_code,
        "with it, crookedly named": lambda v: v.post(
            "queue/join",
            {"data": [file_data(crooked)], "fn_index": other_file["fn_index"], "session_hash": v.session},
        ).status_code,
        "directly in her session": lambda v: v.post("run/predict", joined).status_code,
        "under Gradio's older name": lambda v: v.post("api/predict", joined).status_code,
        "by name in her session": lambda v: v.post("call/compare", {**joined, "data": []}).status_code,
        "read her stream": lambda v: v.looks(f"queue/data?session_hash={session}"),
        "read it, hers named second": lambda v: v.looks(f"queue/data?session_hash=x&session_hash={session}"),
        "read her event": lambda v: v.looks(f"call/compare_machine/{event}"),
        "read her event, newer route": lambda v: v.looks(f"call/v2/compare_machine/{event}"),
        "cancel her event": lambda v: v.post(
            "cancel", {"session_hash": session, "fn_index": entry["id"], "event_id": event}
        ).status_code,
        "cancel it from an own session": lambda v: v.post(
            "cancel", {"session_hash": v.session, "fn_index": entry["id"], "event_id": event}
        ).status_code,
        "reset her event": lambda v: v.post("reset", {"event_id": event}).status_code,
        "give her event other inputs": lambda v: v.post(f"stream/{event}", joined).status_code,
        "close her event": lambda v: v.post(f"stream/{event}/close").status_code,
        "end her session by its heartbeat": lambda v: v.looks(f"heartbeat/{session}"),
        "a media stream of hers": lambda v: v.get(f"stream/{session}/1/1/playlist.m3u8").status_code,
        "a component's function in her session": lambda v: v.post("component_server", server).status_code,
        "a link to her session's state": lambda v: v.get("deep_link", params={"session_hash": session}).status_code,
        "her uploaded file": lambda v: v.get(f"file={things.upload}").status_code,
        "it, by the older route": lambda v: v.get(f"file/{things.upload}").status_code,
        "it, crookedly named": lambda v: v.get(f"file={crooked}").status_code,
        "her dataset's file": lambda v: v.get(f"file={rows}").status_code,
        "her run's log": lambda v: v.get(f"file={things.stopped.log_path}").status_code,
        "her job's record": lambda v: v.get(f"file={things.rented.folder / 'job.json'}").status_code,
        "her job's metrics": lambda v: v.get(f"file={things.rented.folder / 'metrics.jsonl'}").status_code,
        "her job's result": lambda v: v.get(f"file={things.rented.model / 'adapter_config.json'}").status_code,
        "how far her upload is": lambda v: v.looks("upload_progress?upload_id=adas-upload"),
        "take part in her upload": lambda v: v.upload("x.txt", b"x", params={"upload_id": "adas-upload"}).status_code,
        "the app through its own proxy": lambda v: v.get("proxy=http://127.0.0.1/").status_code,
        "a page of elsewhere as a file": lambda v: v.get("file=http://127.0.0.1:9/x").status_code,
    }  # fmt: skip


def test_no_route_of_gradio_takes_anothers_ids(space, ada, others, things):
    entry = entry_of(space, "compare_machine")
    event = ada.join(entry, []).json()["event_id"]
    assert ada.upload("notes.txt", b"mine", params={"upload_id": "adas-upload"}).status_code == 200
    table = {
        what: [ask(visitor) for visitor in others.values()] for what, ask in routes(ada, things, event, entry).items()
    }
    print(*(f"{what:45} {answers}" for what, answers in table.items()), sep="\n")
    assert {what: answers for what, answers in table.items() if not set(answers) <= {403, 404}} == {}
    assert [message["success"] for message in ada.read() if message["msg"] == "process_completed"] == [True]
    assert ada.get(f"file={things.upload}").status_code == 200


def test_strangers_with_cookies_of_their_own_are_told_apart(space):
    """The page gives each a cookie; one's session is closed to another, and to who drops the cookie."""
    given = [httpx.get(space.url, verify=False).headers["set-cookie"].split(";")[0] for _ in range(2)]
    assert given[0] != given[1] and all(cookie.startswith("tunescope_visitor=") for cookie in given)
    entry = entry_of(space, "compare_tea")
    body = {"data": [], "fn_index": entry["id"], "session_hash": "a-strangers-session"}
    url = f"{space.url}/gradio_api/run/predict"
    answers = [httpx.post(url, json=body, headers={"cookie": cookie}) for cookie in [*given, given[0], "x=y"]]
    assert [answer.status_code for answer in answers] == [200, 403, 200, 403]


def test_another_sites_page_may_do_nothing_with_a_visitors_cookie(space, ada):
    entry = entry_of(space, "runs_line")
    body = {"data": [], "fn_index": entry["id"], "session_hash": ada.session}
    for origin in ("https://elsewhere.example", "null", space.url + ".elsewhere.example"):
        answer = ada.post("run/predict", body, headers={"origin": origin, "x-forwarded-host": "elsewhere.example"})
        assert answer.status_code == 403 and "another site" in answer.json()["detail"]
    assert ada.post("run/predict", body, headers={"origin": space.url}).status_code == 200


def test_a_sign_in_that_has_ended_counts_for_nothing(space, ada, things):
    """The same cookie, once its token is past: no longer Ada, also at the gate."""
    import base64
    import hashlib

    import itsdangerous

    info = {"access_token": "hf_x", "scope": "openid", "expires_at": 1, "userinfo": {"sub": ada.sub}}
    key = hashlib.sha256(f"{SPACE['OAUTH_CLIENT_SECRET']}-v4".encode()).hexdigest()
    past = itsdangerous.TimestampSigner(key).sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()
    for cookie in (f"session={past}", f"session={past[:-2]}xx", "session=x"):
        answer = httpx.get(f"{space.url}/gradio_api/file={things.upload}", headers={"cookie": cookie})
        assert answer.status_code == 403
