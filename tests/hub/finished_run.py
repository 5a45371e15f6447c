"""A finished run as training leaves it: config, environment, events and an adapter with weights that are not zero."""

import json
from pathlib import Path

from core.workspace import Owner
from finetune.config.run_config import validate
from finetune.runs import run as runs
from finetune.runs.run import Run

BASE_ID = "tester/tiny-base"


def make_finished_run(
    owner: Owner, base: Path, *, base_text: str = BASE_ID, full: bool = False, **config: object
) -> Run:
    """Make the run of a LoRA adapter, or of a full model, on the model in the folder `base`."""
    source = [{"dataset": "ab" * 32}]
    told = {"model": base_text, "stages": [{"objective": "sft", "data": source}], "method": "full" if full else "lora"}
    run = runs.create(validate({**told, **config}), owner)
    from inference.models.fingerprint import fingerprint

    environment = {"base": base_text, "asked": base_text, "revision": None, "fingerprint": fingerprint(base)}
    versions = {"torch": "2.13", "transformers": "5.23"}
    more = {"device": "cpu", "dtype": "float32", "versions": versions}
    (run.folder / "env.json").write_text(json.dumps({**environment, **more}))
    _write_events(run)
    _write_model(run, base, full)
    return run


def _write_events(run: Run) -> None:
    run.log.write("queued")
    run.log.write("started", step=0, steps=20)
    for step in range(1, 21):
        run.log.write("train", step=step, loss=3 / step, learning_rate=1e-4, tokens_per_s=100.0)
        if step % 10 == 0:
            run.log.write("eval", step=step, eval_loss=3.5 / step)
    run.log.write("done", step=20)


def _write_model(run: Run, base: Path, full: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    if not full:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(run.model)
    AutoTokenizer.from_pretrained(base).save_pretrained(run.model)
