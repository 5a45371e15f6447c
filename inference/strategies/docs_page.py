"""Generates the page `docs/strategies.md`: `python -m inference.strategies.docs_page > docs/strategies.md`."""

from core.words import say
from inference.strategies import table
from inference.strategies.knobs import Knob
from inference.strategies.table import STRATEGIES, Strategy

HEAD = """# Decoding strategies

Made by `python -m inference.strategies.docs_page` from `inference/strategies/table.py`; a test holds it to that.
A column is a line such as `nucleus top_p=0.95 temperature=0.8`. The table lists the own knobs of each strategy with
their defaults; the other knobs that a strategy takes have no effect until they are set.

| strategy | what it does | own knobs | source | tested token for token against |
|---|---|---|---|---|
"""
KNOBS = """
## Knobs

| knob | possible | taken by | what it does |
|---|---|---|---|
"""
TAIL = """
## The order of application

Processors are applied in a fixed order, independent of the order in the line: `repetition_penalty`,
`no_repeat_ngram_size`, `banned`, `presence_penalty`, `frequency_penalty`, `dry`; then, in sampling strategies,
`temperature`, {filters}, `xtc`,
`mirostat`. With `temperature_last=true` the temperature comes after them
(`tests/tiny/inference/columns/test_chain.py`). Beam search works on log-probabilities, all other strategies on the
model's logits; contrastive decoding and DoLa work on their own differences, for the plausible tokens among those that
are not banned.

`start` (`tests/tiny/inference/columns/test_start.py`): a search continues as if the prompt ended with these ids, a
sampling strategy as if it had sampled them. The slow references (`tests/tiny/references.py`) import nothing from the
package and run the model again for each token.
"""
_PARITY, _MORE = (
    "inference/columns/test_parity.py::test_every_strategy_equals_generate",
    "inference/columns/test_parity_more.py::test_",
)
_SLOW = "inference/columns/test_references.py::test_columns_in_company_write_what_their_references_write"
_CONTRASTS = "inference/columns/test_reference_contrasts.py::test_"
_GENERATE, _REFERENCE = "`model.generate`", "a slow reference from the paper"
# strategy -> what it is compared with, and the test in tests/tiny that does so
HELD: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("greedy", "beam", "sample", "top_k", "nucleus", "min_p", "typical"), (_GENERATE, _PARITY)),
    **dict.fromkeys(("epsilon", "eta", "top_h"), (_GENERATE, f"{_MORE}the_other_draws_equal_generate")),
    "beam_sample": (_GENERATE, f"{_MORE}beam_sampling_equals_generate"),
    **dict.fromkeys(("diverse_beam", "dynamic_beam", "contrastive"), (_REFERENCE, _SLOW)),
    **dict.fromkeys(("top_n_sigma", "mirostat"), (_REFERENCE, _SLOW)),
    **dict.fromkeys(("dry", "xtc"), ("a slow reference from the pull request", _SLOW)),
    "contrast": (_REFERENCE, f"{_CONTRASTS}tuned_against_base_writes_what_its_reference_writes"),
    "dola": (_REFERENCE, f"{_CONTRASTS}dola_writes_what_its_reference_writes"),
    "lookup": ("the greedy column", "inference/columns/test_lookup.py::test_lookup_writes_what_greedy_writes"),
}


def page() -> str:
    """Return all strategies and their knobs as a Markdown page."""
    rows = "".join(f"{_row(strategy)}\n" for strategy in STRATEGIES.values())
    filters = ", ".join(f"`{knob.name}`" for knob in table.FILTERS)
    knobs = "".join(f"{_knob_row(name)}\n" for name in _names())
    return HEAD + rows + KNOBS + knobs + TAIL.format(filters=filters)


def _row(strategy: Strategy) -> str:
    own = "; ".join(f"`{knob.name}` {_default(knob)} ({_possible(knob)})" for knob in strategy.knobs) or "none"
    peer, test = HELD[strategy.key]
    what = f"**{say(strategy.title_key)}.** {say(strategy.help_key)}"
    return f"| `{strategy.key}` | {what} | {own} | {strategy.source} | {peer}: `{test}` |"


def _names() -> list[str]:
    """Return all knobs, each once, in the order of the table."""
    knobs = [knob.name for strategy in STRATEGIES.values() for knob in (*strategy.knobs, *strategy.more)]
    return list(dict.fromkeys(knobs))


def _knob_row(name: str) -> str:
    found = {key: knob for key, strategy in STRATEGIES.items() if (knob := strategy.knob(name))}
    possible = " or ".join(dict.fromkeys(_possible(knob) for knob in found.values()))
    help_text = say(next(iter(found.values())).help_key).replace("|", "\\|")
    return f"| `{name}` | {possible} | {_takers(list(found))} | {help_text} |"


def _takers(keys: list[str]) -> str:
    draws = [key for key, strategy in STRATEGIES.items() if strategy.kind == "sample"]
    if keys == list(STRATEGIES):
        return "all"
    if set(draws) <= set(keys):
        return ", ".join([*(f"`{key}`" for key in keys if key not in draws), "all sampling strategies"])
    missing = [key for key in draws if key not in keys]
    if len(missing) == 1 and len(keys) > len(missing) + 1:
        others = [f"`{key}`" for key in keys if key not in draws]
        return ", ".join([*others, f"all sampling strategies except `{missing[0]}`"])
    return ", ".join(f"`{key}`" for key in keys)


def _default(knob: Knob) -> str:
    return str(knob.default).lower()


def _possible(knob: Knob) -> str:
    if knob.choices:
        return ", ".join(knob.choices)
    if knob.type == "texts":
        return "texts"
    if knob.type == "ids":
        return "token ids"
    return (
        f"{knob.minimum:,g} to {knob.maximum:,g}" if knob.type == "float" else f"{knob.minimum:,} to {knob.maximum:,}"
    )


if __name__ == "__main__":
    print(page(), end="")
