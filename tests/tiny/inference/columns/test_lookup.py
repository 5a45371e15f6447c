"""Prompt lookup: what greedy writes, in fewer forwards where the text repeats itself."""

import pytest
import torch

from inference.models.loading import Loaded
from inference.strategies.table import parse_columns
from tests.tiny.decoding import load_tiny, run, run_ids

PROMPTS = ["hello", "the quick brown fox", "tea, tea 茶, tea, tea 茶, tea,"]
LIMIT = 40
LINES = ["lookup", "lookup ngram=1 draft_tokens=1", "lookup ngram=2 draft_tokens=32", "lookup ngram=10"]


@pytest.fixture(scope="module")
def endless(tiny_model):
    return load_tiny(tiny_model, end_ids=[])


@pytest.fixture(scope="module")
def repeating(endless):
    """A model that goes round and round: the last token alone decides."""
    return _turning(endless)


def _turning(endless, ends=None):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.01)
        model.lm_head.weight.copy_(model.model.embed_tokens.weight.roll(1, 0))
        model.lm_head.weight[12::12] = model.lm_head.weight[1::12][: len(model.lm_head.weight[12::12])]
    model.generation_config.eos_token_id = ends
    return Loaded(model, endless.tokenizer, "turning", "0" * 64, 512, "float32", "cpu", None, None)


def _facts(column):
    """(accepted, drafted, forwards) from the note."""
    note = column.trace.notes[0]
    accepted, drafted, forwards = (int(word) for word in note.replace(";", "").split() if word.isdigit())
    return accepted, drafted, forwards


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_lookup_writes_what_greedy_writes(endless, line, prompt):
    lookup, greedy = run(endless, prompt, [line, "greedy"], max_new_tokens=LIMIT).columns
    assert (lookup.token_ids, lookup.finish) == (greedy.token_ids, greedy.finish)


@pytest.mark.parametrize("line", LINES)
def test_on_a_text_that_repeats_guesses_are_right_and_forwards_saved(repeating, line):
    for prompt in PROMPTS:
        lookup, greedy = run(repeating, prompt, [line, "greedy"], max_new_tokens=LIMIT).columns
        accepted, drafted, forwards = _facts(lookup)
        assert lookup.token_ids == greedy.token_ids
        assert [view.token_id for view in lookup.tokens] == greedy.token_ids
        assert drafted >= accepted > 0
        assert forwards == lookup.row_forwards == len(lookup.token_ids) - accepted
        assert lookup.row_forwards < greedy.row_forwards == LIMIT


def test_wrong_guesses_are_taken_back(endless):
    """A text full of false trails: the cache must be as if they had never been."""
    prompt = [5, 6, 7, 8, 5, 6, 9, 8, 5, 6, 7, 1, 5, 6]
    lines = parse_columns(["lookup ngram=1 draft_tokens=32", "greedy"])
    lookup, greedy = run_ids(endless, prompt, lines, seed=0, max_new_tokens=100).columns
    accepted, drafted, _ = _facts(lookup)
    assert lookup.token_ids == greedy.token_ids
    assert drafted > accepted


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 13])
def test_the_length_limit_is_kept_to_the_token(repeating, limit):
    lookup, greedy = run(repeating, PROMPTS[0], ["lookup draft_tokens=32", "greedy"], max_new_tokens=limit).columns
    assert (lookup.token_ids, lookup.finish) == (greedy.token_ids, "length")
    assert len(lookup.token_ids) == limit


def test_an_end_token_among_right_guesses_ends_the_column(repeating, endless):
    written = run(repeating, PROMPTS[0], ["greedy"], max_new_tokens=LIMIT).columns[0].token_ids
    prompt = endless.tokenizer(PROMPTS[0])["input_ids"] + written[:20]
    for end in sorted(set(written[20:]))[:6]:
        ending = _turning(endless, ends=end)
        lookup, greedy = run_ids(
            ending, prompt, parse_columns(["lookup", "greedy"]), seed=0, max_new_tokens=LIMIT
        ).columns
        assert (lookup.token_ids, lookup.finish) == (greedy.token_ids, "eos")
        accepted, _, forwards = _facts(lookup)
        assert accepted + forwards in (len(lookup.token_ids), len(lookup.token_ids) + 1)


def test_penalties_and_bans_hold_for_guesses_too(repeating):
    more = "frequency_penalty=0.3 no_repeat_ngram_size=4 repetition_penalty=1.1"
    lookup, greedy = run(repeating, PROMPTS[2], [f"lookup {more}", f"greedy {more}"], max_new_tokens=LIMIT).columns
    assert lookup.token_ids == greedy.token_ids
    assert [view.kept for view in lookup.tokens] == [view.kept for view in greedy.tokens]


def test_a_sliding_window_is_not_drafted_on(endless):
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        initializer_range=0.3,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = None
    loaded = Loaded(model, endless.tokenizer, "gemma", "0" * 64, 512, "float32", "cpu", None, None)
    lookup, greedy = run(loaded, PROMPTS[2], ["lookup ngram=1", "greedy"], max_new_tokens=LIMIT).columns
    assert lookup.token_ids == greedy.token_ids
    assert f"{LIMIT} forward passes" in lookup.trace.notes[0]
    assert "No tokens were drafted" in lookup.trace.notes[0]
