"""Each method trains what it says, comes out loadable, and is refused before the start where the base does not fit."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.errors import UserError
from finetune.base_models.trainable import check_method
from finetune.config.run_config import validate
from finetune.kernels.optimizer import groups_of
from finetune.methods import METHODS
from finetune.plan.prepare import check_run
from finetune.runs.log import Journal
from finetune.training.attempt import train
from tests.tiny.training import make_config, make_run, write_data

pytestmark = pytest.mark.matrix

STAGES = [{"data": [{"dataset": "ab" * 6}]}]


def _config(method, **blocks):
    return validate({"stages": STAGES, "method": method, **blocks})


def _go(run, model):
    return train(run, model, Journal(run), lambda: False)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "loraplus", "qlora"])
def test_an_adapter_learns_and_writes_as_it_did_in_training(owner, tiny_model, tmp_path, method):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), method=method, lora={"rank": 4})
    assert _go(run, tiny_model) is False
    progress = run.progress()
    assert progress.evals[progress.steps]["eval_loss"] < progress.evals[0]["eval_loss"]
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.arange(3, 20)[None]
    before = base(ids).logits.detach().clone()
    tuned = PeftModel.from_pretrained(base, run.model)
    kind = tuned.peft_config["default"]
    assert (kind.use_rslora, kind.use_dora) == (method == "rslora", method == "dora")
    assert not torch.allclose(tuned(ids).logits, before, atol=1e-3)


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        ({"layers": 1}, {"model.layers.1."}),
        ({"layers": 0, "embeddings": True}, {"model.embed_tokens.", "lm_head."}),
        ({"layers": 0, "head": True}, {"model.embed_tokens.", "lm_head."}),
        ({"layers": 0, "pattern": r"0\.mlp\.up"}, {"model.layers.0.mlp.up_proj."}),
        ({"layers": 1, "pattern": "^model.norm"}, {"model.layers.1.", "model.norm."}),
    ],
)
def test_freeze_moves_the_chosen_weights_and_no_other(owner, tiny_model, tmp_path, chosen, parts):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), method="freeze", freeze=chosen)
    assert _go(run, tiny_model) is False
    before = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    after = AutoModelForCausalLM.from_pretrained(run.model).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(any(name.startswith(part) for part in parts) for name in moved)
    assert all(any(name.startswith(part) for name in moved) for part in parts if part in str(list(before)))


def test_the_matrix_that_begins_at_zero_learns_faster_with_loraplus(tiny_model):
    config = _config("loraplus", lora={"rank": 4}, loraplus={"ratio": 8})
    model = METHODS["loraplus"].apply(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    groups = groups_of(model, [], 0.0, lambda name: METHODS["loraplus"].lr_multiplier(name, config))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [(group.lr_multiplier, {names[id(p)].split(".")[-3] for p in group.parameters}) for group in groups] == [
        (1.0, {"lora_A"}),
        (8.0, {"lora_B"}),
    ]


def test_every_method_is_counted_without_weights(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    everything = sum(weight.numel() for weight in model.parameters())
    counted = {method: check_method(_config(method), tiny_model) for method in METHODS}
    assert counted["full"].trainable == counted["full"].total == everything
    last = sum(weight.numel() for layer in model.model.layers[-2:] for weight in layer.parameters())
    assert counted["freeze"].trainable == last
    for method in ("lora", "rslora", "qlora"):
        made = METHODS["lora"].apply(AutoModelForCausalLM.from_pretrained(tiny_model), _config("lora"))
        assert counted[method].trainable == sum(w.numel() for w in made.parameters() if w.requires_grad)
    assert counted["dora"].trainable > counted["lora"].trainable


@pytest.mark.parametrize(
    ("method", "blocks", "words"),
    [
        ("lora", {"lora": {"rank": 999}}, r"\(lora.rank\) is 999.*\.q_proj is only 32 wide.*32 or less"),
        ("lora", {"lora": {"target_modules": ["q_prj"]}}, r"\"q_prj\".*Did you mean \"q_proj\""),
        ("freeze", {"freeze": {"layers": 99}}, "freeze.layers is 99.*has 2 layers"),
        ("freeze", {"freeze": {"layers": 0, "pattern": "layers.0.mpl"}}, r"layers.0.mpl.*matches no weight"),
    ],
)
def test_what_the_base_has_not_is_refused_before_the_start(owner, tiny_model, tmp_path, method, blocks, words):
    with pytest.raises(UserError, match=words):
        check_method(_config(method, **blocks), tiny_model)
    config = make_config(tiny_model, write_data(tmp_path / "data.json"), method=method, **blocks)
    with pytest.raises(UserError, match=words):
        check_run(config, owner)


def test_without_the_package_four_bits_are_refused_in_words(owner, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = make_config(tiny_model, write_data(tmp_path / "data.json"), method="qlora")
    with pytest.raises(UserError, match=r"bitsandbytes is not installed.*method: lora"):
        check_run(config, owner)


def test_the_weights_that_learn_are_kept_in_float32(owner, tiny_model, tmp_path):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), method="dora", compute__dtype="bfloat16")
    assert _go(run, tiny_model) is False
    saved = torch.load(sorted(run.checkpoints.iterdir())[-1] / "optimizer.pt", weights_only=True)
    moments = [value for state in saved["state"].values() for name, value in state.items() if name != "step"]
    assert {tensor.dtype for tensor in [*saved["masters"], *moments]} == {torch.float32}
    started = run.progress().started
    assert (started["dtype"], started["why_dtype"]) == ("bfloat16", "asked")
    assert {weight.dtype for weight in load_file(run.model / "adapter_model.safetensors").values()} == {torch.float32}
