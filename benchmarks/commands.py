"""The project's own commands, as a benchmark runs them: in processes of their own."""

import subprocess
import sys
from pathlib import Path

from core.workspace import local_owner
from finetune.runs.run import Run, list_runs


def finetune(*words: str) -> str:
    """What `python -m finetune` printed. Raises SystemExit with its last lines where it failed."""
    done = subprocess.run([sys.executable, "-m", "finetune", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-800:]}")
    return done.stdout


def trained(config: Path) -> Run:
    """Train by the shell's command. Returns the run."""
    finetune("train", str(config))
    return list_runs(local_owner())[0]
