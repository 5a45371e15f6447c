"""The replay check: what it says of columns that equal `generate`, that part from it at a tie, and that are wrong."""

import threading
from dataclasses import replace

import pytest
import torch

from core import words
from inference.columns.single import GreedyColumn, SampleColumn
from inference.compare.replay import comparable, config_for
from inference.compare.request import CompareRequest
from inference.compare.service import replay, run_comparison
from inference.events import Branch
from inference.models.cache import Shelf
from inference.strategies.table import parse_column, parse_columns
from tests.tiny.architectures import ENDS, random_model
from tests.tiny.decoding import as_if_written, run_ids, verdicts_on

ALL = ["greedy", "sample", "nucleus", "beam", "beam_sample", "mirostat"]


@pytest.fixture(scope="module")
def loaded():
    return random_model("llama")


def _verdicts(loaded, lines, result, seed=0):
    ids = loaded.tokenizer("hello")["input_ids"]
    return verdicts_on(loaded, ids, parse_columns(lines), result, seed, 20)


def _run(loaded, lines, **options):
    ids = loaded.tokenizer("hello")["input_ids"]
    return run_ids(loaded, ids, parse_columns(lines), **{"seed": 0, "max_new_tokens": 20, **options})


def test_which_columns_generate_can_run():
    yes = ["greedy", "lookup", "sample temperature=2", "beam", "beam_sample", "top_h", "xtc xtc_probability=0"]
    yes += ["dry dry_multiplier=0", 'greedy stop="a" banned="b" start=3', "sample presence_penalty=0"]
    no = ["mirostat", "dry", "xtc", "top_n_sigma", "diverse_beam", "dynamic_beam", "contrastive", "contrast", "dola"]
    no += ["greedy presence_penalty=1", "beam frequency_penalty=-1", "nucleus temperature_last=true temperature=0.5"]
    assert [line for line in yes if not comparable(parse_column(line))] == []
    assert [line for line in no if comparable(parse_column(line))] == []


def test_generate_gets_every_setting_of_a_column_and_no_warper_without_draws(loaded):
    line = "beam_sample num_beams=3 temperature=0.5 top_h=0.7 top_k=9 top_p=0.8 min_p=0.1 typical_p=0.9 "
    line += "epsilon_cutoff=0.01 eta_cutoff=0.02 repetition_penalty=1.1 no_repeat_ngram_size=4 length_penalty=2 "
    spec = parse_column(line + 'early_stopping=never start=5,6 banned="tea"')
    config = config_for(loaded.model, spec, 20, loaded.tokenizer)
    set_ = {name: value for name, value in spec.knobs.items() if name not in ("start", "banned")}
    assert {name: getattr(config, name) for name in set_} == set_
    assert (config.max_new_tokens, config.do_sample, config.eos_token_id) == (18, True, sorted(ENDS))
    assert loaded.tokenizer(" tea", add_special_tokens=False)["input_ids"] in config.bad_words_ids
    assert config_for(loaded.model, parse_column("beam"), 20).do_sample is False


def test_columns_that_equal_generate_are_told_so_and_the_rest_is_not_judged(loaded):
    kinds = [verdict.kind for verdict in _verdicts(loaded, ALL, _run(loaded, ALL))]
    assert kinds == ["identical"] * 5 + ["none"]


def test_a_column_that_wrote_something_else_is_wrong_and_both_scores_are_shown(loaded):
    lines = ALL[:5]
    result = _run(loaded, lines)
    for index in range(5):
        changed = [*result.columns[index].token_ids]
        changed[4] = (changed[4] + 1) % 30
        result.columns[index] = as_if_written(result, index, token_ids=changed)
    verdicts = _verdicts(loaded, lines, result)
    assert [verdict.kind for verdict in verdicts] == ["wrong"] * 5
    assert [verdict.at for verdict in verdicts] == [4] * 5
    greedy = verdicts[0]
    assert greedy.theirs - greedy.ours > 1e-3
    assert f"{greedy.ours:.6f}" in greedy.sentence and "bug" in greedy.sentence


def test_a_text_that_ends_too_early_is_wrong(loaded):
    result = _run(loaded, ["greedy"])
    result.columns[0] = as_if_written(result, 0, token_ids=result.columns[0].token_ids[:3])
    assert (_verdicts(loaded, ["greedy"], result)[0].kind, _verdicts(loaded, ["greedy"], result)[0].at) == ("wrong", 3)


class _Rigged:
    """A head that at its third call scores a rival `near` below the token to be picked; `noise` is that of the draw."""

    def __init__(self, head, near, noise):
        self.honest, self.near, self.noise = head.forward, near, noise
        self.calls, self.rival = 0, None

    def __call__(self, states):
        logits = self.honest(states)
        self.calls += 1
        if self.calls == 3:
            score = logits[0, -1].log_softmax(-1) - self.noise.log()
            picked, self.rival = score.topk(2).indices.tolist()
            logits[0, -1, self.rival] += score[picked] - score[self.rival] - self.near
        return logits


