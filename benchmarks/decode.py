"""Eight columns in one batch against eight `model.generate` calls one after another, in the same dtype.

    python -m benchmarks.decode [--model REF] [--dtype float32 bfloat16] [--tokens 100] [--repeat 3]

Prints our seconds, the peer's, the ratio and how many columns have the very tokens of the peer. The peer runs twice:
on the plain model, and on the same prepacked linear layers that the engine uses. Other load on the machine slows both
sides; compare ratios.
"""

import argparse
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import transformers

from core import settings
from core.workspace import local_owner
from inference.engine import Panel, compare, prompt_ids
from inference.loading import Loaded, load
from inference.models import locate
from inference.prepacked import prepacked
from inference.replay import generate_alone, new_tokens
from inference.strategies import ColumnSpec, parse_columns

COLUMNS = ["greedy", "beam", "sample", "top_k", "nucleus", "min_p", "typical", "sample temperature=0.7"]
PROMPT = "Write a short story about a lighthouse keeper who finds a letter in a bottle."
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=settings.DEFAULT_MODEL, help="model reference")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=100, help="new tokens a column")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side; the median is printed")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    source = locate(options.model, local_owner())
    for dtype in options.dtype:
        measure(load(source, dtype, "cpu"), options.tokens, options.repeat)


def measure(loaded: Loaded, tokens: int, repeat: int) -> None:
    """Print the figures of one dtype; the sides take turns, so that other load falls on all of them."""
    specs = parse_columns(COLUMNS)
    ids = prompt_ids(loaded.tokenizer, PROMPT)
    packed = replace(loaded, model=prepacked(loaded.model))
    ours, peer, packed_peer = [], [], []
    together(loaded, ids, specs, 4)
    for _ in range(repeat):
        ours.append(together(loaded, ids, specs, tokens))
        peer.append(one_by_one(loaded, ids, specs, tokens))
        packed_peer.append(one_by_one(packed, ids, specs, tokens))
    print(f"\n{loaded.name}, {loaded.dtype}, {len(ids)} prompt tokens, {len(specs)} columns of up to {tokens} tokens")
    print(f"  one batch, ours            {figures(ours)}")
    for title, runs in (("eight generate calls", peer), ("the same, prepacked", packed_peer)):
        equal = sum(a == b for a, b in zip(ours[-1][1], runs[-1][1], strict=True))
        ratio = median(seconds for seconds, _ in runs) / median(seconds for seconds, _ in ours)
        print(f"  {title:24s}   {figures(runs)}   {ratio:.2f} times ours, {equal} of {len(specs)} columns equal")


def figures(runs: list[tuple[float, list[list[int]]]]) -> str:
    seconds = sorted(run[0] for run in runs)
    return f"{median(seconds):6.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"


def together(loaded: Loaded, ids: list[int], specs: list[ColumnSpec], tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds and tokens of all columns in one batch."""
    started = time.perf_counter()
    events = compare([Panel(loaded, ids, list(enumerate(specs)))], seed=SEED, max_new_tokens=tokens)
    result = list(events)[-1].result
    return time.perf_counter() - started, [column.token_ids for column in result.columns]


def one_by_one(loaded: Loaded, ids: list[int], specs: list[ColumnSpec], tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds and tokens of one `generate` call a column."""
    started = time.perf_counter()
    rows = [generate_alone(loaded, ids, spec, seed=SEED, max_new_tokens=tokens)[0] for spec in specs]
    return time.perf_counter() - started, [new_tokens(row, ids) for row in rows]


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {os.cpu_count()}"


if __name__ == "__main__":
    main()
