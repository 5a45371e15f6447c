"""Merge a run's adapter and write it as GGUF: seconds, peak memory against the largest shard, distances read back.

    python -m benchmarks.publish RUN [--shard-size 100MB] [--llama-cpp]

RUN is a run that is done. The peer is PEFT's `merge_and_unload` followed by `save_pretrained`; both merge in a process
of their own, whose memory is counted from after its imports. With --llama-cpp the GGUF files are also read by
llama-cpp-python (`pip install llama-cpp-python`), whose tokens and likeliest tokens are compared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core.workspace import local_owner
from finetune.publish.formats import logit_check, lora_delta, merged
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.trained_run import TrainedFolders, trained
from finetune.publish.kinds import Options, build
from finetune.runs.run import find


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__.split("\n")[0])
    parser.add_argument("run", help="a run that is done")
    parser.add_argument("--shard-size", default="100MB")
    parser.add_argument("--llama-cpp", action="store_true", help="let llama-cpp-python read the files too")
    parser.add_argument("--merge", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.merge:
        print(json.dumps(merge(*arguments.merge, Options(shard_size=arguments.shard_size).shard_bytes())))
        return
    owner = local_owner()
    run = find(arguments.run, owner)
    source = trained(run, owner, None, None)
    with tempfile.TemporaryDirectory() as name:
        for way in ("ours", "PEFT"):
            print(in_a_child(way, source, Path(name) / way, arguments.shard_size))
        for kind in ("merged", "gguf"):
            start = time.perf_counter()
            built = build(kind, run, owner, Path(name) / kind, Options(shard_size=arguments.shard_size, name="model"))
            seconds = time.perf_counter() - start
            print(f"{kind}: {built.facts['size'] / 1e6:,.0f} MB, built and read back in {seconds:.0f} s")
            for one in built.facts["comparisons"]:
                print("  " + sentence(one))
        if arguments.llama_cpp:
            for kind in ("F16", "Q8_0"):
                print("  " + by_llama_cpp(Path(name) / "gguf" / f"model-{kind}.gguf", source))


def sentence(one: dict[str, Any]) -> str:
    return (
        f"{one['what']} against {one['against']}: {one['max_difference']:.3g} at most, {one['mean_difference']:.3g} in "
        f"the mean, on logits up to {one['largest']:.1f}; same likeliest token at {one['top1']:.1%} "
        f"of {one['positions']}"
    )


def in_a_child(way: str, source: TrainedFolders, target: Path, shard_size: str) -> str:
    """Merge in a fresh process; what it took, as a line."""
    assert source.adapter is not None, "the run trained an adapter"
    command = [sys.executable, "-m", "benchmarks.publish", "-", "--shard-size", shard_size]
    command += ["--merge", way, f"{source.base}|{source.adapter}", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"merge ({way}): {found['seconds']:.1f} s, {found['grown'] / 1e6:.0f} MB at most beside the imports, "
        f"largest shard {found['largest'] / 1e6:.0f} MB, ratio {found['grown'] / found['largest']:.2f}"
    )


def merge(way: str, folders: str, target: str, most: int) -> dict[str, float]:
    """Merge in this process and tell seconds, peak growth and the largest file, in bytes."""
    base, adapter = map(Path, folders.split("|"))
    folder = Path(target)
    folder.mkdir()
    work = _ours(base, adapter, folder, most) if way == "ours" else _peft(base, adapter, folder, most)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    largest = max(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {"seconds": seconds, "grown": _status("VmHWM") - before, "largest": largest}


def _ours(base: Path, adapter: Path, folder: Path, most: int) -> Any:
    import torch

    plan = lora_delta.plan(base, adapter)
    torch.randn(64, 64) @ torch.randn(64, 64)
    return lambda: merged.write(
        plan, TrainedFolders(base, adapter, base), folder, most, BuildProgress(plan.size, None, None)
    )


def _peft(base: Path, adapter: Path, folder: Path, most: int) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.randn(64, 64) @ torch.randn(64, 64)

    def work() -> None:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), str(adapter))
        model.merge_and_unload().save_pretrained(folder, max_shard_size=most)

    return work


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def by_llama_cpp(path: Path, source: TrainedFolders) -> str:
    """What llama.cpp makes of a file: whether its tokens are the same, and how far its logits are."""
    import llama_cpp
    import torch

    prompts = logit_check.prompt_ids(source.tokenizer)
    wanted = logit_check.logits_of_folder(source.base, prompts, source.adapter)
    model = llama_cpp.Llama(str(path), logits_all=True, n_ctx=512, verbose=False)
    same = sum(
        model.tokenize(prompt.encode(), add_bos=False, special=True) == ids
        for prompt, ids in zip(logit_check.PROMPTS, prompts, strict=True)
    )
    got = []
    for ids in prompts:
        model.reset()
        model.eval(ids)
        got.append(torch.tensor(model.scores[: len(ids)]))
    distance = logit_check.distance(wanted, got).to_json()
    return f"llama.cpp: {same} of {len(prompts)} prompts in the same tokens; " + sentence(
        {"what": path.name, "against": "base and adapter", **distance}
    )


if __name__ == "__main__":
    main()
