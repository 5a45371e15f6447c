"""The same column through plain `model.generate`, the reference that the engine is measured against and verified by.

A column that generates other tokens than `generate` has met a numerical tie, as the scores of `generate` itself show
(see `inference.compare.numerical_ties`), or it shows a bug.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from core.words import say
from inference.compare import numerical_ties
from inference.engine import stops
from inference.engine.batch import Panel, end_ids, plain_model
from inference.events import ColumnResult, Result
from inference.models.loading import Loaded
from inference.strategies.table import STRATEGIES, ColumnSpec, known_knobs

if TYPE_CHECKING:
    from inference.compare.request import CompareRequest
    from inference.compare.work import PreparedComparison
    from inference.models.cache import Shelf

_KINDS = ("greedy", "sample", "beam", "lookup")
_APART = ("banned", "stop", "start", "seed", "ngram", "draft_tokens")
"""Knobs that `generate_alone` passes to `generate` in another form, and those that change no token."""
_UNSET = ("min_p",)
"""Knobs that are left unset when neutral: `generate` warns of them if it does not sample."""


def comparable(spec: ColumnSpec) -> bool:
    """Return whether `generate` supports everything that a column sets."""
    if spec.kind not in _KINDS:
        return False
    knobs = ((value, STRATEGIES[spec.strategy].knob(name)) for name, value in spec.knobs.items() if name not in _APART)
    return all(
        knob is not None and (knob.generate_name or knob.belongs_to or value == knob.neutral) for value, knob in knobs
    )


def neutral_config(model: Any, max_new_tokens: int) -> GenerationConfig:
    """Return a generation config in which nothing is set but the model's end tokens."""
    ends = sorted(end_ids(model))
    knobs = (knob for name, knob in known_knobs().items() if name not in _UNSET)
    nothing = {knob.generate_name: knob.neutral for knob in knobs if knob.generate_name and knob.neutral is not None}
    pad = ends[0] if ends else None
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, **nothing)
    config.eos_token_id = ends or None
    return config


def config_for(model: Any, spec: ColumnSpec, max_new_tokens: int, tokenizer: Any = None) -> GenerationConfig:
    """Return the generation config for one column, whose tokens in `start` count as part of the prompt.

    Banned texts need the tokenizer.
    """
    config = neutral_config(model, max_new_tokens - len(spec.start))
    config.do_sample = spec.draws
    for name, value in spec.knobs.items():
        knob = STRATEGIES[spec.strategy].knob(name)
        if knob is not None and knob.generate_name:
            setattr(config, knob.generate_name, value)
    if texts := spec.texts("banned"):
        config.bad_words_ids = stops.banned_ids(tokenizer, texts)
    return config


@contextmanager
def neutral(model: Any) -> Iterator[None]:
    """Make `generate` use nothing from the checkpoint's own generation config but its end tokens within the block."""
    inner = plain_model(model)
    own = inner.generation_config
    inner.generation_config = neutral_config(model, 1)
    inner.generation_config.max_new_tokens = None
    try:
        yield
    finally:
        inner.generation_config = own


@torch.inference_mode()
def generate_alone(
    loaded: Loaded,
    prompt_ids: list[int],
    spec: ColumnSpec,
    *,
    seed: int,
    max_new_tokens: int,
    plain: bool = False,
    **options: Any,
) -> Any:
    """Return what `generate` returns for one column alone: ids [1, prompt + new], or its output object with
    `return_dict_in_generate=True` among the options.

    `plain` leaves the adapter out, as `model=base` does. The tokens that the column starts with are part of the prompt,
    and for draws the random numbers of those steps are used up.
    """
    assert comparable(spec), spec.name
    ids = torch.tensor([prompt_ids + spec.start], device=loaded.device)
    options["generation_config"] = config_for(loaded.model, spec, max_new_tokens, loaded.tokenizer)
    if texts := spec.texts("stop"):
        own = _WrittenTexts(StopStringCriteria(loaded.tokenizer, texts), len(prompt_ids))
        options["stopping_criteria"] = StoppingCriteriaList([own])
    untuned = loaded.adapter is not None and (plain or spec.model == "base")
    without = loaded.model.disable_adapter() if untuned else nullcontext()
    with loaded.lock, neutral(loaded.model), without:
        torch.manual_seed(seed_of(spec, seed))
        if spec.kind == "sample":
            _skip_noise(len(spec.start), loaded)
        return loaded.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)


