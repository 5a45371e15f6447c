"""Strategies that `generate` lacks write what slow references from their papers write, whatever runs beside them."""

from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.strategies.table import STRATEGIES
from tests.tiny import references as slow
from tests.tiny.decoding import load_tiny, run
from tests.tiny_model import make_tiny_tokenizer

pytestmark = pytest.mark.matrix

ENDS = [31, 54, 71, 125, 182]
PROMPTS = ["hello", "the quick brown fox", "tea, tea 茶, tea, tea 茶, tea,"]
LIMIT = 16
_PIECES = make_tiny_tokenizer().batch_decode([[token] for token in range(320)])
BREAKERS = {token for token, piece in enumerate(_PIECES) if piece.rstrip(" ").endswith(("\n", ":", '"', "*"))}


def _counted(model, prompt, seed, **knobs):
    return slow.drawn(model, prompt, seed, lambda scores, _, written: slow.counted(scores, written, **knobs))


def _counted_greedy(model, prompt, **knobs):
    def choose(text, written):
        return slow.highest(slow.counted(model.logits(text).tolist(), written, **knobs))

    return slow.step_by_step(model, prompt, choose)


def _dry(model, prompt, seed, presence, *knobs):
    """A reward for what is written makes the model repeat itself, so that there is something to be dry about."""

    def change(scores, text, written):
        return slow.dry(slow.counted(scores, written, presence), text, *knobs, BREAKERS)

    return slow.drawn(model, prompt, seed, change)


def _xtc(model, prompt, seed, probability, threshold):
    gate = torch.Generator().manual_seed(seed)

    def change(scores, *_):
        return slow.xtc(scores, threshold) if float(torch.rand((), generator=gate)) < probability else scores

    return slow.drawn(model, prompt, seed, change)


def _sigma(model, prompt, seed, count, temperature=1.0):
    def change(scores, *_):
        return [score / temperature for score in slow.top_n_sigma(scores, count)]

    return slow.drawn(model, prompt, seed, change)


# a column's line, and its reference: (model, prompt ids, seed) -> ids
CASES = {
    "greedy presence_penalty=1.5": lambda m, p, s: _counted_greedy(m, p, presence=1.5),
    "greedy frequency_penalty=-2": lambda m, p, s: _counted_greedy(m, p, frequency=-2),
    "greedy presence_penalty=-1 frequency_penalty=0.4": lambda m, p, s: _counted_greedy(
        m, p, presence=-1, frequency=0.4
    ),
    "sample presence_penalty=2 frequency_penalty=0.5": lambda m, p, s: _counted(m, p, s, presence=2, frequency=0.5),
    "top_n_sigma": lambda m, p, s: _sigma(m, p, s, 1.0),
    "top_n_sigma top_n_sigma=2 temperature=3": lambda m, p, s: _sigma(m, p, s, 2.0, 3.0),
    "top_n_sigma top_n_sigma=0.3": lambda m, p, s: _sigma(m, p, s, 0.3),
    "mirostat": lambda m, p, s: slow.mirostat(m, p, s, 5.0, 0.1),
    "mirostat mirostat_tau=3.5 mirostat_eta=1": lambda m, p, s: slow.mirostat(m, p, s, 3.5, 1.0),
    "mirostat mirostat_tau=3 mirostat_eta=0.5 temperature=0.6": lambda m, p, s: slow.mirostat(m, p, s, 3.0, 0.5, 0.6),
    "dry presence_penalty=-5": lambda m, p, s: _dry(m, p, s, -5, 0.8, 1.75, 2),
    "dry dry_multiplier=3 dry_base=1.3 dry_allowed_length=1 presence_penalty=-5": lambda m, p, s: _dry(
        m, p, s, -5, 3.0, 1.3, 1
    ),
    "dry dry_allowed_length=4 presence_penalty=-8": lambda m, p, s: _dry(m, p, s, -8, 0.8, 1.75, 4),
    "xtc": lambda m, p, s: _xtc(m, p, s, 0.5, 0.1),
    "xtc xtc_probability=1 xtc_threshold=0.02": lambda m, p, s: _xtc(m, p, s, 1.0, 0.02),
    "contrastive": lambda m, p, s: slow.contrastive_search(m, p, 4, 0.6),
    "contrastive top_k=6 penalty_alpha=0.3": lambda m, p, s: slow.contrastive_search(m, p, 6, 0.3),
    "contrastive top_k=2 penalty_alpha=1": lambda m, p, s: slow.contrastive_search(m, p, 2, 1.0),
    "diverse_beam": lambda m, p, s: _best(slow.diverse_beam(m, p, 6, 3, 1.0)),
    "diverse_beam num_beams=4 num_groups=4 diversity_penalty=3": lambda m, p, s: _best(
        slow.diverse_beam(m, p, 4, 4, 3.0)
    ),
    "diverse_beam num_beams=6 num_groups=2 diversity_penalty=0.2 length_penalty=-1": lambda m, p, s: _best(
        slow.diverse_beam(m, p, 6, 2, 0.2, -1.0)
    ),
    "dynamic_beam": lambda m, p, s: slow.dynamic_beam(m, p, 8, 2.5, 0.02, 3)[0],
    "dynamic_beam num_beams=4 per_node=1": lambda m, p, s: slow.dynamic_beam(m, p, 4, 2.5, 0.02, 1)[0],
    "dynamic_beam num_beams=5 prune_absolute=2 prune_local=0.2 per_node=2": lambda m, p, s: slow.dynamic_beam(
        m, p, 5, 2.0, 0.2, 2
    )[0],
    "dynamic_beam num_beams=6 prune_absolute=100 prune_local=0 per_node=16 entropy_width=4 early_stopping=never": (
        lambda m, p, s: slow.dynamic_beam(m, p, 6, 100.0, 0.0, 16, 4.0, early_stopping="never")[0]
    ),
    "dynamic_beam num_beams=4 entropy_width=3 length_penalty=2 early_stopping=true": lambda m, p, s: slow.dynamic_beam(
        m, p, 4, 2.5, 0.02, 3, 3.0, length_penalty=2.0, early_stopping=True
    )[0],
}
LINES = list(CASES)


