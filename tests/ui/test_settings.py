"""How Gradio is set up: nothing recorded, counted or sent elsewhere, uploads and requests bounded, doors closed."""

import html
import os
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from tests.app_process import ROOT, running_app
from tests.ui.people import Visitor, entry_of, file_data

CLOSED = (
    "monitoring",
    "monitoring/summary",
    "gradio_api/runs",
    "gradio_api/run-history/buckets",
    "gradio_api/dev/reload",
    "gradio_api/vibe-code",
    "gradio_api/profiling/summary",
    "gradio_api/mcp/sse",
)


@pytest.fixture(scope="module")
def proxy():
    """What a process would send to other machines goes here: the first bytes of each connection."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    seen.append(connection.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", seen


@pytest.fixture(scope="module")
def bounded(tmp_path_factory, proxy):
    """The app at home, with Gradio's analytics asked for from outside, small bounds, and a way out that is watched."""
    folder = tmp_path_factory.mktemp("bounded")
    bounds = {"TUNESCOPE_LIMIT_UPLOAD_MB": "1", "TUNESCOPE_LIMIT_REQUESTS": "24", "TUNESCOPE_LIMIT_DISK_MB": "2"}
    bounds["TUNESCOPE_LIMIT_ROWS"] = "2"
    ways = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), proxy[0])
    gradio = {"GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    with running_app(folder, {**bounds, **ways, **gradio, "NO_PROXY": "127.0.0.1,localhost"}) as app:
        yield app


def test_nothing_is_sent_elsewhere_though_gradios_analytics_were_asked_for(bounded, proxy):
    assert httpx.get(bounded.url, trust_env=False, verify=False).status_code == 200
    config = httpx.get(f"{bounded.url}/config", trust_env=False, verify=False).json()
    assert config["analytics_enabled"] is False and config["run_history"] is False
    assert proxy[1] == []


@pytest.mark.parametrize("route", CLOSED)
def test_routes_that_record_or_show_what_others_do_are_closed(bounded, route):
    assert httpx.get(f"{bounded.url}/{route}", trust_env=False, verify=False).status_code in (403, 404)


def test_another_sites_page_may_not_act_at_home(bounded):
    visitor = Visitor(bounded)
    entry = entry_of(bounded, "runs_line")
    body = {"data": [], "fn_index": entry["id"], "session_hash": visitor.session}
    for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1"):
        answer = visitor.post("run/predict", body, headers={"origin": origin})
        assert answer.status_code == 403 and "another site" in answer.json()["detail"]
        sent = visitor.upload("x.jsonl", b"{}", headers={"origin": origin})
        assert sent.status_code == 403
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    allowed = visitor.client.options("run/predict", headers=asked)
    assert "access-control-allow-origin" not in allowed.headers
    assert visitor.post("run/predict", body, headers={"origin": bounded.url}).status_code == 200
    behind = {"origin": "https://proxy.example", "sec-fetch-site": "same-origin"}
    assert visitor.post("run/predict", body, headers=behind).status_code == 200
    assert visitor.post("run/predict", body, headers={**behind, "sec-fetch-site": "cross-site"}).status_code == 403


def test_page_and_shell_refuse_the_same_file_with_the_same_sentence(bounded, tmp_path):
    visitor, path = Visitor(bounded), tmp_path / "three.jsonl"
    path.write_text("".join(f'{{"prompt": "ask {number}", "response": "answer"}}\n' for number in range(3)))
    uploaded = visitor.upload(path.name, path.read_bytes()).json()[0]
    said = visitor.call(entry_of(bounded, "bring_file"), [file_data(uploaded)])["output"]["error"]
    assert "more than 2 rows" in said
    environment = {**os.environ, "TUNESCOPE_LIMIT_ROWS": "2", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "finetune", "check", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and html.unescape(said) in done.stdout + done.stderr


def test_an_upload_that_is_too_large_is_refused_with_a_sentence(bounded):
    visitor = Visitor(bounded)
    answer = visitor.upload("large.jsonl", bytes(1_200_000))
    assert answer.status_code == 413 and "1 MB is the most" in answer.json()["detail"]
    assert "TUNESCOPE_LIMIT_UPLOAD_MB" in answer.json()["detail"]
    assert visitor.upload("small.jsonl", bytes(900_000)).status_code == 200

    def parts():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        yield from [bytes(100_000)] * 12
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert visitor.client.post("upload", content=parts(), headers=kind).status_code == 413


def test_files_that_are_uploaded_again_and_again_do_not_fill_the_disk(bounded):
    visitor = Visitor(bounded)
    answers = [visitor.upload(f"{number}.jsonl", bytes(800_000) + bytes([number])) for number in range(4)]
    assert [answer.status_code for answer in answers[-2:]] == [413, 413]
    assert "Wait a day: uploaded files are then deleted" in answers[-1].json()["detail"]


def test_too_many_requests_a_minute_are_refused_with_a_sentence(bounded):
    visitor = Visitor(bounded)
    entry = entry_of(bounded, "runs_line")
    answers = [visitor.predict(entry, []) for _ in range(25)]
    assert answers[-1].status_code == 429
    said = answers[-1].json()["detail"]
    assert "24 requests within a minute" in said and "TUNESCOPE_LIMIT_REQUESTS" in said


def test_the_cache_of_uploads_is_cleared_every_hour_of_what_is_a_day_old():
    from ui import page

    assert page.build().delete_cache == (3600, 86400)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--listen", "0.0.0.0"], {}, "TUNESCOPE_PASSWORD"),
        (["--host", "::"], {}, "TUNESCOPE_PASSWORD"),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, "TUNESCOPE_PASSWORD"),
        ([], {"TUNESCOPE_LIMIT_ROWS": "many"}, "TUNESCOPE_LIMIT_ROWS"),
        ([], {"TUNESCOPE_LOG": "xml"}, "TUNESCOPE_LOG"),
    ],
)
def test_the_app_does_not_start_open_to_others_or_with_a_setting_it_cannot_read(arguments, environment, said):
    command = [sys.executable, "app.py", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
