"""LLaMA-Factory's side of `benchmarks.train`, run by the Python of an environment of its own: FOLDER with rows.json."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    place = Path(sys.argv[2])
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    rows = json.loads((place / "rows.json").read_text())
    encoded = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    DatasetDict({"train": Dataset.from_list(encoded)}).save_to_disk(str(place / "lf-tokens"))
    ends: list[float] = []
    begun: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            begun.append(time.time())

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.time())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    settings = {
        "model_name_or_path": (place / "base").read_text(),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "dataset": "already tokenised",
        "tokenized_path": str(place / "lf-tokens"),
        "template": "default",
        "cutoff_len": 512,
        "output_dir": str(place / "lf"),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.05,
        "bf16": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_gradient_checkpointing": True,
    }
    run_exp(settings, callbacks=[Clock()])
    tokens = sum(len(row["input_ids"]) for row in rows)
    each = [tokens / len(ends)] * len(ends)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    found = dict(ends=ends, tokens=each, losses=losses, seconds=ends[-1] - begun[0], adapter=str(place / "lf"))
    print(json.dumps({**found, "memory_gb": peak}))


if __name__ == "__main__":
    main()
