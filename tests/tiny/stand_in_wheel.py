"""A small wheel with a tiny GGUF in it, like the one the stand-in comes from, and a package index that serves it."""

import hashlib
import http.server
import os
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy

from inference.models.fallback_model import StandInSource

NAME = "tiny-stand-in"
FILE = "tiny_stand_in-1.0-py3-none-any.whl"
MEMBER = "tiny_stand_in/model.gguf"


def make_wheel(model: Path, folder: Path, *, padding: int = 0) -> StandInSource:
    """Pack the tiny model, quantised like the real one, into a wheel in `folder`; `padding` bytes make it longer."""
    gguf = folder / "model.gguf"
    write_gguf(model, gguf)
    info = "tiny_stand_in-1.0.dist-info"
    with zipfile.ZipFile(folder / FILE, "w") as wheel:
        wheel.write(gguf, MEMBER)
        wheel.writestr("tiny_stand_in/padding", os.urandom(padding))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-stand-in\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    content = (folder / FILE).read_bytes()
    return StandInSource(
        name=NAME,
        requirement=f"{NAME}==1.0",
        file=FILE,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        member=MEMBER,
        converted_size=10**6,
    )


def write_gguf(model: Path, target: Path) -> None:
    """The tiny Llama as a GGUF: q4_1 matrices, q8_0 embedding, float32 norms, tokenizer and template."""
    import gguf
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _write_tokenizer(writer, tokenizer)
    for name, values in quantised(model, config).items():
        raw, kind = values
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer, tokenizer) -> None:
    import json

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tokenizer.all_special_tokens else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def quantised(model: Path, config) -> dict:
    """GGUF name -> (raw values, type)."""
    from gguf import GGMLQuantizationType as Kind
    from gguf import quants
    from safetensors.numpy import load_file

    found = {}
    for name, values in load_file(model / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _interleave(values, config.hidden_size // config.num_attention_heads)
        kind = Kind.F32 if values.ndim == 1 else Kind.Q8_0 if "embed" in name else Kind.Q4_1
        found[_name(name)] = (values if kind == Kind.F32 else quants.quantize(values, kind), kind)
    return found


def dequantised(model: Path, config) -> dict:
    """transformers' name -> the float32 values that the GGUF really holds."""
    from gguf import quants
    from safetensors.numpy import load_file

    held = {}
    raw = quantised(model, config)
    for name in load_file(model / "model.safetensors"):
        values, kind = raw[_name(name)]
        values = quants.dequantize(values, kind) if values.ndim > 1 else values
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _interleave(values, config.hidden_size // config.num_attention_heads, back=True)
        held[name] = values
    return held


def _interleave(values: numpy.ndarray, head: int, back: bool = False) -> numpy.ndarray:
    """The order of rows in which llama.cpp keeps the two halves of each head's rotation."""
    halves = (head // 2, 2) if back else (2, head // 2)
    return numpy.ascontiguousarray(values.reshape(-1, *halves, values.shape[1]).swapaxes(1, 2).reshape(values.shape))


def _name(name: str) -> str:
    parts = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
    }
    for long, short in parts.items():
        name = name.replace(long, short)
    return name


class Index:
    """A package index on loopback; while `hold` is set it sends half of the wheel and then waits."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.hold = threading.Event()
        self.let_go = threading.Event()
        self.downloads = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """A page of links, or the wheel."""
        wheel = request.path.endswith(".whl")
        content = self.wheel.read_bytes() if wheel else f'<a href="/{FILE}">{FILE}</a>'.encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/octet-stream" if wheel else "text/html")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        half = len(content) // 2 if wheel else 0
        request.wfile.write(content[:half])
        if wheel:
            self.downloads += 1
            if self.hold.is_set():
                self.let_go.wait()
        try:
            request.wfile.write(content[half:])
        except OSError:
            assert self.hold.is_set(), "only a stopped download hangs up"


@contextmanager
def serving(wheel: Path):
    """Serve a wheel as long as the block runs."""
    index = Index(wheel)
    thread = threading.Thread(target=index.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.let_go.set()
        index.server.shutdown()
        index.server.server_close()
