"""Training with many rows and many steps, on a tiny model: `python -m benchmarks.rows [--rows 10000 1000000]`.

Prints for each number of rows the seconds of the import, from the start to the first step, and a step's, and the
training process's resident memory: its own, and with the pages of the mapped file that happen to be in memory. With
`--steps 2000` it prints the memory along the way of a long run.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from finetune.runs.child_environment import child_environment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_train(Path(options.child), options.steps)))
        return
    found = [_measured(rows, options.steps) for rows in options.rows]
    if len(found) > 1:
        print(f"memory of the last over that of the first: {found[-1] / found[0]:.3f}")


def _measured(rows: int, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["TUNESCOPE_HOME"] = str(place / "home")
        began = time.perf_counter()
        _prepare(place, rows)
        seconds = time.perf_counter() - began
        command = [sys.executable, "-m", "benchmarks.rows", "--steps", str(steps), "--child", str(place)]
        run = subprocess.run(
            command,
            env=child_environment(["cpu"]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        seen = json.loads(run.stdout.strip().splitlines()[-1])
    print(
        f"{rows:9,} rows: imported in {seconds:6.1f} s, first step after {seen['first_s']:6.1f} s, "
        f"{1000 * seen['step_s']:.1f} ms a step; {seen['own_mb']:.0f} MB of its own, {seen['all_mb']:.0f} MB in all; "
        f"after step {steps // 4} {seen['early_mb']:.0f} MB, after the last {seen['late_mb']:.0f} MB; "
        f"{seen['events_share']:.2%} of the time for events"
    )
    return seen["own_mb"]


def _prepare(place: Path, rows: int) -> None:
    """A file of so many short rows, imported; a tiny model; a run of them."""
    from core.files import write_json
    from core.workspace import local_owner
    from finetune.config.run_config import validate
    from finetune.plan.prepare import import_data
    from finetune.runs.run import create
    from tests.tiny_model import make_tiny_model

    model = make_tiny_model(place / "model")
    with open(place / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in range(rows):
            file.write(
                json.dumps({"prompt": f"say {row}", "completion": "the number " * (row % 7 + 1) + str(row)}) + "\n"
            )
    raw = {
        "model": str(model),
        "stages": [{"data": [{"path": str(place / "rows.jsonl")}]}],
        "limits": {"max_length": 64, "validation": 0.0001},
        "optim": {"epochs": 100, "batch_size": 8},
        "compute": {"dtype": "float32"},
        "watch": {"evaluate_every": 10_000_000, "checkpoint_every": 10_000_000},
    }
    run = create(import_data(validate(raw), local_owner()), local_owner())
    facts = {"base": str(model), "asked": str(model), "revision": None, "fingerprint": "0" * 64, "stand_in": False}
    write_json(run.folder / "env.json", facts)
    (place / "run").write_text(str(run.folder))


def _train(place: Path, steps: int) -> dict[str, float]:
    """Train so many steps in this process and look at its memory after each."""
    began = time.perf_counter()
    from finetune.runs.log import Journal
    from finetune.runs.run import Run
    from finetune.training.attempt import train

    run, process = Run(Path((place / "run").read_text())), psutil.Process()
    config = run.config()
    run.save(config.model_copy(update={"optim": config.optim.model_copy(update={"max_steps": steps})}))
    journal, seen, times, spent = Journal(run), [], [], []

    class Watching(Journal):
        def write(self, type: str, **facts: object) -> dict:
            before = time.perf_counter()
            event = journal.write(type, **facts)
            spent.append(time.perf_counter() - before)
            if type == "train":
                times.append(time.perf_counter())
                seen.append(process.memory_full_info())
            return event

    train(run, place / "model", Watching(run), lambda: False)
    own = [(memory.rss - memory.shared) / 1e6 for memory in seen]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return {
        "first_s": times[0] - began,
        "step_s": median(gaps),
        "own_mb": max(own),
        "all_mb": max(memory.rss for memory in seen) / 1e6,
        "early_mb": own[len(own) // 4],
        "late_mb": own[-1],
        "events_share": sum(spent) / (times[-1] - began),
    }


if __name__ == "__main__":
    main()
