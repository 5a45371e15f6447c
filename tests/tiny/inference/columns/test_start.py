"""Columns that are told how to begin, what stops them, what they may not write, and with which seed."""

import pytest

from inference.engine.stops import cut, stop_check
from inference.strategies.table import parse_columns
from tests.tiny.decoding import load_tiny, run, run_ids
from tests.tiny_model import make_tiny_tokenizer

pytestmark = pytest.mark.matrix

ENDS = [31, 54, 71, 125, 182]
PROMPTS = ["hello", "the quick brown fox"]
LIMIT = 16
# strategies that know nothing but the text so far: for them a start is the end of the prompt
SEARCHES = [
    "greedy",
    "greedy repetition_penalty=1.5 no_repeat_ngram_size=2",
    "beam",
    "beam num_beams=3 length_penalty=2 early_stopping=never",
    "beam num_beams=5 length_penalty=-1 early_stopping=true",
    "diverse_beam",
    "dynamic_beam entropy_width=4",
    "contrastive",
    "dola",
    "lookup",
]
DRAWS = [
    "sample",
    "nucleus temperature=0.8",
    "typical",
    "top_h",
    "mirostat mirostat_tau=3 mirostat_eta=0.7",
    "xtc xtc_threshold=0.02",
    "dry presence_penalty=-5",
    "sample frequency_penalty=1 seed=8",
]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


def _ids(loaded, prompt):
    return loaded.tokenizer(prompt)["input_ids"]


def _started(line, start):
    return f"{line} start={','.join(map(str, start))}"


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("start", [[88], [3, 12, 7], [200, 200, 5, 61]])
def test_a_search_goes_on_from_its_start_as_if_the_prompt_ended_so(loaded, prompt, start):
    """For beams that means scores, lengths and the stop rules too."""
    lines = [_started(line, start) for line in SEARCHES]
    held = run_ids(
        loaded, _ids(loaded, prompt) + start, parse_columns(SEARCHES), seed=0, max_new_tokens=LIMIT - len(start)
    )
    for order in (lines, lines[::-1]):
        result = run(loaded, prompt, order, max_new_tokens=LIMIT)
        for column in result.columns:
            expected = held.columns[lines.index(column.name)]
            assert column.token_ids == start + expected.token_ids, column.name
            assert column.finish == expected.finish
            assert [view.token_id for view in column.tokens] == column.token_ids


@pytest.mark.parametrize("line", DRAWS)
def test_a_draw_that_begins_as_it_did_goes_on_as_it_did(loaded, line):
    """Whatever a strategy remembers (a bar, a gate, the noise), a forced token counts as a drawn one."""
    for prompt in PROMPTS:
        whole = run(loaded, prompt, [line, "greedy"], seed=5, max_new_tokens=LIMIT).columns[0]
        for count in (1, len(whole.token_ids) // 2, len(whole.token_ids) - 1):
            again = run(
                loaded, prompt, ["beam", _started(line, whole.token_ids[:count])], seed=5, max_new_tokens=LIMIT
            ).columns[1]
            assert again.token_ids == whole.token_ids, (line, count)
            assert [view.kept for view in again.tokens] == [view.kept for view in whole.tokens]


def test_a_draw_with_another_choice_at_one_place_is_the_same_before_it(loaded):
    whole = run(loaded, "hello", ["sample"], seed=5, max_new_tokens=LIMIT).columns[0]
    other = [*whole.token_ids[:3], 200]
    again = run(loaded, "hello", [_started("sample", other)], seed=5, max_new_tokens=LIMIT).columns[0]
    assert again.token_ids[:4] == other
    assert again.token_ids != whole.token_ids


@pytest.mark.parametrize("line", [*SEARCHES, *DRAWS, "beam_sample"])
def test_an_end_token_in_a_start_ends_the_column_there(loaded, line):
    for start in ([54], [7, 54], [7, 54, 9]):
        column = run(loaded, "hello", [_started(line, start), "greedy"], max_new_tokens=LIMIT).columns[0]
        assert (column.token_ids, column.finish) == (start[: start.index(54) + 1], "eos"), column.error


def test_a_start_may_fill_all_but_one_token(loaded):
    start = [7] * (LIMIT - 1)
    for column in run(loaded, "hello", [_started(line, start) for line in SEARCHES], max_new_tokens=LIMIT).columns:
        assert column.token_ids[:-1] == start
        assert len(column.token_ids) == LIMIT


@pytest.mark.parametrize("line", ["sample", "xtc", "mirostat", "beam_sample"])
@pytest.mark.parametrize("own", [0, 9])
def test_a_columns_own_seed_is_the_one_it_draws_with(loaded, line, own):
    """0 is a seed like any other."""
    expected = run(loaded, "hello", [line], seed=own, max_new_tokens=LIMIT).columns[0].token_ids
    mixed = run(loaded, "hello", [f"{line} seed={own}", line], seed=7, max_new_tokens=LIMIT).columns
    assert mixed[0].token_ids == expected
    assert mixed[1].token_ids != expected


# Stop texts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return make_tiny_tokenizer()


def _first_reached(tokenizer, texts, ids):
    reached = stop_check(tokenizer, texts)
    return next((count for count in range(1, len(ids) + 1) if reached(ids[:count])), None)


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["e t", "o t"], "on"),
        ("a\n\nb", ["\n\n", "\n"], "a"),
        ("tea 茶 pot", ["茶"], "tea "),
        ("tea 茶🫖 pot", ["🫖 p"], "tea 茶"),
        ("no such thing", ["茶"], None),
        ("quick brown quick", ["quick"], ""),
    ],
)
def test_a_stop_text_is_found_when_its_last_byte_is_there(tokenizer, text, stops, left):
    """It may be spread over tokens, and its characters over several too."""
    ids = tokenizer(text)["input_ids"]
    count = _first_reached(tokenizer, stops, ids)
    if left is None:
        assert count is None
        return
    whole, before = tokenizer.decode(ids[:count]), tokenizer.decode(ids[: count - 1])
    assert any(one in whole for one in stops)
    assert not any(one in before for one in stops)
    assert cut(whole, stops, before) == left


