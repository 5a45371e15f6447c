"""The processors of a column, in the order of application.

The order is that of `generate` in transformers 5.23 (`_get_logits_processor`), with those that transformers lacks at
the places where other engines have them: penalties before the temperature, truncations after it. `temperature_last`
moves the temperature behind the truncations, as llama.cpp has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from core.errors import UserError
from inference.columns import penalties, samplers
from inference.strategies.table import ColumnSpec

if TYPE_CHECKING:
    from inference.columns.base import ColumnContext

Apply = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Processor:
    """One processor: scores [rows, V] and ids [rows, length] in, scores out. `cuts`: it takes tokens away."""

    name: str
    apply: Apply
    cuts: bool = False
    reads_history: bool = False

    @property
    def bans(self) -> bool:
        """Whether it may take all tokens away: a truncation always leaves one."""
        return self.cuts and self.reads_history


class ProcessorChain:
    """Processors one after another. After a call `kept_counts` says how many tokens each left of the first row."""

    def __init__(self, processors: list[Processor], mirostat: "samplers.Mirostat | None" = None) -> None:
        self.processors = processors
        self.reads_history = any(processor.reads_history for processor in processors)
        self.cuts = any(processor.cuts for processor in processors)
        self._mirostat = mirostat
        self._last: list[tuple[str, Tensor | None]] = [(processor.name, None) for processor in processors]

    def __call__(self, scores: Tensor, ids: list[list[int]]) -> Tensor:
        """The scores [rows, V] that are left. Raises UserError where bans leave no token in any row."""
        history = torch.tensor(ids, device=scores.device) if self.reads_history else None
        for place, processor in enumerate(self.processors):
            scores = processor.apply(scores, history)
            if processor.bans and not bool((scores > float("-inf")).any()):
                raise UserError("decode.nothing_left")
            self._last[place] = (processor.name, scores if processor.cuts else None)
        return scores

    def drawn(self, token: int) -> None:
        """This token was drawn: what mirostat learns from."""
        if self._mirostat is not None:
            self._mirostat.learn(token)

    def kept_counts(self) -> tuple[tuple[str, int | None], ...]:
        """The names in order, each with how many tokens of the first row it left at the last step."""
        return tuple((name, None if left is None else _left(left)) for name, left in self._last)


def _left(scores: Tensor) -> int:
    return int((scores[0] > float("-inf")).sum())


def chain_of(spec: ColumnSpec, context: "ColumnContext", keep: int = 1) -> ProcessorChain:
    """The chain of a column. For beams that draw, `keep` is the least number of tokens that a truncation leaves."""
    mirostat = samplers.Mirostat(spec.knobs) if "mirostat_tau" in spec.knobs else None
    processors = _penalties(spec, context)
    if spec.draws:
        processors += _warpers(spec, context, keep, mirostat)
    return ProcessorChain(processors, mirostat)


def _number(spec: ColumnSpec, name: str, neutral: float) -> float:
    value = spec.knobs.get(name, neutral)
    return neutral if value == "" else float(value)


def _penalties(spec: ColumnSpec, context: "ColumnContext") -> list[Processor]:
    """What acts on any column, drawn or not."""
    processors, prompt = [], len(context.prompt_ids)
    if (repetition := _number(spec, "repetition_penalty", 1.0)) != 1.0:
        processors.append(_of_ids("repetition_penalty", RepetitionPenaltyLogitsProcessor(repetition)))
    if (size := int(_number(spec, "no_repeat_ngram_size", 0))) > 0:
        processors.append(_of_ids("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor(size), cuts=True))
    if context.banned:
        banned = NoBadWordsLogitsProcessor(context.banned, sorted(context.end_ids) or None)
        processors.append(_of_ids("banned", banned, cuts=True))
    if presence := _number(spec, "presence_penalty", 0.0):
        processors.append(Processor("presence_penalty", penalties.presence(presence, prompt), reads_history=True))
    if frequency := _number(spec, "frequency_penalty", 0.0):
        processors.append(Processor("frequency_penalty", penalties.frequency(frequency, prompt), reads_history=True))
    if multiplier := _number(spec, "dry_multiplier", 0.0):
        base, allowed = _number(spec, "dry_base", 1.75), int(_number(spec, "dry_allowed_length", 2))
        apply = penalties.dry(multiplier, base, allowed, context.breakers)
        processors.append(Processor("dry", apply, reads_history=True))
    return processors


def _of_ids(name: str, of_transformers: Any, cuts: bool = False) -> Processor:
    return Processor(name, lambda scores, ids: of_transformers(ids, scores), cuts, reads_history=True)


def _warpers(
    spec: ColumnSpec, context: "ColumnContext", keep: int, mirostat: "samplers.Mirostat | None"
) -> list[Processor]:
    """What acts on draws: temperature and truncations."""
    temperature = _number(spec, "temperature", 1.0)
    heat = [] if temperature == 1.0 else [Processor("temperature", lambda scores, _: scores / temperature)]
    cuts = [Processor(name, apply, cuts=True) for name, apply in _truncations(spec, keep)]
    if probability := _number(spec, "xtc_probability", 0.0):
        xtc = samplers.Xtc(probability, _number(spec, "xtc_threshold", 0.1), context.noise.seed)
        cuts.append(Processor("xtc", lambda scores, _: xtc(scores), cuts=True))
    if mirostat is not None:
        cuts.append(Processor("mirostat", lambda scores, _: mirostat(scores), cuts=True))
    return [*cuts, *heat] if spec.knobs.get("temperature_last") is True else [*heat, *cuts]


# name, the value that changes nothing, the filter of one row, the warper of several rows
_TRUNCATIONS: tuple[tuple[str, float, Callable[[Tensor, float], Tensor] | None, Any], ...] = (
    ("top_n_sigma", 0.0, samplers.top_n_sigma, None),
    ("top_h", 1.0, None, lambda value, keep: TopHLogitsWarper(value)),
    ("top_k", 0.0, samplers.top_k, lambda value, keep: TopKLogitsWarper(int(value), min_tokens_to_keep=keep)),
    ("top_p", 1.0, samplers.top_p, lambda value, keep: TopPLogitsWarper(value, min_tokens_to_keep=keep)),
    ("min_p", 0.0, samplers.min_p, lambda value, keep: MinPLogitsWarper(value, min_tokens_to_keep=keep)),
    ("typical_p", 1.0, samplers.typical, lambda value, keep: TypicalLogitsWarper(value, min_tokens_to_keep=keep)),
    ("epsilon_cutoff", 0.0, None, lambda value, keep: EpsilonLogitsWarper(value, min_tokens_to_keep=keep)),
    ("eta_cutoff", 0.0, None, lambda value, keep: EtaLogitsWarper(value, min_tokens_to_keep=keep)),
)


def _truncations(spec: ColumnSpec, keep: int) -> list[tuple[str, Apply]]:
    found: list[tuple[str, Apply]] = []
    for name, neutral, of_row, of_rows in _TRUNCATIONS:
        value = _number(spec, name, neutral)
        if value == neutral and not (name == "top_h" and "top_h" in spec.knobs):
            continue
        if of_row is not None and (keep == 1 or of_rows is None):
            found.append((name, _of_row(of_row, value)))
        else:
            found.append((name, _of_warper(of_rows(value, keep))))
    return found


def _of_row(of_row: Callable[[Tensor, float], Tensor], value: float) -> Apply:
    return lambda scores, _: of_row(scores, value)


def _of_warper(warper: Any) -> Apply:
    return lambda scores, ids: warper(ids, scores)
