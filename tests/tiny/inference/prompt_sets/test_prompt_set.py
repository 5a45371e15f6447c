"""Sets of prompts on a tiny model: a broken prompt among them, stops, turns, the report and the shell."""

import csv
import io
import json
import threading

import pytest

from core.errors import UserError
from core.limits import disk_used
from inference.cli.main import main
from inference.compare.fair_queue import Turns
from inference.compare.request import CompareRequest
from inference.compare.service import run_comparison
from inference.events import Board
from inference.measures.bootstrap import estimate, paired
from inference.measures.summary import summarize
from inference.models.cache import Shelf
from inference.prompt_sets import report as set_report
from inference.prompt_sets.reading import PromptItem, read_prompts
from inference.prompt_sets.running import PromptSet, finish, run_set

COLUMNS = ["greedy", "sample", "sample temperature=0.5"]


@pytest.fixture(scope="module")
def shelf():
    return Shelf()


def _set(model, prompts, columns=COLUMNS, **more):
    request = CompareRequest(str(model), columns, **{"seed": 7, "max_new_tokens": 8, **more})
    asked = [one if isinstance(one, PromptItem) else PromptItem(number, one) for number, one in enumerate(prompts, 1)]
    return PromptSet(tuple(asked), request, "three.txt")


def _run(asked, owner, shelf, stop=None, join=None, report=lambda progress: None):
    return finish(run_set(asked, owner, shelf, stop or threading.Event(), join), report)


def test_a_broken_prompt_leaves_the_others_unharmed(owner, shelf, tiny_model):
    outcome = _run(_set(tiny_model, ["the quick fox", " ", "y" * 600, "tea?"]), owner, shelf)
    assert [answer.number for answer in outcome.answers] == [1, 4]
    assert [problem.number for problem in outcome.problems] == [2, 3]
    assert "empty" in outcome.problems[0].error and "context" in outcome.problems[1].error
    assert outcome.status == "done"


def test_each_prompt_is_the_comparison_with_a_seed_of_its_own(owner, shelf, tiny_model):
    outcome = _run(_set(tiny_model, ["the quick fox", "tea?"]), owner, shelf)
    for answer, prompt, seed in zip(outcome.answers, ("the quick fox", "tea?"), (7, 8), strict=True):
        request = CompareRequest(str(tiny_model), COLUMNS, prompt=prompt, seed=seed, max_new_tokens=8)
        alone = Board().take_all(run_comparison(request, owner, shelf)).result
        assert answer.seed == seed
        assert [row["text"] for row in answer.rows] == [column.text for column in alone.columns]
        expected = [row["perplexity"] for row in summarize(alone)]
        assert [row["perplexity"] for row in answer.rows] == pytest.approx(expected, rel=1e-4)


def test_a_conversation_goes_before_each_text(owner, shelf, tiny_model):
    before = [{"role": "system", "content": "Be brief."}]
    chat = [*before, {"role": "user", "content": "tea?"}]
    asked = _set(tiny_model, ["tea?", chat], ["greedy"], messages=before)
    first, second = _run(asked, owner, shelf).answers
    assert first.rows[0]["text"] == second.rows[0]["text"]


def test_the_report_has_means_intervals_and_paired_differences(owner, shelf, tiny_model):
    asked = _set(tiny_model, ["the quick fox", "tea?", "how to make"])
    outcome = _run(asked, owner, shelf)
    report = set_report.report_of("s20260101-000000-abcd", asked, outcome)
    drawn = [answer.rows[1]["perplexity"] for answer in outcome.answers]
    greedy = [answer.rows[0]["perplexity"] for answer in outcome.answers]
    column = report["columns"][1]
    assert column["measures"]["perplexity"] == estimate(drawn).to_json()
    assert column["against_first"]["perplexity"] == paired(drawn, greedy).to_json()
    assert report["columns"][0]["against_first"]["perplexity"]["mean"] == 0
    assert column["measures"]["self_bleu"] is None
    assert (report["answered"], report["prompts"], report["problems"]) == (3, 3, [])


def test_a_set_is_kept_whole_found_again_and_deleted(owner, shelf, tiny_model):
    asked = _set(tiny_model, ["=1+1 tea?"], ["greedy"])
    outcome = _run(asked, owner, shelf)
    report = set_report.report_of(set_report.new_id(), asked, outcome)
    folder = set_report.save(owner, report, outcome)
    assert set_report.listed(owner) == [report["id"]]
    assert set_report.load(owner, report["id"]) == json.loads(json.dumps(report))
    assert disk_used(owner) > 0
    (line,) = csv.DictReader(io.StringIO((folder / "answers.csv").read_text("utf-8-sig")))
    assert line["prompt"] == "'=1+1 tea?" and int(line["tokens"]) == outcome.answers[0].rows[0]["tokens"]
    (answer,) = json.loads((folder / "answers.json").read_text())["answers"]
    assert answer["columns"][0]["text"] == outcome.answers[0].rows[0]["text"]
    set_report.remove(report["id"], owner)
    assert set_report.listed(owner) == [] and disk_used(owner) == 0


@pytest.mark.parametrize("identity", ["", "../x", "s20260101-000000-abcd", "s20260101-000000-abcd/../.."])
def test_a_set_that_is_not_there_is_refused_in_words(owner, identity):
    for use in (lambda: set_report.load(owner, identity), lambda: set_report.remove(identity, owner)):
        with pytest.raises(UserError) as refused:
            use()
        assert refused.value.code == "sets.none"


