"""The same rows, weights and settings under TRL and here: the same losses, step for step, in float32."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from finetune.data.tokenizing.encode_stage import StageEncoder
from finetune.runs.log import Journal
from finetune.runs.split import split_rows
from finetune.training.attempt import train
from tests.tiny.stages import run_of, staged

STEPS = 6
SETTINGS = {
    "method": "full",
    "limits__validation": 0,
    "optim__epochs": STEPS,
    "optim__batch_size": 64,
    "optim__learning_rate": 1e-3,
    "optim__schedule": "constant",
    "optim__warmup": 0,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _ours(owner, model, config):
    run = run_of(owner, config, model)
    assert train(run, model, Journal(run), lambda: False) is False
    return run, [event["loss"] for event in run.progress().train.values()]


def _same_arguments(folder):
    """All rows in one batch, so that no order of rows can differ."""
    return dict(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=64,
        max_steps=STEPS,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        max_length=128,
    )


def _logged(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_supervised_fine_tuning_is_trls(owner, tiny_model, tmp_path):
    run, ours = _ours(owner, tiny_model, staged(tiny_model, tmp_path, ("sft",), **SETTINGS))
    config, tokenizer = run.config(), AutoTokenizer.from_pretrained(tiny_model)
    rows = StageEncoder(config.stages[0], tokenizer, 128)(split_rows(run, config, held=False))
    parts = [row.parts[0] for row in rows]
    assert any(label == -100 for part in parts for label in part.labels[1:]), "prompts carry no loss"
    data = Dataset.from_dict(
        {
            "input_ids": [part.input_ids for part in parts],
            "completion_mask": [[int(label != -100) for label in part.labels] for part in parts],
        }
    )
    arguments = SFTConfig(**_same_arguments(tmp_path), completion_only_loss=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    theirs = _logged(SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer))
    _assert_same("SFT", ours, theirs)


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_preference_learning_is_trls(owner, tiny_model, tmp_path, kind):
    config = staged(tiny_model, tmp_path, ("dpo",), **SETTINGS)
    settings = config.stages[0].model_copy(update={"dpo": {"loss": kind, "beta": 0.2}})
    config = type(config).model_validate(config.model_dump() | {"stages": [settings.model_dump()]})
    run, ours = _ours(owner, tiny_model, config)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    encoded = list(StageEncoder(run.config().stages[0], tokenizer, 128)(split_rows(run, run.config(), held=False)))
    data = Dataset.from_list([_as_trl_has_it(row) for row in encoded])
    arguments = DPOConfig(**_same_arguments(tmp_path), beta=0.2, loss_type=[kind])
    model, reference = (AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32) for _ in range(2))
    words = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * len(encoded))
    trainer = DPOTrainer(model, reference, args=arguments, train_dataset=words, processing_class=tokenizer)
    trainer.train_dataset = data
    theirs = _logged(trainer)
    _assert_same(f"DPO, {kind}", ours, theirs)


def _assert_same(what, ours, theirs):
    """The losses of all steps; `pytest -n 0 -s` prints how far they are apart."""
    apart = max(abs(mine - own) for mine, own in zip(ours, theirs, strict=True))
    print(f"\n{what}: {len(ours)} steps, loss {ours[0]:.4f} to {ours[-1]:.4f}, at most {apart:.1e} from TRL's")
    assert len(ours) == STEPS and ours[-1] < ours[0]
    assert ours == pytest.approx(theirs, abs=1e-4)


def _as_trl_has_it(row):
    """A pair's tokens in TRL's columns: what carries no loss behind the answer has no part in it."""
    (prompt, chosen), (same, rejected) = ((_before(part), _learned(part)) for part in row.parts)
    assert prompt == same and prompt and chosen != rejected
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def _before(part):
    first = next(place for place, label in enumerate(part.labels) if label != -100)
    return part.input_ids[:first]


def _learned(part):
    return [label for label in part.labels if label != -100]