def seed_of(spec: ColumnSpec, seed: int) -> int:
    """Return the column's own seed, or that of the comparison."""
    own = spec.knobs.get("seed", "")
    return seed if own == "" else int(own)


def _skip_noise(steps: int, loaded: Loaded) -> None:
    """Draw the noise of `steps` steps and ignore it: a column that starts with given tokens draws there, too."""
    size = plain_model(loaded.model).get_output_embeddings().weight.shape[0]
    for _ in range(steps):
        torch.empty(1, size, device=loaded.device).exponential_(1)


class _WrittenTexts(StoppingCriteria):
    """The stop texts of `generate`, searched in what is generated, not across the end of the prompt."""

    def __init__(self, inner: StopStringCriteria, prompt_length: int) -> None:
        self._inner, self._prompt_length = inner, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **more: Any) -> torch.Tensor:
        return self._inner(input_ids[:, self._prompt_length :], scores, **more)


def new_tokens(sequence: torch.Tensor, prompt_ids: list[int]) -> list[int]:
    """Return the ids after the prompt in a row of `generate`'s output."""
    return sequence[len(prompt_ids) :].tolist()


@dataclass(frozen=True)
class Verdict:
    """The result of one column's replay.

    "identical": the same tokens. "tie": other tokens, diverging at token `at` (from 0; for beams the step at which
    other hypotheses were kept), where the two choices' scores `ours` and `theirs` are within 1e-3 of each other.
    "wrong": other tokens without a tie. "none": `generate` cannot run such a column, or the column was stopped or
    failed.
    """

    column: int
    kind: Literal["identical", "tie", "wrong", "none"]
    at: int | None
    ours: float | None
    theirs: float | None
    sentence: str

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("column", "kind", "at", "ours", "theirs", "sentence")}


def check_columns(
    prepared: "PreparedComparison", result: Result, indices: Iterable[int], shelf: "Shelf", stop: threading.Event | None
) -> Iterator[Verdict]:
    """Yield the verdicts on some columns, computed in this process."""
    from inference.compare.work import load_panels

    panels = load_panels(prepared, shelf)
    known = {index: (spec, panel) for panel in panels for index, spec in panel.columns}
    for index in indices:
        if stop is not None and stop.is_set():
            return
        spec, panel = known[index]
        yield check(prepared.request, panel, index, spec, result.columns[index])


def check(request: "CompareRequest", panel: Panel, index: int, spec: ColumnSpec, column: ColumnResult) -> Verdict:
    """Return the verdict on one column of a panel."""
    loaded, limit = panel.loaded, request.max_new_tokens
    if (reason := _not_checked(spec, loaded, column)) is not None:
        return Verdict(index, "none", None, None, None, say(f"replay.{reason}", strategy=spec.strategy))
    seed = seed_of(spec, request.seed)
    watch = numerical_ties.watch(loaded, panel.prompt_ids, spec, column, seed=seed, limit=limit)
    output = generate_alone(
        loaded,
        panel.prompt_ids,
        spec,
        seed=request.seed,
        max_new_tokens=limit,
        plain=index in panel.plain,
        logits_processor=LogitsProcessorList([watch]),
    )
    theirs = new_tokens(output[0], panel.prompt_ids)
    if theirs == column.token_ids:
        return Verdict(index, "identical", None, None, None, say("replay.identical", count=len(theirs)))
    rounding = loaded.dtype != "float32" and not request.exact
    return _verdict(index, watch.first_difference(theirs), rounding)


def _not_checked(spec: ColumnSpec, loaded: Loaded, column: ColumnResult) -> str | None:
    """Return why a column cannot be checked, None if it can."""
    if column.finish in ("cancelled", "error"):
        return f"none_{column.finish}"
    if not comparable(spec):
        return "none_lacking"
    return "none_start" if set(spec.start) & end_ids(loaded.model) else None


def _verdict(index: int, difference: numerical_ties.FirstDifference, rounding: bool) -> Verdict:
    """Return the verdict for a difference; `rounding`: 16-bit numbers in a shared batch, which round differently."""
    facts = {"at": difference.at, "dtype": "16 bit"}
    if difference.ours is not None and difference.theirs is not None:
        facts |= {"ours": f"{difference.ours:.6f}", "theirs": f"{difference.theirs:.6f}"}
    key = "tie" if difference.tied else "rounding" if rounding else "wrong" if "ours" in facts else "wrong_unscored"
    kind: Literal["tie", "wrong"] = "tie" if difference.tied else "wrong"
    return Verdict(index, kind, difference.at, difference.ours, difference.theirs, say(f"replay.{key}", **facts))