def test_a_stop_text_that_was_there_before_does_not_stop_again(tokenizer):
    """What a start holds is not stopped at, nor is the text cut there."""
    ids = tokenizer("tea and tea")["input_ids"]
    first = _first_reached(tokenizer, ["tea"], ids)
    reached = stop_check(tokenizer, ["tea"])
    assert [count for count in range(1, len(ids) + 1) if reached(ids[:count])] == [first, len(ids)]
    assert cut("tea and tea", ["tea"], "tea and te") == "tea and "


@pytest.mark.parametrize(
    "line",
    ["greedy", "sample", "beam", "diverse_beam", "dynamic_beam", "contrastive top_k=2 penalty_alpha=1", "lookup"],
)
def test_every_kind_of_column_ends_at_its_stop_text(loaded, line):
    """The stop text is cut off, its tokens stay; the columns beside it go on."""
    whole = run(loaded, "hello", [line], max_new_tokens=LIMIT).columns[0]
    pieces = [piece for piece in (view.text for view in whole.tokens[2:-1]) if piece.isascii() and piece.isalnum()]
    stop = pieces[0]
    ended = run(loaded, "hello", [f'{line} stop="{stop}"', line], max_new_tokens=LIMIT).columns
    assert ended[1].token_ids == whole.token_ids
    assert ended[0].finish == "stop"
    assert stop not in ended[0].text
    assert stop in loaded.tokenizer.decode(ended[0].token_ids)
    assert stop not in loaded.tokenizer.decode(ended[0].token_ids[:-1])


def test_a_stop_text_in_the_start_does_not_end_the_column(loaded):
    start = _ids(loaded, "tea")
    for line in ("greedy", "beam", "contrastive"):
        plain, stopped = run(
            loaded, "hello", [_started(line, start), f'{_started(line, start)} stop="tea"'], max_new_tokens=LIMIT
        ).columns
        assert plain.token_ids == stopped.token_ids


# Banned texts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "greedy",
        "sample",
        "beam",
        "beam_sample",
        "diverse_beam",
        "dynamic_beam",
        "contrastive top_k=2 penalty_alpha=1",
        "dola",
        "lookup",
    ],
)
def test_what_is_banned_is_not_written(loaded, line):
    whole = run(loaded, "hello", [line], max_new_tokens=LIMIT).columns[0]
    piece = next(view.text for view in whole.tokens if view.text.isascii() and view.text.isalnum())
    banned = _ids(loaded, piece)
    column = run(loaded, "hello", [f'{line} banned="{piece}"', "greedy"], max_new_tokens=LIMIT).columns[0]
    ids = column.token_ids
    assert len(banned) == 1 and banned[0] in whole.token_ids
    assert banned[0] not in ids and ids
