"""One GGUF file: metadata, vocabulary and tensors of a Llama or Qwen model, streamed from safetensors row by row.

Names, rotary order and metadata are those of llama.cpp's own converter
(https://github.com/ggml-org/llama.cpp/tree/master/conversion).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from finetune.publish.formats import gguf_vocab
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.gguf_vocab import Vocabulary
from finetune.publish.formats.lora_delta import HEAD, WeightPlan
from finetune.publish.formats.weights import Reader, WeightPart

if TYPE_CHECKING:
    import numpy
    import torch

FAMILIES = ("llama", "qwen2", "qwen3")
_FILE_TYPES = {"F16": 1, "Q8_0": 7}
_BLOCK = 8 * 2**20
_GROUP, _GROUP_BYTES = 32, 34
_ROPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Header:
    """The metadata of the file: `config` is that of transformers, `vocabulary` the tokens."""

    name: str
    config: Any
    vocabulary: Vocabulary
    license: str | None = None

    @property
    def family(self) -> str:
        return str(self.config.model_type)

    @property
    def head_dim(self) -> int:
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the file: `type` is F32, F16 or Q8_0; `head_dim` is set where rows are put into llama.cpp's rotary
    order."""

    name: str
    part: WeightPart
    type: str
    head_dim: int = 0

    @property
    def size(self) -> int:
        """Bytes in the file."""
        if self.type == "Q8_0":
            return self.part.numbers // _GROUP * _GROUP_BYTES
        return self.part.numbers * (2 if self.type == "F16" else 4)


def check_family(config: Any) -> None:
    """Raise UserError for a model that a GGUF cannot represent correctly."""
    if config.model_type not in FAMILIES:
        raise UserError("kinds.family", value=str(config.model_type)[:40], known=", ".join(FAMILIES))
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") not in _ROPES:
        raise UserError("kinds.gguf_feature", value=f"rope_type={rope.get('rope_type')}"[:60])
    if getattr(config, "use_sliding_window", False):
        raise UserError("kinds.gguf_feature", value="use_sliding_window")
    if config.hidden_act != "silu":
        raise UserError("kinds.gguf_feature", value=f"hidden_act={config.hidden_act}"[:60])


