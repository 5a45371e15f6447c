"""The sides of `benchmarks.train`, each in a process of its own: `python -m benchmarks.train_sides SIDE FOLDER JOB`."""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

SIDES = ("ours", "trl-float32", "trl-bfloat16", "trl-same-batches")


@dataclass(frozen=True)
class Settings:
    """What all sides train with."""

    rank: int = 16
    alpha: int = 32
    batch: int = 8
    length: int = 512
    rate: float = 2e-4
    warmup: float = 0.05


SETTINGS = Settings()
Job = dict[str, Any]


def prepare(place: Path, job: Job) -> dict[str, Any]:
    """Tokenise the rows once: `rows.json` and `held.json`, each [{input_ids, labels}]; `base`, where the model is."""
    from core import settings
    from core.references import parse, resolve
    from core.workspace import local_owner
    from finetune.config.blocks import Stage
    from finetune.data.importing.importer import import_file
    from finetune.data.tokenizing.encode_stage import StageEncoder
    from inference.models.locate import fetch, load_tokenizer

    os.environ["TUNESCOPE_HOME"] = str(place / "home")
    owner = local_owner()
    dataset = import_file(Path(job["data"]), owner)
    base = fetch(resolve(parse(settings.DEFAULT_MODEL, owner), owner).base, owner.token, owner=owner).folder
    encoder = StageEncoder(Stage(data=[{"dataset": dataset.id}]), load_tokenizer(base), SETTINGS.length)  # type: ignore[list-item]
    numbered = list(enumerate(dataset.rows(job["rows"] + job["held_out"]), 1))
    for name, part in (("rows", numbered[: job["rows"]]), ("held", numbered[job["rows"] :])):
        rows = [row.parts[0] for row in encoder(part)]
        told = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in rows]
        (place / f"{name}.json").write_text(json.dumps(told))
    (place / "base").write_text(str(base))
    return {}


def ours(place: Path, job: Job) -> dict[str, Any]:
    """The product's own path: a config, a run folder, its events, in the environment that a run's process has."""
    os.environ["TUNESCOPE_HOME"] = str(place / "home")
    from core.runtime import share_the_cores

    share_the_cores()
    from core.files import write_json
    from core.workspace import local_owner
    from finetune.config.run_config import validate
    from finetune.plan.prepare import import_data
    from finetune.runs.log import Journal
    from finetune.runs.run import create
    from finetune.training.attempt import train

    raw = {
        "stages": [{"data": [{"path": job["data"]}]}],
        "limits": {"max_rows": job["rows"], "max_length": SETTINGS.length, "validation": 0},
        "lora": {"rank": SETTINGS.rank, "alpha": SETTINGS.alpha},
        "optim": {"epochs": 1, "batch_size": SETTINGS.batch, "learning_rate": SETTINGS.rate, "warmup": SETTINGS.warmup},
        "watch": {"evaluate_every": 10_000, "checkpoint_every": 10_000, "sample_tokens": 1},
    }
    run, base = create(import_data(validate(raw), local_owner()), local_owner()), Path((place / "base").read_text())
    facts = {"base": str(base), "asked": str(base), "revision": None, "fingerprint": "0" * 64, "stand_in": False}
    write_json(run.folder / "env.json", facts)
    assert train(run, base, Journal(run), lambda: False) is False
    events = run.events()[0]
    begun = next(event["t"] for event in events if event["type"] == "stage")
    steps = [event for event in events if event["type"] == "train"]
    seen = [0, *(event["tokens"] for event in steps)]
    return {
        "ends": [event["t"] for event in steps],
        "tokens": [after - before for before, after in pairwise(seen)],
        "losses": [event["loss"] for event in steps],
        "seconds": steps[-1]["t"] - begun,
        "adapter": str(run.model),
        "memory_gb": peak(),
    }


def trl(place: Path, job: Job, dtype: str, same_batches: bool = False) -> dict[str, Any]:
    """TRL's SFTTrainer on the same ids and labels; activations are kept and cuDNN's attention is off, as in ours."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from core.runtime import no_planned_attention

    no_planned_attention()
    rows = json.loads((place / "rows.json").read_text())
    if same_batches:
        rows = [rows[number] for number in _our_order(rows)]
    tokens: list[int] = []
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.time())

    class Counting(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *more: Any, **kwargs: Any) -> Any:
            tokens.append(
                int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else inputs["input_ids"].numel()
            )
            return super().training_step(model, inputs, *more, **kwargs)

    base = (place / "base").read_text()
    arguments = SFTConfig(
        output_dir=str(place / "trl"),
        per_device_train_batch_size=SETTINGS.batch,
        num_train_epochs=1,
        max_length=SETTINGS.length,
        learning_rate=SETTINGS.rate,
        warmup_steps=SETTINGS.warmup,
        lr_scheduler_type="linear",
        bf16=dtype == "bfloat16",
        completion_only_loss=True,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential" if same_batches else "random",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    data = Dataset.from_dict(
        {
            "input_ids": [row["input_ids"] for row in rows],
            "completion_mask": [[int(label != -100) for label in row["labels"]] for row in rows],
        }
    )
    lora = LoraConfig(r=SETTINGS.rank, lora_alpha=SETTINGS.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = Counting(
        model, arguments, train_dataset=data, processing_class=tokenizer, peft_config=lora, callbacks=[Clock()]
    )
    began = time.time()
    trainer.train()
    seconds = time.time() - began
    trainer.save_model(str(place / f"trl-{dtype}-{same_batches}"))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    adapter = str(place / f"trl-{dtype}-{same_batches}")
    return dict(ends=ends, tokens=tokens, losses=losses, seconds=seconds, adapter=adapter, memory_gb=peak())


def _our_order(rows: list[dict[str, Any]]) -> list[int]:
    from finetune.training.batches import LengthGrouped

    return list(LengthGrouped([len(row["input_ids"]) for row in rows], SETTINGS.batch, 0))


def held_out(place: Path, job: Job) -> dict[str, Any]:
    """Loss a token of base and adapter on the rows held out, in float32, by transformers and PEFT alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained((place / "base").read_text(), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, job["adapter"]).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in json.loads((place / "held.json").read_text()):
            labels = torch.tensor([row["labels"]])
            learned = int((labels[:, 1:] != -100).sum())
            total += model(torch.tensor([row["input_ids"]]), labels=labels).loss.item() * learned
            count += learned
    return {"loss": total / count}


def peak() -> float:
    """The peak memory in GB: what torch had of the GPU where there is one, else the process's resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    side, place, job = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    sides = {
        "prepare": lambda: prepare(place, job),
        "ours": lambda: ours(place, job),
        "trl-float32": lambda: trl(place, job, "float32"),
        "trl-bfloat16": lambda: trl(place, job, "bfloat16"),
        "trl-same-batches": lambda: trl(place, job, "bfloat16", same_batches=True),
        "held-out": lambda: held_out(place, job),
    }
    print(json.dumps(sides[side]()))


if __name__ == "__main__":
    main()
