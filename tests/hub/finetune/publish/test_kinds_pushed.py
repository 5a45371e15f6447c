"""Every kind on its way through the shell: built, pushed to a private repository of its type, proved."""

import pytest
from safetensors.torch import load_file, save_file

from finetune.cli.publish import publish_command
from finetune.data.importing.importer import import_file
from finetune.data.store import example_file
from finetune.publish import prove, read_proof
from finetune.publish.proof import proof
from finetune.publish.repo.records import read_push
from tests.hub.conftest import copy_run
from tests.hub.finished_run import BASE_ID

pytestmark = pytest.mark.matrix

REPO = "tester/tea"
FILES = {
    "merged": {"model.safetensors", "config.json", "tokenizer.json"},
    "gguf": {"Modelfile"},
    "presets": {"generation_config.json", "presets/beam-num_beams-3.json"},
    "space": {"app.py", "requirements.txt"},
}
MORE = {
    "presets": {"presets": ("nucleus top_p=0.9", "beam num_beams=3")},
    "space": {"model_repo": "tester/tea-adapter"},
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_made_of_a_run_is_pushed_and_proved(hub, finished, publisher, capsys, kind):
    assert publish_command(finished.id, REPO, False, False, publisher, what=kind, **MORE.get(kind, {})) == 0
    printed = capsys.readouterr()
    place = "spaces" if kind == "space" else "models"
    repo = hub.repos[place, REPO]
    assert repo.private and FILES[kind] <= set(repo.head.files) and REPO in printed.out and "Verified" in printed.err
    card = hub.content(REPO, "README.md").decode() if place == "models" else ""
    assert ("the unrounded model |" in card) == (kind == "gguf")
    assert ("base model and adapter in PEFT" in card) == (kind == "merged")
    if kind == "gguf":
        assert {"tea-F16.gguf", "tea-Q8_0.gguf"} <= set(repo.head.files)
    assert not (finished.folder / "publish" / kind).exists()
    assert (read_proof(finished, kind).logits_max_difference is not None) == (kind in ("merged", "gguf"))


@pytest.mark.parametrize("what", ["lora", "full"])
def test_the_result_itself_is_proved_by_its_logits(hub, publisher, trained, tiny_model, what):
    hub.add_repo(BASE_ID, tiny_model)
    run = copy_run(trained[what], publisher)
    assert publish_command(run.id, REPO, False, False, publisher) == 0
    found = read_proof(run)
    assert found.ok and found.logits_max_difference is not None and found.prompts == 5


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["merged", "gguf"])
def test_proved_again_when_what_was_built_is_gone_it_is_proved_as_well_and_a_fault_is_found(
    hub, finished, publisher, kind, monkeypatch
):
    assert publish_command(finished.id, REPO, False, False, publisher, what=kind) == 0
    pushed, first = read_push(finished, kind), read_proof(finished, kind)
    again = prove(finished, REPO, pushed.commit, publisher, kind=kind)
    assert again.ok and again.logits_max_difference == first.logits_max_difference <= again.tolerance <= 1e-3
    assert "logits" in again.sentence()
    no_memory = {"files": pushed.files, "logits_max_difference": None, "same_tokens": None, "loads": False}
    monkeypatch.setattr(proof, "ask", lambda *_: {**no_memory, "not_loaded": "No room."})
    assert prove(finished, REPO, pushed.commit, publisher, kind=kind) == again == read_proof(finished, kind)
    hashes_only = proof.compare(pushed, pushed.commit, {**no_memory, "not_loaded": "No room."}, 1)
    assert hashes_only.ok and hashes_only.sentence().endswith("match the files that were sent. No room.")


@pytest.mark.ci
def test_a_merged_model_that_answers_otherwise_than_base_and_adapter_is_noticed(hub, finished, publisher):
    assert publish_command(finished.id, REPO, False, False, publisher, what="merged") == 0
    weights = finished.model / "adapter_model.safetensors"
    save_file({name: value + 0.5 for name, value in load_file(weights).items()}, weights)
    found = prove(finished, REPO, read_push(finished, "merged").commit, publisher, kind="merged")
    assert not found.ok and found.logits_max_difference > found.tolerance


def test_a_dataset_is_pushed_and_proved_with_its_licence(hub, publisher, capsys):
    dataset = import_file(example_file(), publisher)
    assert publish_command(dataset.id, REPO, False, False, publisher, what="dataset") == 2
    assert "--license" in capsys.readouterr().err and ("datasets", REPO) not in hub.repos
    assert publish_command(dataset.id, REPO, False, False, publisher, what="dataset", license="cc-by-4.0") == 0
    assert {"README.md", "data/train.parquet"} <= set(hub.repos["datasets", REPO].head.files)