def outline(plan: WeightPlan, header: Header, file_type: str) -> list[OutputTensor]:
    """Return the tensors of the file in the order of the plan: matrices in `file_type`, vectors in F32.

    A matrix whose rows are no multiple of 32 stays F16 in a Q8_0 file. Raises UserError for a tensor of no known name.
    """
    import gguf

    architecture = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[header.family]
    names = gguf.get_tensor_name_map(architecture, header.config.num_hidden_layers)
    outputs = []
    for part in plan.parts:
        if part.name.endswith("rotary_emb.inv_freq") or _is_tied_head(part, header, plan):
            continue
        name = names.get_name(part.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError("kinds.gguf_tensor", value=part.name[:120])
        interleaved = header.family == "llama" and (".q_proj." in part.name or ".k_proj." in part.name)
        outputs.append(
            OutputTensor(
                name, replace(part, dtype="F32"), _type(part, file_type), header.head_dim if interleaved else 0
            )
        )
    return outputs


def _is_tied_head(part: WeightPart, header: Header, plan: WeightPlan) -> bool:
    """Return whether this is the head of a model that uses its embeddings instead."""
    return part.name == HEAD and header.config.tie_word_embeddings and not plan.untied


def _type(part: WeightPart, file_type: str) -> str:
    if len(part.shape) < 2:
        return "F32"
    return "F16" if file_type == "Q8_0" and part.shape[-1] % _GROUP else file_type


def write(path: Path, outputs: list[OutputTensor], header: Header, file_type: str, progress: BuildProgress) -> None:
    """Write the file. Raises UserError for a weight that half precision cannot hold, or when stopped."""
    import gguf
    import numpy

    progress.step(say("kinds.writing", file=path.name))
    writer = gguf.GGUFWriter(path, header.family)
    try:
        _metadata(writer, header, file_type)
        gguf_vocab.write(header.vocabulary, writer)
        factors = _rope_factors(header)
        if factors is not None:
            writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        for output in outputs:
            raw = getattr(gguf.GGMLQuantizationType, output.type)
            writer.add_tensor_info(output.name, output.part.shape, numpy.dtype("float32"), output.size, raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        with Reader() as reader:
            for output in outputs:
                stream: Any = _Stream(output, reader, progress)
                writer.write_tensor_data(stream, gguf.GGUFEndian.LITTLE)
    finally:
        writer.close()


class _Stream:
    """A tensor that is made while it is written; GGUFWriter asks for `nbytes` and `tofile` only."""

    def __init__(self, output: OutputTensor, reader: Reader, progress: BuildProgress) -> None:
        self.output, self.reader, self.progress, self.nbytes = output, reader, progress, output.size

    def tofile(self, file: IO[bytes]) -> None:
        block: Any
        for block in self._encoded():
            file.write(block)  # numpy's own tofile hides the reason of a failed write
            self.progress.add(block.nbytes)

    def _encoded(self) -> "Iterator[numpy.ndarray[Any, Any]]":
        import numpy

        for rows in self.reader.blocks(self.output.part, _BLOCK, self.output.head_dim or 1):
            values = (_interleaved(rows, self.output.head_dim) if self.output.head_dim else rows).numpy()
            if not numpy.isfinite(values).all() or (self.output.type == "F16" and numpy.abs(values).max() > 65504):
                raise UserError("kinds.overflow", value=self.output.part.name[:120])
            yield numpy.ascontiguousarray(self._typed(values))

    def _typed(self, values: "numpy.ndarray[Any, Any]") -> "numpy.ndarray[Any, Any]":
        import gguf
        import numpy

        if self.output.type == "Q8_0":
            return gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        return values.astype(numpy.float16) if self.output.type == "F16" else values


def _interleaved(rows: "torch.Tensor", head_dim: int) -> "torch.Tensor":
    """Return rows of complete heads in llama.cpp's rotary order: the two halves of a head interleaved."""
    heads = len(rows) // head_dim
    return rows.reshape(heads, 2, head_dim // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _metadata(writer: Any, header: Header, file_type: str) -> None:
    config = header.config
    writer.add_type("model")
    writer.add_name(header.name)
    if header.license:
        writer.add_license(header.license)
    writer.add_file_type(_FILE_TYPES[file_type])
    writer.add_quantization_version(2)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(header.vocabulary.tokens))
    writer.add_rope_dimension_count(header.head_dim)
    writer.add_key_length(header.head_dim)
    writer.add_value_length(header.head_dim)
    _rope(writer, config)


def _rope(writer: Any, config: Any) -> None:
    import gguf

    rope = config.rope_parameters or {}
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        scaling = gguf.RopeScalingType.LINEAR if kind == "linear" else gguf.RopeScalingType.YARN
        writer.add_rope_scaling_type(scaling)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for name, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(name) is not None:
                add(float(rope[name]))


def _rope_factors(header: Header) -> "numpy.ndarray[Any, Any] | None":
    """Return the divisor of each rotary frequency in Llama 3.1's scaling, [head_dim / 2]; None for other models."""
    import numpy

    rope = header.config.rope_parameters or {}
    if rope.get("rope_type") != "llama3":
        return None
    powers = numpy.arange(0, header.head_dim, 2, dtype=numpy.float64) / header.head_dim
    lengths = 2 * math.pi * float(rope["rope_theta"]) ** powers
    factor, low, high = (float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(rope["original_max_position_embeddings"])
    smooth = (context / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = numpy.where(lengths < context / high, 1.0, numpy.where(lengths > context / low, factor, between))
    return factors.astype(numpy.float32)