@pytest.mark.parametrize("line", ["greedy", "sample", "nucleus top_p=0.99"])
@pytest.mark.parametrize(("near", "kind"), [(4e-4, "tie"), (4e-3, "wrong")])
def test_two_tokens_within_a_thousandth_are_a_tie_and_others_are_not(line, near, kind, monkeypatch):
    """A column that rounds the other way at the third step writes the rival of what `generate` picks there."""
    loaded = random_model("llama")
    generator = torch.Generator().manual_seed(0)
    noise = [torch.empty(1, 320).exponential_(1, generator=generator)[0] for _ in range(3)][-1]
    head = _Rigged(loaded.model.lm_head, near, torch.ones(320) if line == "greedy" else noise)
    monkeypatch.setattr(loaded.model.lm_head, "forward", head)
    column = GreedyColumn if line == "greedy" else SampleColumn
    pick = column._pick

    def other(self, seen, *more):
        return seen.write(0, head.rival) if self.length == 2 else pick(self, seen, *more)

    monkeypatch.setattr(column, "_pick", other)
    result = _run(loaded, [line], max_new_tokens=6, exact=True)
    head.calls = 0
    (verdict,) = _verdicts(loaded, [line], result)
    assert (verdict.kind, verdict.at) == (kind, 2)
    assert verdict.theirs - verdict.ours == pytest.approx(near, abs=5e-5)


def test_beams_that_kept_another_hypothesis_at_a_tie_are_judged_at_that_step(loaded):
    """16 bit in one batch: where the search parts from that of `generate`, the distance of both hypotheses is told."""
    loaded = random_model("llama", dtype="bfloat16")
    lines = ["beam num_beams=3", "beam num_beams=8", "beam_sample num_beams=3", "greedy", "sample"]
    told = []
    for prompt in ("hello", "tea", "the quick brown fox", "la la"):
        ids = loaded.tokenizer(prompt)["input_ids"]
        result = run_ids(loaded, ids, parse_columns(lines), seed=1, max_new_tokens=30)
        told += verdicts_on(loaded, ids, parse_columns(lines), result, 1, 30)
    assert {verdict.kind for verdict in told} <= {"identical", "tie", "wrong"}
    parted = [verdict for verdict in told if verdict.kind == "wrong"]
    assert all("exact" in verdict.sentence and "bug" not in verdict.sentence for verdict in parted)
    assert all(verdict.at is not None for verdict in parted)


def test_a_beam_tree_that_parts_is_compared_at_the_first_step_that_differs(loaded):
    """The reference's search kept other hypotheses from step 2 on: their scores there are what is told."""
    result = _run(loaded, ["beam num_beams=2"])
    trace = result.columns[0].trace
    place = next(at for at, one in enumerate(trace.branches) if one.step == 2 and one.state == "pruned")
    swapped = next(at for at, one in enumerate(trace.branches) if one.step == 2 and one.state == "live")
    branches = [_as(one, "live" if at == place else "pruned" if at == swapped else one.state)
                for at, one in enumerate(trace.branches)]  # fmt: skip
    changed = as_if_written(result, 0, token_ids=[*result.columns[0].token_ids[:-1], 5])
    result.columns[0] = replace(changed, trace=replace(trace, branches=tuple(branches)))
    (verdict,) = _verdicts(loaded, ["beam num_beams=2"], result)
    assert verdict.at == 2
    assert verdict.ours == pytest.approx(trace.branches[place].score, abs=1e-4)
    assert verdict.theirs == pytest.approx(trace.branches[swapped].score, abs=1e-4)


def _as(branch, state):
    return Branch(branch.step, branch.parent, branch.token_id, branch.text, branch.score, state)


@pytest.mark.parametrize("finish", ["cancelled", "error"])
def test_columns_that_did_not_end_by_themselves_are_not_judged(loaded, finish):
    result = _run(loaded, ["greedy"])
    result.columns[0] = as_if_written(result, 0, token_ids=[1], finish=finish)
    assert _verdicts(loaded, ["greedy"], result)[0].kind == "none"


def test_a_start_with_an_end_token_in_it_is_not_judged(loaded):
    lines = [f"greedy start=40,{ENDS[0]},41"]
    assert _verdicts(loaded, lines, _run(loaded, lines))[0].kind == "none"


def test_a_whole_request_is_replayed_base_and_tuned_side_by_side(owner, tiny_model, adapter):
    shelf = Shelf()
    lines = ["greedy", "greedy model=base", "beam", "beam model=base", "sample start=40,41 model=base", "dola"]
    request = CompareRequest(str(tiny_model), lines, "tea?", adapter=str(adapter), max_new_tokens=12)
    result = list(run_comparison(request, owner, shelf))[-1].result
    verdicts = list(replay(request, result, owner, shelf))
    assert [verdict.column for verdict in verdicts] == list(range(6))
    assert [verdict.kind for verdict in verdicts] == ["identical"] * 5 + ["none"]
    stop = threading.Event()
    stop.set()
    assert list(replay(request, result, owner, shelf, stop)) == []


def test_verdicts_speak_the_readers_language(loaded):
    words.speak("zh")
    try:
        assert "完全一致" in _verdicts(loaded, ["greedy"], _run(loaded, ["greedy"]))[0].sentence
    finally:
        words.speak("en")
