"""What columns tell of their way: the view of each token, the beam tree, widths, and what prompt lookup saved."""

import pytest

from inference.engine.engine import Panel, compare
from inference.events import Step
from inference.strategies.table import parse_column
from tests.tiny import references as slow
from tests.tiny.decoding import load_tiny, run

ENDS = [31, 54, 71, 125, 182]
LIMIT = 20
BEAMS = [
    "beam",
    "beam num_beams=8 early_stopping=true",
    "beam_sample num_beams=5",
    "diverse_beam",
    "diverse_beam num_beams=8 num_groups=4 diversity_penalty=3",
    "dynamic_beam",
    "dynamic_beam entropy_width=4 prune_absolute=100 prune_local=0 per_node=16",
    "beam start=7,9,11",
    "diverse_beam start=7,9",
]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


@pytest.mark.parametrize("prompt", ["hello", "the quick brown fox"])
def test_the_beam_tree_is_a_tree_and_its_best_path_spells_the_result(loaded, prompt):
    for column in run(loaded, prompt, BEAMS, max_new_tokens=LIMIT).columns:
        branches = column.trace.branches
        for branch in branches:
            if branch.parent is None:
                assert branch.step == 0
            else:
                before = branches[branch.parent]
                assert (before.step, before.state) == (branch.step - 1, "live"), column.name
        path = [branches[place] for place in column.trace.best]
        assert [branch.token_id for branch in path] == column.token_ids, column.name
        assert [branch.step for branch in path] == list(range(len(path)))
        assert [branch.parent for branch in path] == [None, *column.trace.best[:-1]]
        assert path[-1].state == "finished"
        assert all(branch.text == loaded.tokenizer.decode([branch.token_id]) for branch in branches)
        live = max(sum(b.step == step and b.state == "live" for b in branches) for step in range(LIMIT))
        assert live <= column.trace.fixed_width


def test_a_pruned_branch_is_worse_than_those_that_went_on_in_its_beam(loaded):
    for column in run(loaded, "hello", BEAMS[:2] + BEAMS[5:7], max_new_tokens=LIMIT).columns:
        branches = column.trace.branches
        assert {branch.state for branch in branches} == {"live", "finished", "pruned"}, column.name
        for step in range(LIMIT):
            live = [b.score for b in branches if (b.step, b.state) == (step, "live")]
            pruned = [b.score for b in branches if (b.step, b.state) == (step, "pruned")]
            if live and pruned:
                assert max(pruned) <= max(live) + 1e-6
                if column.name.startswith("beam"):
                    assert max(pruned) <= min(live) + 1e-6


def test_a_beams_scores_are_the_sums_of_its_log_probabilities(loaded):
    prompt = loaded.tokenizer("hello")["input_ids"]
    model = slow.Model(loaded.model, ENDS, LIMIT)
    column = run(loaded, "hello", ["beam length_penalty=0"], max_new_tokens=LIMIT).columns[0]
    scores = [score for score, _ in column.trace.others]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 4
    for score, ids in column.trace.others:
        known = sum(model.logprobs(prompt + list(ids[:at]))[token] for at, token in enumerate(ids))
        assert score == pytest.approx(known, abs=1e-3)
    assert list(column.trace.others[0][1]) == column.token_ids


def test_row_forwards_are_the_widths_of_all_steps(loaded):
    lines = ["dynamic_beam", "beam", "greedy", "contrastive", "dynamic_beam start=7,9,11"]
    dynamic, beam, greedy, contrastive, started = run(loaded, "hello", lines, max_new_tokens=LIMIT).columns
    for column in (dynamic, started):
        assert sum(column.trace.widths) == column.row_forwards
        assert sum(column.trace.widths[1:]) == column.row_forwards - 1, "the prefill is one row"
        assert max(column.trace.widths) <= 8 == column.trace.fixed_width
    assert started.trace.widths[:4] == (1, 1, 1, 1)
    assert (beam.trace.widths, beam.trace.fixed_width) == ((), 4)
    assert greedy.row_forwards == len(greedy.token_ids)
    assert contrastive.row_forwards == 1 + 4 * len(contrastive.token_ids)


