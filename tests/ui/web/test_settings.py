"""How Gradio is set up: nothing recorded, counted or sent elsewhere, uploads and requests bounded, doors closed."""

import html

import httpx
import pytest

from app import main
from finetune.cli.main import main as finetune
from tests.ui.here import served
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
def bounded(tmp_path_factory):
    """The page at home, served by this process, with the bound that is read when it starts; each test sets others."""
    folder = tmp_path_factory.mktemp("bounded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        patch.setenv("TUNESCOPE_LIMIT_UPLOAD_MB", "1")
        with served() as here:
            yield here


def test_nothing_is_sent_elsewhere_though_gradios_analytics_were_asked_for(app, way_out):
    assert httpx.get(app.url, trust_env=False, verify=False).status_code == 200
    config = httpx.get(f"{app.url}/config", trust_env=False, verify=False).json()
    assert config["analytics_enabled"] is False and config["run_history"] is False
    assert way_out.seen == []


@pytest.mark.parametrize("route", CLOSED)
def test_routes_that_record_or_show_what_others_do_are_closed(app, route):
    assert httpx.get(f"{app.url}/{route}", trust_env=False, verify=False).status_code in (403, 404)


def test_another_sites_page_may_not_act_at_home(app):
    visitor = Visitor(app)
    entry = entry_of(app, "runs_line")
    body = {"data": [], "fn_index": entry["id"], "session_hash": visitor.session}
    for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1"):
        answer = visitor.post("run/predict", body, headers={"origin": origin})
        assert answer.status_code == 403 and "another site" in answer.json()["detail"]
        sent = visitor.upload("x.jsonl", b"{}", headers={"origin": origin})
        assert sent.status_code == 403
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    allowed = visitor.client.options("run/predict", headers=asked)
    assert "access-control-allow-origin" not in allowed.headers
    assert visitor.post("run/predict", body, headers={"origin": app.url}).status_code == 200
    behind = {"origin": "https://proxy.example", "sec-fetch-site": "same-origin"}
    assert visitor.post("run/predict", body, headers=behind).status_code == 200
    assert visitor.post("run/predict", body, headers={**behind, "sec-fetch-site": "cross-site"}).status_code == 403


def test_page_and_shell_refuse_the_same_file_with_the_same_sentence(bounded, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNESCOPE_LIMIT_ROWS", "2")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    visitor, path = Visitor(bounded), tmp_path / "three.jsonl"
    path.write_text("".join(f'{{"prompt": "ask {number}", "response": "answer"}}\n' for number in range(3)))
    uploaded = visitor.upload(path.name, path.read_bytes()).json()[0]
    said = visitor.call(entry_of(bounded, "bring_file"), [file_data(uploaded)])["output"]["error"]
    assert "more rows than the limit of 2" in said
    assert finetune(["check", str(path)]) == 2
    assert html.unescape(said) in "".join(capsys.readouterr())


def test_an_upload_that_is_too_large_is_refused_with_a_sentence(bounded, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_UPLOAD_MB", "1")
    visitor = Visitor(bounded)
    answer = visitor.upload("large.jsonl", bytes(1_200_000))
    assert answer.status_code == 413 and "the limit is 1 MB" in answer.json()["detail"]
    assert "TUNESCOPE_LIMIT_UPLOAD_MB" in answer.json()["detail"]
    assert visitor.upload("small.jsonl", bytes(900_000)).status_code == 200

    def parts():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        yield from [bytes(100_000)] * 12
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert visitor.client.post("upload", content=parts(), headers=kind).status_code == 413


def test_files_that_are_uploaded_again_and_again_do_not_fill_the_disk(bounded, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_UPLOAD_MB", "1")
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "2")
    visitor = Visitor(bounded)
    answers = [visitor.upload(f"{number}.jsonl", bytes(800_000) + bytes([number])) for number in range(4)]
    assert [answer.status_code for answer in answers[-2:]] == [413, 413]
    assert "Wait a day: uploaded files are then deleted" in answers[-1].json()["detail"]


@pytest.mark.ci
def test_too_many_requests_a_minute_are_refused_with_a_sentence(bounded, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_REQUESTS", "24")
    visitor = Visitor(bounded)
    entry = entry_of(bounded, "runs_line")
    answers = [visitor.predict(entry, []) for _ in range(25)]
    assert answers[-1].status_code == 429
    said = answers[-1].json()["detail"]
    assert "24 requests within a minute" in said and "TUNESCOPE_LIMIT_REQUESTS" in said


def test_the_cache_of_uploads_is_cleared_every_hour_of_what_is_a_day_old(bounded):
    assert bounded.demo.delete_cache == (3600, 86400)


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
def test_the_app_does_not_start_open_to_others_or_with_a_setting_it_cannot_read(
    arguments, environment, said, monkeypatch, capsys
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["--port", "0", *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == "" and len(told.err.strip().splitlines()) == 1
