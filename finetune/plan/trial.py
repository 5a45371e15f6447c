"""The process of a calibration: the first steps of each stage as in a run, in a temporary folder.

python -m finetune.plan.trial FOLDER --base FOLDER

It uses the training code of a run and the rows prepared by `calibration.py`, and writes `result.json`.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from core.files import read_json, write_json
from core.runtime import no_bar_monitors, quiet_libraries
from finetune.runs.log import Journal
from finetune.runs.run import Run


def main() -> int:
    """Run the trial; return 0 when all stages were tried."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    arguments = parser.parse_args()
    no_bar_monitors()
    quiet_libraries()
    _try(arguments.folder, arguments.base)
    return 0


def _try(folder: Path, base: Path) -> None:
    import psutil
    import torch

    from finetune.config.device import choose_device, choose_dtype, memory_gb
    from finetune.training.attempt import load_model, load_tokenizer

    run, order = Run(folder), read_json(folder / "order.json")
    config = run.config()
    device = choose_device(config)
    tokenizer = load_tokenizer(base)
    model, stored = load_model(run, config, base, device, choose_dtype(config, device))
    startup = time.time() - psutil.Process().create_time()
    stages = [
        _stage(index, stage_order, folder, config, model, tokenizer, getattr(torch, stored))
        for index, stage_order in enumerate(order["stages"])
    ]
    write_json(folder / "result.json", {"startup": startup, "memory_gb": memory_gb(), "stages": stages})


def _stage(
    index: int, order: dict[str, Any], folder: Path, config: Any, model: Any, tokenizer: Any, stored: Any
) -> dict[str, Any]:
    """Train a stage for as many steps as ordered. Returns its events, and the seconds of an optimizer update."""
    from finetune.data.tokenizing.encode_stage import Tally
    from finetune.data.tokenizing.token_rows import TokenRows
    from finetune.training.attempt import Attempt
    from finetune.training.distributed import ALONE
    from finetune.training.sampling import Prompt
    from finetune.training.stages import StageData

    run = Run(folder / f"stage-{index}")
    run.checkpoints.mkdir(parents=True)
    rows, held = (TokenRows(folder / f"{index}-{side}.arrow") for side in ("rows", "held"))
    prompts = [Prompt(prompt["text"], prompt["ids"]) for prompt in order["prompts"]]
    data = StageData(index, config.stages[index], rows, held, prompts, Tally(), 0, order["steps"], order["steps"])
    last, parent = order["take"] - 1, os.getppid()

    def enough() -> bool:
        """Return whether the trial has enough steps, or its parent is gone. Called after each step, before the step's
        event is written."""
        return run.progress().step >= last or os.getppid() != parent

    attempt = Attempt(run, config, model, tokenizer, stored, Journal(run), enough, ALONE)
    attempt.go([data])
    return {"events": run.events()[0], "update": _update(attempt.trainer)}


def _update(trainer: Any) -> float:
    """Return the seconds of one optimizer step, including gradient clipping."""
    import torch

    masters = trainer.masters
    masters.gradients()
    began = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(masters.masters, 1.0)
    masters.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
