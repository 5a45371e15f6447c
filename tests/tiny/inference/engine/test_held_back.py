"""Stop texts: what is firm stays, although a stop text may begin in it before it is known to be one."""

import pytest
import torch

from inference.engine.batch import Panel
from inference.engine.engine import compare
from inference.engine.stops import HeldBack
from inference.events import Board, Step
from inference.strategies.table import parse_column
from tests.tiny.decoding import load_tiny, run

LINES = ["greedy", "sample", "beam num_beams=3", "dynamic_beam", "diverse_beam", "contrastive", "lookup"]
LIMIT = 24


@pytest.fixture(scope="module")
def loaded(tiny_model):
    """The tiny model without an end, writing nothing but letters and digits."""
    loaded = load_tiny(tiny_model)
    loaded.model.generation_config.eos_token_id = None
    texts = [loaded.tokenizer.decode([token]) for token in range(len(loaded.tokenizer))]
    others = torch.tensor([not (text.isascii() and text.strip().isalnum()) for text in texts])
    loaded.model.lm_head.register_forward_hook(lambda head, states, logits: logits.masked_fill(others, -1e4))
    return loaded


def _streamed(loaded, line):
    """Every firm text on the way, and the result."""
    ids = loaded.tokenizer("the quick")["input_ids"]
    state, firm = Board(), []
    for event in compare([Panel(loaded, ids, [(0, parse_column(line))])], seed=0, max_new_tokens=LIMIT, exact=True):
        state.take(event)
        if isinstance(event, Step):
            firm.append(state.columns[0].firm)
    return firm, state.result.columns[0]


def _plain(loaded, line):
    return run(loaded, "the quick", [line], max_new_tokens=LIMIT, exact=True).columns[0]


def _stop_text(loaded, line):
    """A text of the column's own that begins within one token and ends within a later one, and stands there once."""
    column = _plain(loaded, line)
    tokens = [token.text for token in column.tokens]
    found = (tokens[at][-1] + tokens[at + 1] + tokens[at + 2][0] for at in range(6, LIMIT - 3))
    return next(text for text in found if column.text.count(text) == 1)


@pytest.mark.parametrize("line", LINES)
def test_firm_text_is_never_taken_back(loaded, line):
    stop = _stop_text(loaded, line)
    firm, result = _streamed(loaded, f'{line} stop="{stop}"')
    assert (result.finish, stop in result.text) == ("stop", False) or line == "diverse_beam", "another group may win"
    assert [text for text in firm if not result.text.startswith(text)] == []
    assert firm[-1] == result.text


@pytest.mark.parametrize("line", LINES)
def test_what_turned_out_to_be_no_stop_text_is_given(loaded, line):
    firm, result = _streamed(loaded, f'{line} stop="{_stop_text(loaded, line)[:-1]}~"')
    plain = _plain(loaded, line)
    assert (firm[-1], result.text, result.finish) == (plain.text, plain.text, "length")


def test_the_longest_beginning_is_held_back():
    held = HeldBack(["###", "end of text", "\n\n"])
    assert [held.add(piece) for piece in ("a #", "#", " b\n", "c en", "d of", " tea")] == [
        "a ", "", "## b", "\nc ", "", "end of tea",
    ]  # fmt: skip
    assert (held.held, held.given) == ("", len("a ## b\nc end of tea"))
