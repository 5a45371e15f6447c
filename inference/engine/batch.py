"""One model's columns in one batch: a single prefill, then a single forward pass per step for all of them.

All rows have the same length, so there is no padding and no mask. Base and tuned columns share the batch through PEFT's
`adapter_names`, with one prefill row each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.columns.base import Column, ColumnContext, Hidden, StepInput, TokenDistribution
from inference.columns.factory import make_column
from inference.columns.samplers import Noise
from inference.engine import stops
from inference.engine.decoder import ADAPTER, BASE, Decoder, Output, PlainDecoder, plain_model
from inference.engine.fast_llama import LeanDecoder, lean_of
from inference.engine.prepacked import prepacked
from inference.models.loading import Loaded
from inference.strategies.table import ColumnSpec

__all__ = ["ADAPTER", "BASE", "Batch", "Panel", "distributions_of", "end_ids", "pack_weights", "plain_model"]
LIKELIEST = 8
Failed = Callable[[int, Exception], None]


@dataclass(frozen=True)
class Panel:
    """What runs in one batch: a loaded model, the prompt's ids, and columns with their index in the comparison.

    Columns with `model="base"`, and those whose index is in `plain`, run without the adapter.
    """

    loaded: Loaded
    prompt_ids: list[int]
    columns: list[tuple[int, ColumnSpec]]
    plain: frozenset[int] = frozenset()

    def bare(self, index: int, spec: ColumnSpec) -> bool:
        """Return whether a column runs without the adapter."""
        return self.loaded.adapter is None or spec.model == "base" or index in self.plain


def end_ids(model: Any) -> frozenset[int]:
    """Return the end tokens of a model's generation config, as `generate` uses them."""
    ends = plain_model(model).generation_config.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(int(token) for token in (ends if isinstance(ends, list | tuple) else [ends]))


def pack_weights(loaded: Loaded) -> None:
    """Pack the weights for this device, where that is possible; done once per model."""
    if lean_of(loaded.model) is None:
        prepacked(loaded.model)


