"""The plan against the run: peak memory and training time of six configs, estimated before and measured after.

    python -m benchmarks.plan ROWS.json [MODEL] [--only NAME ...]

The six were fixed before anything was measured. Each is planned with its calibration, then trained by the shell's own
command in a process of its own. The goal: each figure within 25 % of what came.
"""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commands import trained
from core import settings
from core.runtime import share_the_cores
from core.workspace import local_owner
from finetune.config.run_config import load_yaml
from finetune.plan.planner import Planner
from finetune.plan.prepare import run_inputs

GOAL = 0.25


@dataclass(frozen=True)
class Case:
    """One config: its method, length limit, batch, and how many rows it takes (a tenth of them held out)."""

    name: str
    method: str
    length: int
    batch: int
    rows: int


CASES = (
    Case("lora-128x1", "lora", 128, 1, 128),
    Case("lora-512x8", "lora", 512, 8, 96),
    Case("lora-1024x4", "lora", 1024, 4, 64),
    Case("full-128x16", "full", 128, 16, 256),
    Case("full-512x2", "full", 512, 2, 48),
    Case("full-1024x16", "full", 1024, 16, 128),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="a data file")
    parser.add_argument("model", nargs="?", default=settings.DEFAULT_MODEL)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES])
    arguments = parser.parse_args()
    share_the_cores()
    print(f"load before: {os.getloadavg()[0]:.1f}")
    print("| config | memory: rough | planned | measured | ratio | steps: rough | planned | measured | ratio | all |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    missed = 0
    for case in CASES:
        if not arguments.only or case.name in arguments.only:
            line, good = compare(case, arguments.model, arguments.rows.absolute())
            print(line, flush=True)
            missed += not good
    print(f"load after: {os.getloadavg()[0]:.1f}; not within {GOAL:.0%}: {missed}")


def compare(case: Case, model: str, rows: Path) -> tuple[str, bool]:
    """Plan a config, train it, and set one beside the other. The second value: whether both figures were met."""
    config = {
        "model": model,
        "method": case.method,
        "stages": [{"objective": "sft", "data": [{"path": str(rows)}]}],
        "limits": {"max_rows": case.rows, "max_length": case.length, "validation": 0.1},
        "optim": {"epochs": 1, "batch_size": case.batch},
        "watch": {"sample_tokens": 16},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TUNESCOPE_HOME": f"{folder}/home"}
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config))
        rough, planned = plan(path)
        done = trained(path).events()[0][-1]
    memory, seconds = done["memory_gb"], done["train_seconds"]
    ratios = planned["memory_gb"] / memory, planned["train_seconds"] / seconds
    line = (
        f"| {case.name} | {rough['memory_gb']:.2f} GB | {planned['memory_gb']:.2f} GB | {memory:.2f} GB "
        f"| {ratios[0]:.2f} | {rough['train_seconds']:.0f} s | {planned['train_seconds']:.1f} s | {seconds:.1f} s "
        f"| {ratios[1]:.2f} | {planned['seconds']:.0f} s, came {done['seconds']:.0f} s |"
    )
    return line, all(1 - GOAL <= ratio <= 1 + GOAL for ratio in ratios)


def plan(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is planned for here: without a trial, and with one that is made anew."""
    owner = local_owner()
    with run_inputs(load_yaml(path.read_bytes(), path.parent), owner) as looked:
        planner = Planner.read(looked, owner)
        planner.estimator.measured = None
        rough = planner.plan().here.to_json()
        planner.calibrate()
        return rough, planner.plan().here.to_json()


if __name__ == "__main__":
    main()
