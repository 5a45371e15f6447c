"""Models and adapters from the Hub: at one commit, only what is needed, with the caller's rights."""

import json
import shutil
import threading

import pytest

from core import settings
from core.hub import reach
from core.references import Hub, StandIn
from core.workspace import Owner
from inference.models.hub_files import DOWNLOAD
from inference.models.locate import fetch, load, load_tokenizer, locate, locate_tokenizer
from tests.hub.standin import TOKEN, USER
from tests.refusals import refused

MODEL = f"{USER}/tiny"
ADAPTER = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": MODEL, "target_modules": ["q_proj"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))
    reach.forget()
    yield tmp_path / "cache"
    reach.forget()


@pytest.fixture
def model(hub, tiny_model):
    """The tiny model as a repository, with things in it that nobody asked for."""
    repo = hub.add_repo(MODEL, tiny_model)
    extra = {"pytorch_model.bin": b"pickle", "onnx/model.onnx": b"1", "code.py": b"1", "model.fp16.safetensors": b"1"}
    repo.add_commit({**repo.head.files, **{path: hub.blobs.entry(path, body) for path, body in extra.items()}}, "more")
    return repo


@pytest.fixture(scope="module")
def adapter_files(tiny_model, tmp_path_factory):
    """The files of a LoRA adapter that names the repository as its base."""
    from tests.tiny.adapters import make_adapter

    folder = make_adapter(tiny_model, tmp_path_factory.mktemp("adapter"))
    facts = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**facts, "base_model_name_or_path": MODEL}))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def go_offline(hub, monkeypatch):
    """The Hub goes away, as a network does."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_a_model_comes_at_one_commit_with_only_the_files_that_are_read(hub, model, owner):
    seen = []
    base = locate(MODEL, owner, progress=seen.append).base
    names = {path.name for path in base.folder.iterdir()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert base.folder.name == base.revision == model.head.sha and base.reference == f"{MODEL}@{model.head.sha}"
    assert seen[-1].done == seen[-1].total > 0
    assert load(locate(MODEL, owner)).name == MODEL


def test_what_is_here_is_not_downloaded_again(hub, model, owner):
    locate(MODEL, owner)
    hub.requests.clear()
    locate(MODEL, owner)
    assert set(hub.kinds()) == {"info"}


def test_without_the_hub_what_came_before_is_used(hub, model, owner, monkeypatch):
    online = locate(MODEL, owner).base
    go_offline(hub, monkeypatch)
    assert locate(MODEL, owner).base == online
    assert locate(online.reference, owner).base.folder == online.folder
    assert "did not respond" in refused("models.unreachable", locate, "tester/never-seen", owner)


def test_the_default_model_in_the_cache_comes_before_its_stand_in(hub, tiny_model, owner, monkeypatch):
    hub.add_repo(settings.DEFAULT_MODEL, tiny_model)
    assert not locate(settings.DEFAULT_MODEL, owner).base.stand_in
    go_offline(hub, monkeypatch)
    assert not locate(settings.DEFAULT_MODEL, owner).base.stand_in


def test_half_a_model_in_the_cache_is_none(hub, model, owner, monkeypatch):
    base = locate(MODEL, owner).base
    (base.folder / "model.safetensors").unlink()
    go_offline(hub, monkeypatch)
    refused("models.unreachable", locate, MODEL, owner)


def test_an_older_revision_can_be_asked_for(hub, model, owner):
    first = model.commits[1].sha
    assert locate(f"{MODEL}@{first}", owner).base.revision == first
    assert "@nothing" in refused("models.no_revision", locate, f"{MODEL}@nothing", owner)


def test_a_repository_that_is_not_there_is_told(hub, owner):
    assert "tester/nothing" in refused("models.no_repository", locate, "tester/nothing", owner)


def test_a_gated_model_needs_its_authors_yes(hub, tiny_model):
    hub.add_repo("acme/gated", tiny_model, gated=True)
    stranger = hub.add_user("stranger")
    sentence = refused("models.gated", fetch, Hub("acme/gated"), stranger)
    assert f"{hub.url}/acme/gated" in sentence
    assert fetch(Hub("acme/gated"), TOKEN).name == "acme/gated"


def test_a_private_model_stays_with_its_owner(hub, tiny_model, monkeypatch):
    hub.add_repo("tester/secret", tiny_model, private=True)
    mine, other = Owner("tester-id", TOKEN), Owner("other-id", hub.add_user("other"))
    base = locate("tester/secret", mine).base
    assert base.folder.is_relative_to(mine.folder)
    refused("models.no_repository", locate, "tester/secret", other)
    go_offline(hub, monkeypatch)
    assert locate("tester/secret", mine).base == base
    refused("models.unreachable", locate, "tester/secret", other)


def test_nobodys_call_carries_no_token(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    locate(MODEL, Owner("nobody"))
    assert {request.authorization for request in hub.requests} == {None}


def test_pickles_only_are_refused_before_anything_large_is_fetched(hub, tiny_model, owner):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.suffix != ".safetensors"}
    hub.add_repo("tester/pickle", {**files, "pytorch_model.bin": b"pickle", "training_args.bin": b"1"})
    assert "pytorch_model.bin" in refused("models.pickle", locate, "tester/pickle", owner)
    hub.add_repo(
        "tester/pickled-adapter", {"adapter_config.json": json.dumps(ADAPTER).encode(), "adapter_model.bin": b"1"}
    )
    assert "adapter_model.bin" in refused("models.pickle", locate, "tester/pickled-adapter", owner)
    assert not [request for request in hub.requests if request.path.endswith(".bin")]


def test_a_model_that_cannot_be_used_is_refused_before_its_weights_are_fetched(hub, tiny_model, owner):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    config = json.dumps({"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "code.M"}}).encode()
    hub.add_repo("tester/code", {**files, "config.json": config, "code.py": b"1"})
    refused("models.remote_code", locate, "tester/code", owner)
    assert not [request for request in hub.requests if "safetensors" in request.path]


def test_an_adapter_on_the_hub_brings_its_base(hub, model, adapter_files, owner):
    hub.add_repo("tester/adapter", adapter_files)
    source = locate("tester/adapter", owner)
    assert (source.name, source.base.name) == ("tester/adapter", MODEL)
    assert load(source).adapter == "tester/adapter"
    assert locate(MODEL, owner, adapter="tester/adapter").adapter == source.adapter


def test_an_adapter_is_not_taken_for_a_base(hub, adapter_files):
    hub.add_repo("tester/adapter", adapter_files)
    assert MODEL in refused("models.is_adapter", fetch, Hub("tester/adapter"), False)


def test_a_base_with_an_adapter_in_it_is_no_base_and_still_an_adapter(hub, model, tiny_model, adapter_files, owner):
    hub.add_repo("tester/both", {**{path.name: path.read_bytes() for path in tiny_model.iterdir()}, **adapter_files})
    assert MODEL in refused("models.is_adapter", fetch, Hub("tester/both"), False)
    source = locate("tester/both", owner)
    assert (source.base.name, source.adapter.name) == (MODEL, "tester/both")
    assert locate(MODEL, owner, adapter="tester/both").adapter == source.adapter


def test_an_adapter_that_names_itself_or_another_adapter_as_its_base_is_followed_one_step(
    hub, model, adapter_files, owner
):
    hub.add_repo("tester/adapter", adapter_files)
    for name, base in (("tester/itself", "tester/itself"), ("tester/second", "tester/adapter")):
        config = json.dumps({**ADAPTER, "base_model_name_or_path": base}).encode()
        hub.add_repo(name, {**adapter_files, "adapter_config.json": config})
        assert f'"{base}' in refused("models.is_adapter", locate, name, owner)
        assert f'"{base}' in refused("models.is_adapter", locate_tokenizer, name, owner)
    assert len(hub.requests) < 40


def test_a_token_that_is_wrong_is_told_and_not_taken_for_a_missing_model(hub, model):
    sentence = refused("models.wrong_token", locate, MODEL, Owner("local", "hf_" + "z" * 34))
    assert MODEL in sentence and "hf auth login" in sentence


def test_an_index_that_leads_elsewhere_is_refused_before_weights_are_fetched(hub, tiny_model, owner):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    files["model-00001-of-00001.safetensors"] = files.pop("model.safetensors")
    for target, file in (("../x.safetensors", "index.json"), ("model-00002-of-00002.safetensors", "00002")):
        index = json.dumps({"weight_map": {"a": target}}).encode()
        hub.add_repo("tester/thief", {**files, "model.safetensors.index.json": index})
        assert file in refused("models.damaged", locate, "tester/thief", owner)
    assert not [request for request in hub.requests if "00001" in request.path]


def test_a_model_in_shards_comes_whole(hub, tiny_model, owner, tmp_path):
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_model, tmp_path / "shards", ignore=shutil.ignore_patterns("model.safetensors"))
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    hub.add_repo("tester/shards", tmp_path / "shards")
    base = locate("tester/shards", owner).base
    assert len(list(base.folder.glob("model-*-of-*.safetensors"))) > 1
    assert load(locate("tester/shards", owner)).fingerprint == base.fingerprint


def test_a_tokenizer_comes_without_the_weights(hub, model, adapter_files, owner):
    hub.add_repo("tester/adapter", adapter_files)
    folder = locate_tokenizer("tester/adapter", owner)
    assert folder == locate_tokenizer(MODEL, owner) and load_tokenizer(folder).chat_template
    assert not [request for request in hub.requests if "safetensors" in request.path]


def test_an_adapter_whose_weights_never_came_is_unreachable_without_the_hub(
    hub, model, adapter_files, owner, monkeypatch
):
    hub.add_repo("tester/adapter", adapter_files)
    locate_tokenizer("tester/adapter", owner)
    go_offline(hub, monkeypatch)
    refused("models.unreachable", locate, "tester/adapter", owner)


def test_an_adapter_made_on_other_weights_is_refused_by_its_record(hub, model, adapter_files, owner):
    record = json.dumps({"base_fingerprint": "f" * 64}).encode()
    hub.add_repo("tester/adapter", {**adapter_files, "tunescope.json": record})
    sentence = refused("models.wrong_base", locate, "tester/adapter", owner)
    assert "ffffffffffff" in sentence and MODEL in sentence


def test_an_adapter_made_on_the_stand_in_finds_it_by_its_record(hub, adapter_files, tiny_model, owner):
    shutil.copytree(tiny_model, settings.cache() / settings.STANDIN)
    base = fetch(StandIn(), False)
    record = {"stand_in": settings.STANDIN, "base_fingerprint": base.fingerprint}
    hub.add_repo("tester/adapter", {**adapter_files, "tunescope.json": json.dumps(record).encode()})
    assert locate("tester/adapter", owner).base == base


def test_an_adapter_says_which_revision_of_its_base_it_needs(hub, model, adapter_files, owner):
    first = model.commits[1].sha
    facts = {**json.loads(adapter_files["adapter_config.json"]), "revision": first}
    hub.add_repo("tester/adapter", {**adapter_files, "adapter_config.json": json.dumps(facts).encode()})
    assert locate("tester/adapter", owner).base.revision == first


@pytest.mark.parametrize("named", ["folder", "/etc", "../x", "r20260101-000000-abcd", "", None])
def test_a_base_named_by_a_stranger_is_never_a_folder_here(hub, adapter_files, tiny_model, owner, named):
    named = str(tiny_model) if named == "folder" else named
    config = json.dumps({**ADAPTER, "base_model_name_or_path": named}).encode()
    hub.add_repo("tester/adapter", {**adapter_files, "adapter_config.json": config})
    refused("core.adapter_base", locate, "tester/adapter", owner)


def test_a_download_that_hangs_can_be_stopped(hub, model, owner):
    release, stop = threading.Event(), threading.Event()
    fault = hub.fail("file", hold=release)
    threading.Thread(target=lambda: fault.reached.wait() and stop.set(), daemon=True).start()
    refused("models.stopped", locate, MODEL, owner, stop=stop)
    release.set()
    for thread in threading.enumerate():
        if thread.name == DOWNLOAD:
            thread.join()


@pytest.mark.parametrize(("fault", "code"), [({"status": 500}, "models.hub_error"), ({"cut": True}, "models.hub_lost")])
def test_a_download_that_breaks_is_told_and_the_next_try_completes_it(hub, model, owner, fault, code):
    hub.fail("file", at=4, times=100, **fault)
    assert hub.url in refused(code, locate, MODEL, owner)
    hub.heal()
    assert locate(MODEL, owner).base.name == MODEL


def test_a_download_starts_no_thread_that_watches_its_bars(hub, model, owner, monkeypatch):
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 10)
    before = set(threading.enumerate())
    bars = []
    locate(MODEL, owner, progress=bars.append)
    watching = [thread for thread in set(threading.enumerate()) - before if type(thread).__name__ == "TMonitor"]
    assert bars and watching == []


def test_a_hub_in_trouble_is_done_without_where_the_files_are_here(hub, model, owner):
    base = locate(MODEL, owner).base
    hub.fail("info", times=100, status=503)
    assert locate(MODEL, owner).base == base
    refused("models.hub_error", locate, "tester/never-seen", owner)
