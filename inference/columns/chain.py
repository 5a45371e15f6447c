"""The processors of a column, in the order of application.

The order is that of `generate` in transformers 5.23 (`_get_logits_processor`); those that transformers lacks are placed
where other engines have them: penalties before the temperature, truncations after it. `temperature_last` moves the
temperature behind the truncations, as in llama.cpp.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from core.errors import UserError
from inference.columns import penalties, samplers
from inference.columns.samplers import Apply
from inference.strategies import table
from inference.strategies.table import ColumnSpec

if TYPE_CHECKING:
    from inference.columns.base import ColumnContext


@dataclass(frozen=True)
class Processor:
    """One processor: scores [rows, V] and ids [rows, length] in, scores out. `cuts`: it removes tokens."""

    name: str
    apply: Apply
    cuts: bool = False
    reads_history: bool = False

    @property
    def bans(self) -> bool:
        """Whether it may remove all tokens: a truncation always keeps one."""
        return self.cuts and self.reads_history


class ProcessorChain:
    """Processors in sequence. After a call `kept_counts` returns how many tokens of the first row each of them kept."""

    def __init__(self, processors: list[Processor], mirostat: "samplers.Mirostat | None" = None) -> None:
        self.processors = processors
        self.reads_history = any(processor.reads_history for processor in processors)
        self.cuts = any(processor.cuts for processor in processors)
        self._mirostat = mirostat
        self._last: list[tuple[str, Tensor | None]] = [(processor.name, None) for processor in processors]

    def __call__(self, scores: Tensor, ids: list[list[int]]) -> Tensor:
        """Return the processed scores [rows, V]. Raises UserError if bans leave no token in any row."""
        history = torch.tensor(ids, device=scores.device) if self.reads_history else None
        for index, processor in enumerate(self.processors):
            scores = processor.apply(scores, history)
            if processor.bans and not bool((scores > float("-inf")).any()):
                raise UserError("decode.nothing_left")
            self._last[index] = (processor.name, scores if processor.cuts else None)
        return scores

    def drawn(self, token: int) -> None:
        """Tell mirostat which token was drawn, so that it can adjust mu."""
        if self._mirostat is not None:
            self._mirostat.learn(token)

    def kept_counts(self) -> tuple[tuple[str, int | None], ...]:
        """Return the processors' names in order, each with how many tokens of the first row it kept at the last
        step."""
        return tuple((name, None if left is None else _left(left)) for name, left in self._last)


def _left(scores: Tensor) -> int:
    return int((scores[0] > float("-inf")).sum())


def chain_of(spec: ColumnSpec, context: "ColumnContext", keep: int = 1) -> ProcessorChain:
    """Return the processor chain of a column. For beam sampling, `keep` is the least number of tokens that a truncation
    keeps."""
    mirostat = samplers.Mirostat(spec.knobs) if "mirostat_tau" in spec.knobs else None
    processors = _penalties(spec, context)
    if spec.draws:
        processors += _warpers(spec, context, keep, mirostat)
    return ProcessorChain(processors, mirostat)


def _penalties(spec: ColumnSpec, context: "ColumnContext") -> list[Processor]:
    """Return the processors that apply to any column, sampling or not."""
    processors, prompt = [], len(context.prompt_ids)
    if repetition := spec.acting("repetition_penalty"):
        processors.append(_of_ids("repetition_penalty", RepetitionPenaltyLogitsProcessor(repetition)))
    if size := spec.acting("no_repeat_ngram_size"):
        processors.append(_of_ids("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor(int(size)), cuts=True))
    if context.banned:
        banned = NoBadWordsLogitsProcessor(context.banned, sorted(context.end_ids) or None)
        processors.append(_of_ids("banned", banned, cuts=True))
    if presence := spec.acting("presence_penalty"):
        processors.append(Processor("presence_penalty", penalties.presence(presence, prompt), reads_history=True))
    if frequency := spec.acting("frequency_penalty"):
        processors.append(Processor("frequency_penalty", penalties.frequency(frequency, prompt), reads_history=True))
    if multiplier := spec.acting("dry_multiplier"):
        base, allowed = spec.number("dry_base"), int(spec.number("dry_allowed_length"))
        apply = penalties.dry(multiplier, base, allowed, context.breakers)
        processors.append(Processor("dry", apply, reads_history=True))
    return processors


def _of_ids(name: str, of_transformers: Any, cuts: bool = False) -> Processor:
    return Processor(name, lambda scores, ids: of_transformers(ids, scores), cuts, reads_history=True)


def _warpers(
    spec: ColumnSpec, context: "ColumnContext", keep: int, mirostat: "samplers.Mirostat | None"
) -> list[Processor]:
    """Return the processors of sampling columns: temperature and truncations."""
    temperature = spec.acting("temperature")
    heat = [] if temperature is None else [Processor("temperature", lambda scores, _: scores / temperature)]
    cuts = [Processor(name, apply, cuts=True) for name, apply in _truncations(spec, keep)]
    if probability := spec.acting("xtc_probability"):
        xtc = samplers.Xtc(probability, spec.number("xtc_threshold"), context.noise.seed)
        cuts.append(Processor("xtc", lambda scores, _: xtc(scores), cuts=True))
    if mirostat is not None:
        cuts.append(Processor("mirostat", lambda scores, _: mirostat(scores), cuts=True))
    return [*cuts, *heat] if spec.knobs.get("temperature_last") is True else [*heat, *cuts]


def _truncations(spec: ColumnSpec, keep: int) -> list[tuple[str, Apply]]:
    found = [(knob.name, spec.acting(knob.name)) for knob in table.FILTERS]
    return [(name, samplers.FILTERS[name].applied(value, keep)) for name, value in found if value is not None]
