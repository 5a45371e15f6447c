"""Training in this process on the tiny model: stop and resume, checkpoints, what fails and what comes out."""

import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.errors import UserError
from finetune.config.run_config import load_yaml
from finetune.runs.failure_reasons import explain
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.training.attempt import train
from tests.tiny.training import make_run, write_data

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.json")


def _go(run, model, stop=lambda: False):
    return train(run, model, Journal(run), stop)


def _stop_at(run, step):
    """Asks to stop while the step is computed: when the one before is written down."""
    return lambda: run.progress().step >= step - 1


def _losses(run):
    return {step: event["loss"] for step, event in run.progress().train.items()}


def _weights(run):
    return load_file(next(run.model.glob("*.safetensors")))


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", [{"method": "lora", "compute__dtype": "bfloat16"}, {"method": "full"}])
def test_a_stop_and_a_resume_give_the_same_losses_and_weights(owner, tiny_model, data, method):
    whole = make_run(owner, tiny_model, data, optim__gradient_accumulation=2, optim__epochs=3, **method)
    assert _go(whole, tiny_model) is False
    broken = make_run(owner, tiny_model, data, optim__gradient_accumulation=2, optim__epochs=3, **method)
    steps = whole.progress().steps
    assert steps == 9
    for step in (3, 7):
        assert _go(broken, tiny_model, _stop_at(broken, step)) is True
        assert broken.progress().ending == "stopped"
        assert (broken.checkpoints / f"checkpoint-{step}").is_dir() and not broken.model.exists()
        broken.log.write("queued", device="cpu")
    assert _go(broken, tiny_model) is False
    assert _losses(whole) == _losses(broken)
    assert list(_losses(broken)) == list(range(1, steps + 1))
    assert whole.progress().evals[steps]["eval_loss"] == broken.progress().evals[steps]["eval_loss"]
    assert _same(_weights(whole), _weights(broken))


def test_a_checkpoint_that_was_being_written_is_left_aside(owner, tiny_model, data):
    run = make_run(owner, tiny_model, data)
    _go(run, tiny_model, _stop_at(run, 3))
    half = run.checkpoints / ".part" / "checkpoint-5"
    half.mkdir(parents=True)
    (half / "optimizer.pt").write_bytes(b"half")
    run.log.write("queued", device="cpu")
    _go(run, tiny_model)
    assert run.progress().started["step"] == 3
    assert run.status().status == "done" and not half.exists()
    assert len(list(run.checkpoints.iterdir())) == 2


@pytest.mark.ci
def test_copied_with_its_data_a_run_goes_on_elsewhere(owner, tiny_model, data, tmp_path):
    run = make_run(owner, tiny_model, data)
    _go(run, tiny_model, _stop_at(run, 3))
    shutil.move(owner.folder, tmp_path / "elsewhere" / "someone")
    moved = Run(tmp_path / "elsewhere" / "someone" / "runs" / run.id)
    moved.log.write("queued", device="cpu")
    assert _go(moved, tiny_model) is False
    assert moved.progress().started["step"] == 3 and moved.status().status == "done"


def test_a_run_killed_while_it_saved_its_result_saves_it_again(owner, tiny_model, data):
    run = make_run(owner, tiny_model, data)
    _go(run, tiny_model)
    weights = _weights(run)
    shutil.rmtree(run.model)
    run.log.write("queued", device="cpu")
    _go(run, tiny_model)
    assert _same(weights, _weights(run))


def test_accumulated_batches_learn_as_one_large_batch_does(owner, tiny_model, data):
    same = {"limits__validation": 0, "lora": {"rank": 4, "dropout": 0}, "optim__epochs": 3}
    large = make_run(owner, tiny_model, data, optim__batch_size=24, **same)
    small = make_run(owner, tiny_model, data, optim__batch_size=6, optim__gradient_accumulation=4, **same)
    _go(large, tiny_model)
    _go(small, tiny_model)
    assert len(_losses(large)) == 3
    assert _losses(small) == pytest.approx(_losses(large), abs=1e-5)


def test_a_whole_model_comes_out_as_plain_safetensors(owner, tiny_model, data):
    run = make_run(owner, tiny_model, data, method="full", optim__max_steps=3)
    _go(run, tiny_model)
    model = AutoModelForCausalLM.from_pretrained(run.model)
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    assert tokenizer.chat_template
    before = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(3, 20)[None]
    assert not torch.allclose(model(ids).logits, before(ids).logits, atol=1e-3)
    assert not [path for path in run.model.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert json.loads((run.model / "tunescope.json").read_text())["run"] == run.id


def test_a_loss_that_is_no_number_ends_the_run_in_words(owner, tiny_model, data, tmp_path):
    sick = shutil.copytree(tiny_model, tmp_path / "sick")
    model = AutoModelForCausalLM.from_pretrained(sick)
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(sick)
    for validation in (0, 0.1):
        run = make_run(owner, sick, data, limits__validation=validation)
        with pytest.raises(UserError, match=r"diverged.*optim.learning_rate"):
            _go(run, sick)


def test_too_little_data_is_refused_in_words(owner, tiny_model, tmp_path):
    run = make_run(owner, tiny_model, write_data(tmp_path / "short.json"), limits__max_length=16)
    with pytest.raises(UserError, match=r"limits.max_length"):
        _go(run, tiny_model)
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"))
    shutil.rmtree(run.datasets)
    with pytest.raises(UserError, match="Import the file again"):
        _go(run, tiny_model)


def test_what_a_machine_runs_out_of_is_said_with_a_remedy(tmp_path):
    config = load_yaml("stages: [{data: [{dataset: abababababab}]}]")
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert "Lower optim.batch_size (now 8)" in str(explain(error.value, config, 3, "cpu", tmp_path))
    data = "data: [{dataset: abababababab}]"
    config = load_yaml(f"stages: [{{{data}}}, {{{data}, optim: {{batch_size: 4}}}}]")
    assert "Lower stages.1.optim.batch_size (now 4)" in str(explain(error.value, config, 3, "cpu", tmp_path, 1))
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in str(explain(full, config, 3, "cpu", tmp_path))
    assert "ZeroDivisionError" in str(explain(ZeroDivisionError("x"), config, 3, "cpu", tmp_path))
