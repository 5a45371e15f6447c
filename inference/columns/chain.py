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
    from inference.columns.base import Setting

Apply = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Link:
    """One processor: scores [rows, V] and ids [rows, length] in, scores out. `cuts`: it takes tokens away."""

    name: str
    apply: Apply
    cuts: bool = False
    reads_history: bool = False

    @property
    def bans(self) -> bool:
        """Whether it may take all tokens away: a truncation always leaves one."""
        return self.cuts and self.reads_history


class Chain:
    """Processors one after another. After a call `told` says how many tokens each left of the first row."""

    def __init__(self, links: list[Link], mirostat: "samplers.Mirostat | None" = None) -> None:
        self.links = links
        self.reads_history = any(link.reads_history for link in links)
        self.cuts = any(link.cuts for link in links)
        self._mirostat = mirostat
        self._last: list[tuple[str, Tensor | None]] = [(link.name, None) for link in links]

    def __call__(self, scores: Tensor, ids: list[list[int]]) -> Tensor:
        """The scores [rows, V] that are left. Raises UserError where bans leave no token in any row."""
        history = torch.tensor(ids, device=scores.device) if self.reads_history else None
        for place, link in enumerate(self.links):
            scores = link.apply(scores, history)
            if link.bans and not bool((scores > float("-inf")).any()):
                raise UserError("decode.nothing_left")
            self._last[place] = (link.name, scores if link.cuts else None)
        return scores

    def drawn(self, token: int) -> None:
        """This token was drawn: what mirostat learns from."""
        if self._mirostat is not None:
            self._mirostat.learn(token)

    def told(self) -> tuple[tuple[str, int | None], ...]:
        """The names in order, each with how many tokens of the first row it left at the last step."""
        return tuple((name, None if left is None else _left(left)) for name, left in self._last)


def _left(scores: Tensor) -> int:
    return int((scores[0] > float("-inf")).sum())


def chain_of(spec: ColumnSpec, setting: "Setting", keep: int = 1) -> Chain:
    """The chain of a column. For beams that draw, `keep` is the least number of tokens that a truncation leaves."""
    mirostat = samplers.Mirostat(spec.knobs) if "mirostat_tau" in spec.knobs else None
    links = _penalties(spec, setting)
    if spec.draws:
        links += _warpers(spec, setting, keep, mirostat)
    return Chain(links, mirostat)


def _number(spec: ColumnSpec, name: str, neutral: float) -> float:
    value = spec.knobs.get(name, neutral)
    return neutral if value == "" else float(value)


def _penalties(spec: ColumnSpec, setting: "Setting") -> list[Link]:
    """What acts on any column, drawn or not."""
    links, prompt = [], len(setting.prompt_ids)
    if (repetition := _number(spec, "repetition_penalty", 1.0)) != 1.0:
        links.append(_of_ids("repetition_penalty", RepetitionPenaltyLogitsProcessor(repetition)))
    if (size := int(_number(spec, "no_repeat_ngram_size", 0))) > 0:
        links.append(_of_ids("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor(size), cuts=True))
    if setting.banned:
        banned = NoBadWordsLogitsProcessor(setting.banned, sorted(setting.end_ids) or None)
        links.append(_of_ids("banned", banned, cuts=True))
    if presence := _number(spec, "presence_penalty", 0.0):
        links.append(Link("presence_penalty", penalties.presence(presence, prompt), reads_history=True))
    if frequency := _number(spec, "frequency_penalty", 0.0):
        links.append(Link("frequency_penalty", penalties.frequency(frequency, prompt), reads_history=True))
    if multiplier := _number(spec, "dry_multiplier", 0.0):
        base, allowed = _number(spec, "dry_base", 1.75), int(_number(spec, "dry_allowed_length", 2))
        apply = penalties.dry(multiplier, base, allowed, setting.breakers)
        links.append(Link("dry", apply, reads_history=True))
    return links


def _of_ids(name: str, processor: Any, cuts: bool = False) -> Link:
    return Link(name, lambda scores, ids: processor(ids, scores), cuts, reads_history=True)


def _warpers(spec: ColumnSpec, setting: "Setting", keep: int, mirostat: "samplers.Mirostat | None") -> list[Link]:
    """What acts on draws: temperature and truncations."""
    temperature = _number(spec, "temperature", 1.0)
    heat = [] if temperature == 1.0 else [Link("temperature", lambda scores, _: scores / temperature)]
    cuts = [Link(name, apply, cuts=True) for name, apply in _truncations(spec, keep)]
    if probability := _number(spec, "xtc_probability", 0.0):
        xtc = samplers.Xtc(probability, _number(spec, "xtc_threshold", 0.1), setting.noise.seed)
        cuts.append(Link("xtc", lambda scores, _: xtc(scores), cuts=True))
    if mirostat is not None:
        cuts.append(Link("mirostat", lambda scores, _: mirostat(scores), cuts=True))
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
