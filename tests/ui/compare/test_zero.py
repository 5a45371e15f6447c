"""The app on a ZeroGPU Space, as far as a machine without one can show: under a stand-in for `spaces` that forks."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from core import settings
from core.errors import UserError
from finetune.cli.main import main
from inference.compare.request import CompareRequest, check_request
from inference.compare.work import ColumnGroup, PreparedComparison
from inference.compare.zerogpu import LONGEST, SHORTEST, _parts, check_seconds, seconds
from inference.events import ColumnResult, Result
from inference.models.types import Fetched, Source
from tests.app_process import running_app
from tests.tiny.training import write_data
from tests.ui.hub_models import make_endless_model
from tests.ui.people import CLOSING, Visitor, entry_of, on_the_board
from ui.compare import tab as compare_tab

STAND_IN = Path(__file__).parents[1] / "zerogpu"
COLUMNS = ["greedy", "beam num_beams=2", "nucleus top_p=0.9 temperature=0.8"]
LONG = 2000


def _environment(folder):
    """A Space on ZeroGPU, in a Python of its own: `spaces` has to be imported before torch."""
    path = os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    found = {"SPACES_ZERO_GPU": "true", "PYTHONPATH": path, "SPACES_STAND_IN_LOG": str(folder / "spaces.log")}
    return found | {"TUNESCOPE_PYTHON": ""}


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    return make_endless_model(tmp_path_factory.mktemp("endless") / "model")


@pytest.fixture(scope="module")
def zero(tmp_path_factory):
    """Takes ten seconds and more to start: which library is imported when is what this is about."""
    folder = tmp_path_factory.mktemp("zero")
    with running_app(folder, {"OMP_NUM_THREADS": "1", **_environment(folder)}) as app:
        assert Visitor(app).call(entry_of(app, "compare_machine"), [])["success"]
        yield app


def _facts_of(app, event):
    lines = (app.log.parent / "spaces.log").read_text().splitlines()
    return [fact for line in lines if (fact := json.loads(line))["event"] == event]


def _compare(app, model, columns, tokens=8, exact=False):
    said = Visitor(app).call(
        entry_of(app, "compare"), ["the quick", columns, str(model), "", 3, tokens, "float32", True, exact]
    )
    return said["output"]["data"][0] if said["success"] else said["output"]["error"]


def _here(model, columns, tokens=8, exact=False):
    """The same without a GPU, written by this process."""
    request = SimpleNamespace(headers={"accept-language": "en"}, session_hash="tab")
    asked = ["the quick", columns, str(model), "", 3, tokens, "float32", True, exact]
    return compare_tab.compare(request, None, None, *asked)


@pytest.mark.ci
def test_spaces_comes_before_torch_and_knows_the_work_when_the_page_is_launched(zero):
    assert [(fact["wrapped"], fact["torch_was_there"]) for fact in _facts_of(zero, "launched")] == [(2, False)]


@pytest.mark.ci
def test_compare_writes_the_same_in_a_forked_process(zero, tiny_model):
    here, there = _here(tiny_model, COLUMNS), _compare(zero, tiny_model, COLUMNS)
    for name in ("name", "token_ids", "text", "finish"):
        assert [column[name] for column in there["columns"]] == [column[name] for column in here["columns"]]
    assert there["forwards"] == here["forwards"]
    scheduled, worked = _facts_of(zero, "schedule")[-1], _facts_of(zero, "worked")[-1]
    assert scheduled["pid"] == zero.process.pid != worked["pid"]
    assert scheduled["seconds"] == SHORTEST and worked["items"] > len(COLUMNS)


@pytest.mark.ci
def test_what_is_exact_is_written_there_too(zero, tiny_model):
    here, there = _here(tiny_model, COLUMNS, exact=True), _compare(zero, tiny_model, COLUMNS, exact=True)
    assert [column["token_ids"] for column in there["columns"]] == [column["token_ids"] for column in here["columns"]]
    assert there["exact"] is True and there["forwards"] == here["forwards"]
    assert _facts_of(zero, "schedule")[-1]["pid"] != _facts_of(zero, "worked")[-1]["pid"]


def _done(visitor, name, data):
    """What an entry of the page gives at last, in the visitor's own session."""
    visitor.join(entry_of(visitor.app, name), data)
    closing = [message for message in visitor.read() if message["msg"] in CLOSING][-1]
    assert closing["success"], closing
    return closing["output"]["data"]


@pytest.mark.ci
def test_the_check_runs_in_a_forked_process_and_its_verdicts_come_back(zero, tiny_model):
    visitor = Visitor(zero)
    _done(visitor, "compare_run", on_the_board(str(tiny_model), ["greedy", "beam", "sample", "mirostat"], 8))
    shown = _done(visitor, "compare_check", [])[1]
    assert shown.count("ts-is-identical") == 3 and shown.count("ts-is-none") == 1
    scheduled, worked = _facts_of(zero, "schedule")[-1], _facts_of(zero, "worked")[-1]
    assert (scheduled["seconds"], worked["items"]) == (SHORTEST, 4)
    assert scheduled["pid"] == zero.process.pid != worked["pid"]