def test_a_damaged_set_is_told_in_words(owner):
    folder = owner.prompt_sets / "s20260101-000000-abcd"
    folder.mkdir(parents=True)
    (folder / "set.json").write_text('{"columns": [{}]}')
    with pytest.raises(UserError, match="damaged"):
        set_report.load(owner, folder.name)


def test_a_stop_keeps_what_is_answered_and_leaves_out_the_rest(owner, shelf, tiny_model):
    stop = threading.Event()
    asked = _set(tiny_model, ["one", "two", "three"])
    outcome = _run(asked, owner, shelf, stop, report=lambda told: stop.set() if told.done == 1 else None)
    assert [answer.number for answer in outcome.answers] == [1]
    assert outcome.status == "stopped"


class _StopsAfter(threading.Event):
    """Is set when it was asked so many times; whoever writes asks at each step."""

    def __init__(self, times):
        super().__init__()
        self.left = times

    def is_set(self):
        self.left -= 1
        return self.left < 0 or super().is_set()


def test_a_stop_while_a_prompt_is_written_ends_within_a_step(owner, shelf, tiny_model):
    stop = _StopsAfter(12)
    outcome = _run(_set(tiny_model, ["one"], ["sample temperature=10"], max_new_tokens=400), owner, shelf, stop)
    assert (outcome.answers, outcome.status) == ([], "stopped")
    assert -5 < stop.left < 0


def test_a_stop_while_a_prompt_waits_gives_its_place_back(owner, shelf, tiny_model):
    stop, turns = threading.Event(), Turns()

    def join():
        stop.set()
        return turns.join("somebody")

    outcome = _run(_set(tiny_model, ["one"]), owner, shelf, stop, join)
    assert (outcome.answers, outcome.status) == ([], "stopped")
    assert turns.join("another").before() == 0


def test_what_is_wrong_with_all_prompts_ends_the_set(owner, shelf, tiny_model):
    with pytest.raises(UserError, match="/nowhere"):
        _run(_set("/nowhere", ["one", "two"]), owner, shelf)
    with pytest.raises(UserError, match="top_q"):
        _run(_set(tiny_model, ["one"], ["nucleus top_q=1"]), owner, shelf)
    with pytest.raises(UserError, match="200"):
        _run(_set(tiny_model, ["one"] * 201), owner, shelf)


def test_each_prompt_takes_a_turn_of_its_own_so_that_others_come_between(owner, shelf, tiny_model):
    turns, order = Turns(), []

    def visitor():
        with turns.join("another") as turn:
            assert turn.take(threading.Event())
            order.append("another")

    def join():
        order.append("set")
        turn = turns.join("somebody")
        if len(order) == 1:
            between.start()
        return turn

    between = threading.Thread(target=visitor)
    outcome = _run(_set(tiny_model, ["one", "two", "three"]), owner, shelf, join=join)
    between.join()
    assert len(outcome.answers) == 3
    assert order.index("another") < 3


def test_a_set_waits_where_the_queue_has_no_place_for_it(owner, shelf, tiny_model):
    turns, refused = Turns(), []

    def join():
        if not refused:
            refused.append(True)
            raise UserError("limits.places", used=2, most=2, variable="TUNESCOPE_LIMIT_PLACES")
        return turns.join("somebody")

    assert len(_run(_set(tiny_model, ["one"]), owner, shelf, join=join).answers) == 1


def _shell(tmp_path, model, text, *more):
    path = tmp_path / "prompts.txt"
    path.write_text(text, encoding="utf-8")
    columns = ["--columns", "greedy", "sample", "--max-new-tokens", "6"]
    return main(["prompts", str(path), "--model", str(model), *columns, *more])


def test_the_shell_prints_a_table_and_writes_the_csv(tmp_path, tiny_model, capfd, owner):
    assert _shell(tmp_path, tiny_model, "one\ntwo\n", "--out", str(tmp_path / "means.csv")) == 0
    printed = capfd.readouterr()
    assert "2 of 2 prompts answered" in printed.out and "--- sample (base)" in printed.out
    lines = list(csv.DictReader(io.StringIO((tmp_path / "means.csv").read_text("utf-8-sig"))))
    (identity,) = set_report.listed(owner)
    report = set_report.load(owner, identity)
    tokens = next(line for line in lines if line["column"] == "sample" and line["measure"] == "tokens")
    assert float(tokens["mean"]) == report["columns"][1]["measures"]["tokens"]["mean"]
    assert identity in printed.err


def test_the_shells_exit_codes_are_those_of_compare(tmp_path, tiny_model, capfd):
    assert _shell(tmp_path, tiny_model, "one\n" + "y" * 600 + "\n", "--json") == 3
    printed = capfd.readouterr()
    told = json.loads(printed.out)
    assert [answer["number"] for answer in told["answers"]] == [1] and told["problems"][0]["number"] == 2
    assert printed.err.startswith("2: ")
    assert _shell(tmp_path, tiny_model, "") == 2
    assert main(["prompts", str(tmp_path / "none.txt"), "--columns", "greedy"]) == 2


def test_a_file_that_was_read_runs(tmp_path, owner, shelf, tiny_model):
    path = tmp_path / "mixed.jsonl"
    path.write_text('"one"\n{"prompt": "two"}\n{"messages": [{"role": "user", "content": "three"}]}\n{"x": 1}\n')
    asked = PromptSet(tuple(read_prompts(path)), _set(tiny_model, []).request, path.name)
    outcome = _run(asked, owner, shelf)
    assert [answer.prompt for answer in outcome.answers] == ["one", "two", "three"]
    assert [problem.number for problem in outcome.problems] == [4]
