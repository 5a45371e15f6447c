"""From the shell command to the first forward: `python -m benchmarks.start ROWS.json [MODEL] [--repeat 3]`.

A run of one step on up to 1,000 rows, in a new workspace, so that the file is imported, too; the model is cached. Goal:
8 seconds. The first forward is that of the sample before the first step, which follows the stage's beginning.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.commands import trained
from core import settings

GOAL = 8.0
ROWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="a data file")
    parser.add_argument("model", nargs="?", default=settings.DEFAULT_MODEL)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}; goal {GOAL} s")
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            print(started(Path(folder), options.model, options.rows.absolute()), flush=True)


def started(folder: Path, model: str, rows: Path) -> str:
    """Seconds after the command until the run was queued, the model was there, and the first forward began."""
    os.environ |= {"TUNESCOPE_HOME": f"{folder}/home"}
    config = {
        "model": model,
        "stages": [{"data": [{"path": str(rows)}]}],
        "limits": {"max_rows": ROWS, "max_length": 512},
        "optim": {"max_steps": 1, "batch_size": 1},
        "watch": {"sample_tokens": 1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    began = time.time()
    events = trained(path).events()[0]
    told = {name: next(event["t"] - began for event in events if event["type"] == name)
            for name in ("queued", "started", "stage")}  # fmt: skip
    return f"  queued {told['queued']:.1f} s, read {told['started']:.1f} s, first forward {told['stage']:.1f} s"


if __name__ == "__main__":
    main()