@pytest.mark.ci
def test_the_process_and_its_models_serve_the_next_comparison(zero, tiny_model):
    first, second = (_compare(zero, tiny_model, ["greedy"]) for _ in range(2))
    assert first["columns"][0]["text"] == second["columns"][0]["text"]
    assert len({fact["pid"] for fact in _facts_of(zero, "worked")[-2:]}) == 1


@pytest.mark.ci
def test_what_is_wrong_there_comes_back_as_a_sentence(zero, tiny_model):
    said = _compare(zero, tiny_model, ["greedy"], tokens=600)
    assert "600" in said and "512" in said, said


@pytest.mark.ci
def test_what_would_take_too_long_is_refused_before_the_gpu_is_asked_for(zero, tiny_model):
    before = len(_facts_of(zero, "schedule"))
    said = _compare(zero, tiny_model, ["beam num_beams=8"] * 12, tokens=1000)
    assert f"allows {LONGEST} s per comparison" in said, said
    assert len(_facts_of(zero, "schedule")) == before


@pytest.mark.ci
def test_stop_ends_the_forked_work_and_keeps_what_is_written(zero, endless):
    visitor = Visitor(zero)
    data = on_the_board(str(endless), ["greedy"], LONG)
    assert visitor.join(entry_of(zero, "compare_run"), data).status_code == 200
    with visitor.client.stream("GET", "queue/data", params={"session_hash": visitor.session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {}
            if message.get("msg") == "process_generating" and "is generating" in line:
                stop = {"data": [], "fn_index": entry_of(zero, "compare_stop")["id"], "session_hash": visitor.session}
                assert Visitor(zero).post("run/predict", stop).status_code == 200
            if message.get("msg") == "process_completed":
                break
    assert message["success"], message
    assert 0 < _facts_of(zero, "worked")[-1]["items"] < LONG
    (column,) = message["output"]["data"][0]["columns"]
    assert ["stopped", "finish"] in column["figures"] and column["firm"], column["figures"]


def _work(folder, columns, tokens, exact=False):
    request = CompareRequest("m", columns, "hi", max_new_tokens=tokens, exact=exact)
    group = ColumnGroup(Source(Fetched(folder, "m", "m", None, False, "0" * 64, 8192)))
    for place, spec in enumerate(check_request(request)):
        group.add(place, spec, plain=False)
    return PreparedComparison(request, [group], 0.0)


def test_the_time_asked_for_grows_with_tokens_columns_and_weights(tiny_model):
    def asked(tokens, columns, exact=False):
        return seconds(_work(tiny_model, columns, tokens, exact))

    assert asked(10, ["greedy"]) == SHORTEST
    assert SHORTEST < asked(500, ["greedy"]) < asked(500, ["greedy"] * 12) < asked(500, ["beam num_beams=4"] * 12)
    assert asked(500, ["greedy"] * 2) < asked(500, ["greedy", "lookup"]) < asked(500, ["greedy", "lookup"] * 2)
    assert asked(500, ["greedy"]) == asked(500, ["greedy"], exact=True) < asked(500, ["greedy"] * 3, exact=True)
    for columns, exact in ((["beam num_beams=8"] * 12, False), (["greedy"] * 2, True)):
        with pytest.raises(UserError, match="Lower max new tokens"):
            asked(2048, columns, exact)


def _result(*lengths):
    columns = [ColumnResult("greedy", "base", [1] * length, "", "length", {}) for length in lengths]
    return Result("m", "float32", 1, 1, 1.0, 0.0, columns)


def test_a_check_takes_the_gpu_for_as_many_columns_at_a_time_as_it_is_lent_for(tiny_model):
    work, result = _work(tiny_model, ["greedy"] * 5, 2000), _result(1000, 1000, 1000, 1000, 40)
    assert SHORTEST < check_seconds(work, result, [0]) < check_seconds(work, result, [0, 1]) <= LONGEST
    assert check_seconds(work, result, [4]) == SHORTEST, "by what it wrote"
    assert _parts(work, result) == [[0, 1], [2, 3, 4]]
    beams = _work(tiny_model, ["beam"] * 5, 2000)
    assert check_seconds(beams, result, [4]) > 80, "a beam search may go on to the end"
    with pytest.raises(UserError, match="Lower max new tokens"):
        _parts(_work(tiny_model, ["greedy"], 8000), _result(4000))


@pytest.mark.ci
def test_training_there_is_refused_and_a_job_offered(zero, tmp_path, tiny_model, monkeypatch, capsys):
    assert "Train in a job on a rented GPU" in json.dumps(zero.config())
    (where,) = [part["props"] for part in zero.config()["components"] if part["props"].get("elem_id") == "place"]
    assert ([value for _, value in where["choices"]], where["value"]) == (["jobs"], "jobs")
    config = tmp_path / "run.yaml"
    write_data(tmp_path / "data.json")
    config.write_text(yaml.safe_dump({"model": str(tiny_model), "stages": [{"data": [{"path": "data.json"}]}]}))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.syspath_prepend(STAND_IN)
    assert main(["start", str(config)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "--on jobs" in told.err


def test_without_the_package_nothing_changes(monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert settings.zero_gpu() is False