@pytest.mark.parametrize("line", ["dynamic_beam", "dynamic_beam num_beams=6 start=7,9,11"])
def test_what_a_beam_of_dynamic_width_saves_is_told_while_it_is_written(loaded, line):
    ids = loaded.tokenizer("hello")["input_ids"]
    panel = Panel(loaded, ids, [(0, parse_column(line)), (1, parse_column("beam"))])
    *events, done = compare([panel], seed=0, max_new_tokens=LIMIT)
    steps = [[event for event in events if isinstance(event, Step) and event.column == column] for column in (0, 1)]
    trace = done.result.columns[0].trace
    used, fixed = trace.row_forwards
    assert [step.rows for step in steps[0][:-1]] == list(trace.widths[1:])
    assert steps[0][0].saved == 0 < steps[0][-1].saved == fixed - used
    assert {step.saved for step in steps[1]} == {0}


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_a_character_in_several_tokens_is_added_by_the_last_of_them(loaded, strategy):
    ids = loaded.tokenizer("a茶茶 b")["input_ids"]
    line = f"{strategy} start={','.join(map(str, ids))}"
    column = run(loaded, "hello", [line], max_new_tokens=LIMIT).columns[0]
    said = [(token.text, token.adds) for token in column.tokens[: len(ids)]]
    spread = [("\ufffd", ""), ("\ufffd", ""), ("\ufffd", "茶")]
    assert said[:7] == [("a", None), *spread, *spread]
    assert {adds for _, adds in said[7:]} == {None}


def test_a_token_tells_what_the_processors_made_of_it(loaded):
    """`after` and `kept` against the model's own scores, filtered here by hand."""
    prompt = loaded.tokenizer("hello")["input_ids"]
    column = run(loaded, "hello", ["top_k top_k=5 temperature=0.5"], seed=3, max_new_tokens=LIMIT).columns[0]
    model = slow.Model(loaded.model, ENDS, LIMIT)
    for at, view in enumerate(column.tokens):
        logits = model.logits(prompt + column.token_ids[:at])
        likeliest = logits.topk(5).indices.tolist()
        after = (logits[likeliest] / 0.5).softmax(-1).tolist()
        assert view.kept == 5
        assert view.after == pytest.approx(after[likeliest.index(view.token_id)], abs=1e-4)
        assert view.rank == likeliest.index(view.token_id) + 1
        assert [one.token_id for one in view.top][:5] == likeliest
        assert [one.after for one in view.top] == pytest.approx([*after, 0, 0, 0], abs=1e-4)
        assert view.probability == pytest.approx(logits.softmax(-1)[view.token_id].item(), abs=1e-4)


def test_a_forced_token_that_the_processors_cut_says_so(loaded):
    column = run(loaded, "hello", ["top_k top_k=5 start=0,0"], max_new_tokens=LIMIT).columns[0]
    first = column.tokens[0]
    assert (first.token_id, first.after, first.kept) == (0, 0.0, 5)
    assert first.rank > 5
    assert first.probability < min(one.probability for one in first.top[:5])


def test_columns_without_processors_tell_none(loaded):
    for column in run(loaded, "hello", ["greedy", "beam", "lookup", "contrastive"], max_new_tokens=LIMIT).columns:
        assert {(view.after, view.kept) for view in column.tokens} == {(None, None)}
        assert {one.after for view in column.tokens for one in view.top} == {None}


def test_kept_falls_where_a_ban_or_a_plausible_set_takes_tokens(loaded):
    lines = ["greedy no_repeat_ngram_size=1", "dola plausibility=0.9", "sample"]
    banned, dola, sample = run(loaded, "hello", lines, max_new_tokens=LIMIT).columns
    prompt = loaded.tokenizer("hello")["input_ids"]
    assert [view.kept for view in banned.tokens] == [
        320 - len({*prompt, *banned.token_ids[:at]}) for at in range(len(banned.tokens))
    ]
    assert all(view.kept < 10 for view in dola.tokens)
    assert all(view.kept == 320 for view in sample.tokens)
    assert dola.trace.chain == (("dola", dola.tokens[-1].kept),)