def _best(groups):
    return max(groups)[1]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


def _ids(loaded, prompt):
    return loaded.tokenizer(prompt)["input_ids"]


@pytest.fixture(scope="module")
def expected(loaded):
    """What the references write, computed once."""
    known = {}

    def ask(line, prompt, seed):
        key = line, prompt, seed
        if key not in known:
            known[key] = CASES[line](slow.Model(loaded.model, ENDS, LIMIT), _ids(loaded, prompt), seed)
        return known[key]

    return ask


@pytest.mark.parametrize("seed", [0, 7, 1234])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_columns_in_company_write_what_their_references_write(loaded, expected, prompt, seed):
    lines = [line for line in LINES if STRATEGIES[line.split()[0]].knob("seed") or seed == 0]
    for company in (lines[0::3], lines[1::3], lines[2::3], lines[::-1][:11]):
        for column in run(loaded, prompt, [*company, "beam"], seed=seed, max_new_tokens=LIMIT).columns[:-1]:
            assert column.token_ids == expected(column.name, prompt, seed), (column.name, column.error)


@pytest.mark.parametrize("line", LINES)
def test_a_column_alone_writes_what_its_reference_writes(loaded, expected, line):
    result = run(loaded, PROMPTS[1], [line], seed=7, max_new_tokens=LIMIT)
    assert result.columns[0].token_ids == expected(line, PROMPTS[1], 7)


@pytest.mark.ci
def test_the_cases_show_what_they_are_for(loaded, expected):
    """Knobs make a difference, and columns end early, at the length, and at different steps."""
    texts = {(line, prompt): expected(line, prompt, 0) for line in LINES for prompt in PROMPTS}
    greedy = {prompt: run(loaded, prompt, ["greedy"], max_new_tokens=LIMIT).columns[0].token_ids for prompt in PROMPTS}
    same = [line for line in LINES if all(texts[line, prompt] == greedy[prompt] for prompt in PROMPTS)]
    assert same == ["dynamic_beam num_beams=4 per_node=1"], "with one continuation each there is never a second one"
    assert len({len(text) for text in texts.values()}) > 6
    assert {text[-1] in ENDS for text in texts.values()} == {True, False}
    for key in {line.split()[0] for line in LINES}:
        own = [line for line in LINES if line.startswith(key)]
        assert len({str([texts[line, prompt] for prompt in PROMPTS]) for line in own}) == len(own), key


def test_the_groups_of_a_diverse_beam_are_those_of_its_reference(loaded):
    line = "diverse_beam num_beams=6 num_groups=3 diversity_penalty=2"
    ended = set()
    for prompt in PROMPTS:
        column = run(loaded, prompt, [line, "beam"], max_new_tokens=LIMIT).columns[0]
        groups = slow.diverse_beam(slow.Model(loaded.model, ENDS, LIMIT), _ids(loaded, prompt), 6, 3, 2.0)
        assert [list(ids) for _, ids in column.trace.others] == [ids for _, ids in groups]
        assert [score for score, _ in column.trace.others] == pytest.approx([score for score, _ in groups], abs=1e-4)
        assert column.trace.fixed_width == 6
        ended.add(len({len(ids) for _, ids in groups}))
    assert max(ended) > 1, "groups finish at different steps"


@pytest.mark.ci
def test_the_widths_of_a_dynamic_beam_are_those_of_its_reference(loaded):
    lines = {
        "dynamic_beam": (8, 2.5, 0.02, 3, 0.0),
        "dynamic_beam num_beams=6 prune_absolute=100 prune_local=0 per_node=16 entropy_width=4": (6, 100, 0, 16, 4.0),
    }
    regrown = False
    for prompt in PROMPTS:
        result = run(loaded, prompt, [*lines, "beam num_beams=8"], max_new_tokens=LIMIT)
        for column, knobs in zip(result.columns, lines.values(), strict=False):
            _, widths = slow.dynamic_beam(slow.Model(loaded.model, ENDS, LIMIT), _ids(loaded, prompt), *knobs)
            assert list(column.trace.widths) == widths
            assert sum(widths) == column.row_forwards
            assert column.row_forwards < 1 + 8 * (LIMIT - 1)
            regrown |= any(later > before for before, later in pairwise(widths[1:]))
    assert regrown, "a beam that got narrow grows again"


def test_a_dynamic_beam_that_prunes_nothing_is_a_beam_that_stops_at_its_first_best(loaded):
    """With everything off, it is a beam search with another rule to stop: as long as nothing ends, the same."""
    loaded = load_tiny(loaded.model.name_or_path, end_ids=[])
    wide = "dynamic_beam num_beams=4 prune_absolute=100 prune_local=0 per_node=16"
    result = run(loaded, PROMPTS[0], [wide, "beam num_beams=4"], max_new_tokens=LIMIT)
    assert result.columns[0].token_ids == result.columns[1].token_ids


def test_references_use_the_model_alone(tiny_model):
    """A model loaded by transformers and nothing else: what the references rest on."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    asked = slow.Model(model, ENDS, 6)
    written = slow.step_by_step(asked, [5, 6, 7], lambda text, _: slow.highest(asked.logprobs(text)))
    assert 0 < len(written) <= 6
    assert asked.forwards == len(written)
