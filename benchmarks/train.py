"""A LoRA run against TRL and LLaMA-Factory on the same rows, ids and labels.

    python -m benchmarks.train ROWS.json [--rows 96] [--sides ours trl-float32 trl-bfloat16 ...] [--llamafactory PYTHON]

LoRA of rank 16 on all linear layers, batch 8, length 512, one epoch, each side in a process of its own, one after
another. Tokens are those of the rows, padding not counted; `steady` is from the third step on, `end to end` the whole
training with everything before the first step but loading. Peers take the rows as their own samplers shuffle them;
`trl-same-batches` takes them as ours does, so that the losses of single steps can be compared. The held-out loss is
computed in float32 by transformers and PEFT from what each side saved, on the rows behind the ones trained on.
LLaMA-Factory runs where `--llamafactory` names the Python of an environment that has it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.train_sides import SETTINGS, SIDES
from finetune.runs.child_environment import child_environment
from finetune.runs.device_queue import device_of, visible_devices

PEERS = {"trl-float32": (9.0, 7.0), "trl-bfloat16": (6.0, 4.5), "llamafactory": (3.5, 2.7)}
"""The goals: our steady and end-to-end tokens a second over the peer's."""


@dataclass
class Figures:
    """What one side came to: tokens a second, peak memory in GB (a GPU's where there is one, else resident), losses."""

    side: str
    steady: float
    whole: float
    memory_gb: float
    last_losses: float
    held_out: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="an Alpaca file")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--sides", nargs="+", default=["ours", *SIDES[1:]], choices=[*SIDES, "llamafactory"])
    parser.add_argument("--llamafactory", metavar="PYTHON", help="the Python of an environment with llamafactory 0.9.5")
    options = parser.parse_args()
    sides = [*options.sides, *(["llamafactory"] if options.llamafactory else [])]
    print(f"{_processor()}, load {os.getloadavg()[0]:.1f}; LoRA, batch {SETTINGS.batch}, length {SETTINGS.length}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        job = {"data": str(options.data.absolute()), "rows": options.rows, "held_out": options.held_out}
        _child(sys.executable, "prepare", place, job)
        found: dict[str, Figures] = {}
        for side in dict.fromkeys(sides):
            python = options.llamafactory if side == "llamafactory" else sys.executable
            found[side] = _figures(side, place, _child(python, side, place, job), job)
            print(_line(found[side], found.get("ours")), flush=True)
        print(json.dumps([asdict(figures) for figures in found.values()]))


def _child(python: str, side: str, place: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own. What it found is in its last line."""
    script = Path(__file__).with_name("train_llamafactory.py" if side == "llamafactory" else "train_sides.py")
    command = [python, str(script)] if side == "llamafactory" else [python, "-m", "benchmarks.train_sides"]
    device = device_of("auto")
    one_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": visible_devices(device)}
    environment = child_environment([device]) if side == "ours" else one_gpu
    command += [side, str(place), json.dumps(job)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def _figures(side: str, place: Path, found: dict[str, Any], job: dict[str, Any]) -> Figures:
    ends, tokens = found["ends"], found["tokens"]
    steady = sum(tokens[2:]) / (ends[-1] - ends[1])
    held = _child(sys.executable, "held-out", place, {**job, "adapter": found["adapter"]})["loss"]
    whole = sum(tokens) / found["seconds"]
    return Figures(side, steady, whole, found["memory_gb"], mean(found["losses"][-4:]), held)


def _line(side: Figures, ours: Figures | None) -> str:
    text = (
        f"{side.side:18s} steady {side.steady:6.1f} tokens/s   end to end {side.whole:6.1f}   {side.memory_gb:5.2f} GB"
    )
    text += f"   loss of the last 4 steps {side.last_losses:.4f}   held out {side.held_out:.4f}"
    if ours is None or side is ours:
        return text
    goal = PEERS.get(side.side)
    wanted = f" (goal {goal[0]} and {goal[1]})" if goal else ""
    speed = f"{ours.steady / side.steady:.1f} times steady, {ours.whole / side.whole:.1f} end to end{wanted}"
    held, last = ours.held_out / side.held_out - 1, ours.last_losses / side.last_losses - 1
    memory = f"{ours.memory_gb / side.memory_gb:.2f} of the memory"
    return f"{text}\n{'':18s} ours: {speed}, {memory}, held out {held:+.2%}, last 4 steps {last:+.2%}"


def _processor() -> str:
    import torch

    from finetune.config.device import cpu_has_bfloat16, processor

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()} x {os.cpu_count()}{' with bfloat16' if cpu_has_bfloat16() else ''}"


if __name__ == "__main__":
    main()