class Batch:
    """The columns of one panel. `begin` and `advance` make one model call each.

    With `exact` the plain linear layers are used and the prefill has as many rows as the columns need, so that a column
    alone in its batch is computed in the exact shapes of `generate`.
    """

    def __init__(self, panel: Panel, seed: int, max_new_tokens: int, exact: bool = False) -> None:
        self.panel = panel
        self._loaded = panel.loaded
        self._exact = exact
        self._device = torch.device(panel.loaded.device)
        inner = plain_model(panel.loaded.model)
        self._config = inner.config
        self._head = inner.get_output_embeddings()
        self._noises: dict[int, Noise] = {}
        self._plain = {i: panel.bare(i, spec) for i, spec in panel.columns}
        self.columns = {i: make_column(spec, self._context(spec, seed, max_new_tokens)) for i, spec in panel.columns}
        self._decoder = self._make_decoder(max_new_tokens)
        self._rows = 0
        self.forwards = 0

    def _make_decoder(self, max_new_tokens: int) -> Decoder:
        model = self._loaded.model
        lean = None if self._exact else lean_of(model)
        if lean is None:
            return PlainDecoder(self._loaded, model if self._exact else prepacked(model))
        rows = sum(spec.rows for _, spec in self.panel.columns)
        tokens = len(self.panel.prompt_ids) + max_new_tokens + 1
        return LeanDecoder(lean, rows, tokens)

    def _context(self, spec: ColumnSpec, seed: int, limit: int) -> ColumnContext:
        own = int(spec.knobs.get("seed", seed))
        if own not in self._noises:
            self._noises[own] = Noise(own, self._device)
        tokenizer, config = self._loaded.tokenizer, self._config.get_text_config()
        return ColumnContext(
            end_ids(self._loaded.model),
            limit,
            self._noises[own],
            self.panel.prompt_ids,
            stops.stop_check(tokenizer, spec.texts("stop")),
            stops.banned_ids(tokenizer, spec.texts("banned")),
            stops.breaker_ids(tokenizer, config.vocab_size) if spec.knobs.get("dry_multiplier") else frozenset(),
            config.num_hidden_layers,
            bool(config.tie_word_embeddings),
        )

    @property
    def running(self) -> dict[int, Column]:
        """The columns that are not done, by index."""
        return {index: column for index, column in self.columns.items() if column.finish is None}

    def _tuned(self, index: int, column: Column) -> list[bool]:
        """Return, for each row of a column, whether it runs with the adapter."""
        return [own and not self._plain[index] for own in column.row_models()]

    @torch.inference_mode()
    def begin(self, failed: Failed) -> None:
        """Run the prefill, one row per model, and let every column choose its first token."""
        wanted = [tuned for index, column in self.columns.items() for tuned in self._tuned(index, column)]
        kinds = sorted(set(wanted))
        if self._exact:
            kinds = kinds * max(column.spec.rows for column in self.columns.values())
        self._rows = len(kinds)
        order = [kinds.index(tuned) for tuned in wanted]
        ids = self.panel.prompt_ids + self._feed_start_ids(kinds, order, failed)
        self._choose(self._forward(torch.tensor([ids] * len(kinds)), kinds), order, failed)

    def _feed_start_ids(self, kinds: list[bool], order: list[int], failed: Failed) -> list[int]:
        """Return the tokens of `start` that become part of the prompt: with `exact` all of them, as for `generate`,
        unless a column needs hidden states; else none.

        The columns first choose at the positions of these tokens, whose logits come from separate forward passes.
        """
        start = next(iter(self.columns.values())).start if self._exact else []
        if not start or any(column.needs_hidden for column in self.columns.values()):
            return []
        own, self._decoder = self._decoder, PlainDecoder(self._loaded, self._loaded.model)
        outputs = [self._forward(torch.tensor([self.panel.prompt_ids] * len(kinds)), kinds)]
        if len(start) > 1:
            outputs.append(self._forward(torch.tensor([start[:-1]] * len(kinds)), kinds, every=True))
        for logits in torch.cat([output.logits for output in outputs], 1).split(1, 1):
            self._choose(Output(logits), order, failed)
        self._decoder = own
        return start

    @torch.inference_mode()
    def advance(self, failed: Failed) -> None:
        """Run one forward pass for the tokens chosen last, and let every column choose the next ones."""
        running = self.running
        tokens = [token for column in running.values() for token in column.tokens]
        tuned = [own for index, column in running.items() for own in self._tuned(index, column)]
        output = self._forward(torch.tensor(tokens)[:, None], tuned)
        self._rows = len(tokens)
        self._choose(output, list(range(len(tokens))), failed)

    def _forward(self, ids: Tensor, tuned: list[bool], every: bool = False) -> Output:
        self.forwards += 1
        hidden = any(column.needs_hidden for column in self.running.values())
        return self._decoder.forward(ids, tuned, hidden=hidden, every=every)

    def _choose(self, output: Output, order: list[int], failed: Failed) -> None:
        """Let each column choose from its rows, then bring the cache into the order of the rows that continue.

        `order` holds the row of the output behind each row of the columns.
        """
        logits = output.logits[:, -1]
        for noise in self._noises.values():
            noise.next_step(logits.shape[-1])
        logprobs = logits.log_softmax(-1)
        distributions = distributions_of(logprobs)
        kept: list[int] = []
        for index, column, rows in list(self._columns_with_rows(order)):
            hidden = Hidden(output.layers, rows, self._head_of(index)) if column.needs_hidden else None
            try:
                column.step(StepInput(logits[rows], logprobs[rows], [distributions[row] for row in rows], hidden))
            except Exception as error:  # one column's failure is its own; the caller logs and reports it
                column.stop("error")
                failed(index, error)
            kept += [rows[parent] for parent in column.parents]
        if kept and kept != list(range(self._rows)):
            self._decoder.reorder(kept)

    def _head_of(self, index: int) -> Any:
        """Return the head that computes a column's logits of an early layer.

        If the adapter covers the head, too, base columns use the layer under it. Called directly, PEFT's layer applies
        the adapter to every row.
        """
        return getattr(self._head, "base_layer", self._head) if self._plain[index] else self._head

    def _columns_with_rows(self, order: list[int]) -> Iterator[tuple[int, Column, list[int]]]:
        """Yield each running column with its rows of the logits, in the order of the columns."""
        start = 0
        for index, column in self.running.items():
            width = len(column.row_models())
            yield index, column, order[start : start + width]
            start += width

    def close(self) -> None:
        """Free the cache."""
        self._decoder.close()


def distributions_of(logprobs: Tensor) -> list[TokenDistribution]:
    """Return the distribution of each row of float32 log-probabilities [rows, V]."""
    values, ids = (found.tolist() for found in logprobs.topk(min(LIKELIEST, logprobs.shape[-1])))
    entropies = -(logprobs.exp() * logprobs).nansum(-1)
    return [TokenDistribution(*facts) for facts in zip(ids, values, entropies.tolist(), strict=True)]
