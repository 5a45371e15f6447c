"""Many columns in one batch against `model.generate` calls one after another, in the same dtype.

    python -m benchmarks.decode [--model REF] [--dtype float32 bfloat16] [--tokens 100] [--repeat 3] [--only NAME ...]
        [--device cpu]

Prints our figure, the peer's and the ratio for eight and twelve columns, one column alone and the first tokens; with
`--only growth` for the length, with `--only memory` for the memory (on the CPU, in a process of its own). The peer of
the columns runs on the plain model and on the same prepacked layers. Other load slows both sides: compare ratios.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import transformers

from core import settings
from core.workspace import local_owner
from inference.compare.replay import generate_alone, new_tokens
from inference.engine.batch import pack_weights
from inference.engine.engine import Panel, compare, prompt_ids
from inference.engine.prepacked import prepacked
from inference.models.loading import Loaded, load
from inference.models.locate import locate
from inference.strategies.table import ColumnSpec, parse_columns

EIGHT = ["greedy", "beam", "sample", "top_k", "nucleus", "min_p", "typical", "sample temperature=0.7"]
TWELVE = [*EIGHT, "epsilon", "eta", "top_h", "nucleus top_p=0.5"]
PROMPT = "Write a short story about a lighthouse keeper who finds a letter in a bottle."
SEED = 7
Run = tuple[float, list[list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=settings.DEFAULT_MODEL, help="model reference")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the first GPU")
    parser.add_argument("--tokens", type=int, default=100, help="new tokens a column")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side; the median is printed")
    parser.add_argument("--only", nargs="+", default=["columns", "one", "first"], choices=[*PARTS, "memory"])
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    name = device_name(options.device)
    print(f"{name}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    source = locate(options.model, local_owner())
    for dtype in options.dtype:
        for name in options.only:
            if name == "memory":
                subprocess.run([sys.executable, "-m", "benchmarks.decode_memory", options.model, dtype], check=True)
        parts = [PARTS[name] for name in options.only if name != "memory"]
        if parts:
            loaded = load(source, dtype, options.device)
            pack_weights(loaded)
            ids = prompt_ids(loaded.tokenizer, PROMPT)
            print(f"\n{loaded.name}, {loaded.dtype}, {len(ids)} prompt tokens")
            for part in parts:
                part(loaded, ids, options.tokens, options.repeat)


def columns(loaded: Loaded, ids: list[int], tokens: int, repeat: int) -> None:
    """Eight and twelve columns; the sides take turns, so that other load falls on all of them."""
    packed = replace(loaded, model=prepacked(loaded.model))
    together(loaded, ids, parse_columns(TWELVE), 4)
    for lines in (EIGHT, TWELVE):
        specs = parse_columns(lines)
        ours, peer, packed_peer, one = [], [], [], []
        for _ in range(repeat):
            ours.append(together(loaded, ids, specs, tokens))
            one.append(one_by_one(loaded, ids, specs[:1], tokens))
            peer.append(one_by_one(loaded, ids, specs, tokens))
            if lines is EIGHT and packed.model is not loaded.model:
                packed_peer.append(one_by_one(packed, ids, specs, tokens))
        print(f"  {len(specs)} columns of up to {tokens} tokens in one batch   {figures(ours)}")
        print(f"    {'one greedy generate call':42s}  {figures(one)}   ours takes {ratio(ours, one):.2f} times it")
        for title, runs in ((f"{len(specs)} generate calls", peer), ("the same, prepacked", packed_peer)):
            if runs:
                equal = sum(a == b for a, b in zip(ours[-1][1], runs[-1][1], strict=True))
                print(f"    {title:42s}  {figures(runs)}   {ratio(runs, ours):.2f} times ours, {equal} columns equal")


def one_column(loaded: Loaded, ids: list[int], tokens: int, repeat: int) -> None:
    """One greedy column, as in a chat, against one `generate` call: tokens a second."""
    specs = parse_columns(["greedy"])
    ours, peer = [], []
    for _ in range(repeat):
        ours.append(together(loaded, ids, specs, tokens))
        peer.append(one_by_one(loaded, ids, specs, tokens))
    speeds = [len(runs[-1][1][0]) / median(seconds for seconds, _ in runs) for runs in (ours, peer)]
    shown = f"ours {speeds[0]:.1f} tokens/s, generate {speeds[1]:.1f}"
    print(f"  one greedy column                            {shown}, {speeds[0] / speeds[1]:.2f} times generate's")


def first_tokens(loaded: Loaded, ids: list[int], tokens: int, repeat: int) -> None:
    """The first token of all columns against one prefill of the plain model."""
    specs = parse_columns(TWELVE)
    ours = [together(loaded, ids, specs, 1) for _ in range(repeat * 3)]
    peer = [timed(lambda: _prefill(loaded, ids)) for _ in range(repeat * 3)]
    print(f"  the first token of {len(specs)} columns               {figures(ours)}")
    print(
        f"    one prefill of the model                    {figures(peer)}   ours takes {ratio(ours, peer):.2f} times it"
    )


def growth(loaded: Loaded, ids: list[int], tokens: int, repeat: int) -> None:
    """Milliseconds a step at 100, 500 and 2,000 tokens, of columns that cannot end, beside one greedy `generate`.

    What must grow is the reading of the keys and values so far: how long that takes is measured as the sum of a tensor
    of as many bytes, and what is left of a step is printed, too.
    """
    loaded.model.generation_config.eos_token_id = None
    specs = parse_columns(EIGHT)
    rows = sum(spec.knobs.get("num_beams", 1) if spec.strategy == "beam" else 1 for spec in specs)
    config = loaded.model.config
    heads, layers = config.num_key_value_heads, config.num_hidden_layers
    a_token = 2 * layers * heads * config.head_dim * loaded.model.dtype.itemsize
    for length in (100, 500, 2000):
        ours = 1000 * together(loaded, ids, specs, length)[0] / length
        peer = 1000 * one_by_one(loaded, ids, specs[:1], length)[0] / length
        read = rows * (len(ids) + length / 2) * a_token
        least = _reading(read, loaded.device)
        shown = f"  {len(specs)} columns of {length:5d} tokens   {ours:5.1f} ms a step, generate {peer:5.1f} for one"
        print(f"{shown}; reading {read / 1e6:4.0f} MB of keys and values {least:4.1f}, the rest {ours - least:4.1f}")


def _reading(size: float, device: str) -> float:
    """Milliseconds to read so many bytes, the median of some tries; the device's caches hold less than all of it."""
    numbers = torch.ones(int(size) // 4, device=device)
    return 1000 * median(timed(lambda: [[int(numbers.sum())]])[0] for _ in range(7))


PARTS: dict[str, Callable[[Loaded, list[int], int, int], None]] = {
    "columns": columns,
    "one": one_column,
    "first": first_tokens,
    "growth": growth,
}


def figures(runs: list[Run]) -> str:
    seconds = sorted(run[0] for run in runs)
    return f"{median(seconds):6.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"


def ratio(above: list[Run], below: list[Run]) -> float:
    """The quotient of the medians."""
    return median(seconds for seconds, _ in above) / median(seconds for seconds, _ in below)


def timed(work: Callable[[], list[list[int]]]) -> Run:
    started = time.perf_counter()
    rows = work()
    return time.perf_counter() - started, rows


def together(loaded: Loaded, ids: list[int], specs: list[ColumnSpec], tokens: int) -> Run:
    """Seconds and tokens of all columns in one batch."""

    def work() -> list[list[int]]:
        events = compare([Panel(loaded, ids, list(enumerate(specs)))], seed=SEED, max_new_tokens=tokens)
        return [column.token_ids for column in list(events)[-1].result.columns]

    return timed(work)


def one_by_one(loaded: Loaded, ids: list[int], specs: list[ColumnSpec], tokens: int) -> Run:
    """Seconds and tokens of one `generate` call a column."""

    def work() -> list[list[int]]:
        rows = [generate_alone(loaded, ids, spec, seed=SEED, max_new_tokens=tokens)[0] for spec in specs]
        return [new_tokens(row, ids) for row in rows]

    return timed(work)


@torch.inference_mode()
def _prefill(loaded: Loaded, ids: list[int]) -> list[list[int]]:
    seen = loaded.model(input_ids=torch.tensor([ids], device=loaded.model.device), use_cache=True, logits_to_keep=1)
    return [[int(seen.logits[0, -1].argmax())]]  # a GPU is waited for


def device_name(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {os.cpu_count()}"


if __name__ == "__main__":
    main()
