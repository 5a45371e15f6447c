"""Models of the Hub by a text: what each is, and whether it can be used here."""

import json
import threading

import pytest

from core.hub import reach
from core.workspace import Owner
from finetune.base_models.network import network_of
from finetune.base_models.search import MOST, search, with_config_details
from finetune.cli import main as shell
from finetune.plan.fit import Here, fits
from inference.models.fingerprint import parameters
from tests.hub import routes
from tests.hub.standin import TOKEN, USER
from tests.refusals import refused

CARD = b"---\nlicense: apache-2.0\nlanguage: [en, zh]\npipeline_tag: text-generation\n---\n# Tiny\n"
NOBODY, SOMEBODY = Owner("local", False), Owner("local", TOKEN)


@pytest.fixture(autouse=True)
def fresh():
    reach.forget()
    yield
    reach.forget()


def add(hub, name, config, *, weights=b"", card=b"", downloads=0, more=None, **repo):
    """A repository that says of itself what `config` says."""
    files = {"config.json": json.dumps(config).encode()} if config else {"notes.txt": b"1"}
    files |= {"README.md": card} if card else {}
    files |= {"model.safetensors": weights} if weights else {}
    made = hub.add_repo(name, files | (more or {}), **repo)
    made.downloads = downloads
    return made


@pytest.fixture
def tiny(hub, tiny_model):
    """The tiny model with a card."""
    repo = hub.add_repo(f"{USER}/tiny", tiny_model)
    repo.add_commit({**repo.head.files, "README.md": hub.blobs.entry("README.md", CARD)}, "card")
    repo.downloads = 5
    return repo


def test_a_model_is_told_with_what_the_hub_has_read_out_of_it(hub, tiny, tiny_model):
    (found,) = search("TINY", NOBODY)
    assert (found.name, found.task, found.licence, found.languages) == (
        tiny.repo_id,
        "chat",
        "apache-2.0",
        ("en", "zh"),
    )
    assert found.parameters == parameters(tiny_model)
    assert (found.gated, found.downloads, found.obstacle) == (False, 5, None)
    assert found.context is None
    assert {one.word for one in fits(found, Here("cpu", 64e9, 4, 4))} == {"fits"}


def test_the_hub_is_asked_once_for_what_is_shown_and_no_more(hub, tiny):
    search("tiny", NOBODY)
    (asked,) = [request for request in hub.requests if request.kind == "models"]
    assert "search=tiny" in asked.path and f"limit={MOST}" in asked.path and "expand=safetensors" in asked.path
    assert "pipeline_tag=text-generation" in asked.path and "sort=downloads" in asked.path


def test_the_token_is_the_callers_and_nobody_has_none(hub, tiny, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    search("tiny", NOBODY)
    search("tiny", SOMEBODY)
    told = [request.authorization for request in hub.requests if request.kind == "models"]
    assert told == [None, f"Bearer {TOKEN}"]


def test_a_private_model_is_found_by_its_owner_alone(hub, tiny_model):
    hub.add_repo(f"{USER}/tiny-secret", tiny_model, private=True)
    assert search("secret", NOBODY) == []
    assert [model.name for model in search("secret", SOMEBODY)] == [f"{USER}/tiny-secret"]


def test_a_gate_is_told(hub, tiny_model):
    hub.add_repo("meta/gated-tiny", tiny_model, gated=True)
    (found,) = search("gated-tiny", NOBODY)
    assert found.gated and found.obstacle is None


def test_the_most_downloaded_come_first_and_no_more_than_a_page(hub):
    for number in range(MOST + 5):
        add(hub, f"ada/many-{number}", {"model_type": "llama"}, downloads=number)
    found = search("many", NOBODY)
    assert [model.downloads for model in found] == list(range(MOST + 4, 4, -1))


@pytest.mark.parametrize(
    ("config", "more", "obstacle"),
    [
        ({"model_type": "llama"}, {"pytorch_model.bin": b"1"}, "picker.no_safetensors"),
        ({"model_type": "homemade", "auto_map": {"AutoModel": "m.M"}}, {"model.safetensors": b"1"}, "picker.own_code"),
        ({"model_type": "homemade"}, {"model.safetensors": b"1"}, "picker.unknown_type"),
        ({"model_type": "t5"}, {"model.safetensors": b"1"}, "picker.not_causal"),
        ({"model_type": "llama", "quantization_config": {}}, {"model.safetensors": b"1"}, "picker.quantised"),
        (None, {"model.gguf": b"1"}, "picker.no_config"),
        (None, {"README.md": b"---\ntags: [peft]\n---\n"}, "picker.is_adapter"),
        ({"model_type": "phi3", "auto_map": {"AutoModel": "m.M"}}, {"model.safetensors": b"1"}, None),
    ],
)
def test_what_cannot_be_used_here_is_told(hub, config, more, obstacle):
    add(hub, "ada/odd", config, more=more)
    (found,) = search("odd", NOBODY)
    assert found.obstacle == obstacle


def test_a_licence_of_its_own_goes_by_its_name(hub):
    card = b"---\nlicense: other\nlicense_name: lfm1.0\nlanguage: en\n---\n"
    add(hub, "ada/named", {"model_type": "llama"}, card=card)
    (found,) = search("named", NOBODY)
    assert (found.licence, found.languages) == ("lfm1.0", ("en",))


def test_models_for_something_else_are_left_out(hub):
    add(hub, "ada/ear", {"model_type": "whisper"}, card=b"---\npipeline_tag: automatic-speech-recognition\n---\n")
    assert search("ear", NOBODY) == []


def test_without_a_text_the_hubs_most_downloaded_are_listed(hub, tiny):
    assert [model.name for model in search("  ", NOBODY)] == [tiny.repo_id]


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (429, {"Retry-After": "7"}, "picker.slow_down"),
        (500, {}, "picker.hub_error"),
        (503, {}, "picker.hub_error"),
        (403, {}, "picker.hub_error"),
    ],
)
def test_a_refusal_is_a_sentence(hub, status, headers, code):
    hub.fail("models", status=status, headers=headers, times=9)
    said = refused(code, search, "tiny", SOMEBODY)
    assert str(status) in said and (status != 429 or "7 seconds" in said)


def test_a_search_that_the_hub_does_not_answer_is_stopped_at_once(hub, tiny):
    from ui.parts.job import Job
    from ui.parts.model_picker import listed_for

    never = threading.Event()
    fault = hub.fail("models", hold=never)
    job = Job().start(lambda job: listed_for("tiny", NOBODY, job))
    assert fault.reached.wait(60)
    job.stop.set()
    assert job.wait(60) and job.error.code == "page.stopped"
    never.set()


def test_a_token_that_the_hub_does_not_accept(hub):
    refused("publish.wrong_token", search, "tiny", Owner("local", "hf_wrong"))


def test_a_connection_that_breaks(hub, tiny):
    hub.fail("models", cut=True, times=9)
    refused("picker.unreachable", search, "tiny", NOBODY)


def test_no_hub_at_all(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("picker.unreachable", search, "tiny", NOBODY)


def test_offline_the_hub_is_not_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("picker.offline", search, "tiny", NOBODY)
    assert hub.requests == []


def test_something_else_that_answers_in_the_hubs_place(hub, monkeypatch):
    def login(call):
        call.send(200, b"<html>log in</html>", {"Content-Type": "text/html"})

    monkeypatch.setattr(routes, "ROUTES", [("HEAD", "/?", "front", login), ("GET", "/api/models", "models", login)])
    refused("picker.strange", search, "tiny", NOBODY)


def test_a_text_that_is_too_long(hub):
    refused("picker.long_text", search, "x" * 101, NOBODY)


def test_a_closer_look_finds_context_and_sizes(hub, tiny, tiny_model):
    (found,) = search("tiny", NOBODY)
    looked = with_config_details(found, NOBODY)
    assert looked.context == 512 and (looked.sizes.layers, looked.sizes.width, looked.sizes.key_heads) == (2, 32, 2)
    assert looked.sizes.tied and network_of(looked.sizes).total == parameters(tiny_model)


def test_sizes_that_do_not_come_to_the_weights_are_not_believed(hub, tiny_model):
    config = json.loads((tiny_model / "config.json").read_text()) | {"intermediate_size": 640, "num_experts": 8}
    weights = (tiny_model / "model.safetensors").read_bytes()
    add(hub, "ada/mixture", config, weights=weights)
    looked = with_config_details(*search("mixture", NOBODY), NOBODY)
    assert looked.sizes is None and looked.context == 512


@pytest.mark.parametrize("config", [{"model_type": "llama", "hidden_size": "wide"}, {"model_type": "llama"}])
def test_a_config_that_says_little_leaves_the_model_as_it_is(hub, config):
    add(hub, "ada/bare", config)
    (found,) = search("bare", NOBODY)
    assert with_config_details(found, NOBODY) == found


def test_a_gate_and_a_hub_that_is_gone_leave_the_model_as_it_is(hub, tiny_model, monkeypatch):
    hub.add_repo("meta/gated-tiny", tiny_model, gated=True)
    (found,) = search("gated-tiny", NOBODY)
    assert with_config_details(found, NOBODY) == found
    hub.heal()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert with_config_details(found, NOBODY) == found and hub.requests == []


def test_nothing_of_a_closer_look_is_kept(hub, tiny, tmp_path):
    with_config_details(*search("tiny", NOBODY), NOBODY)
    assert [path for path in tmp_path.rglob("*") if path.name == "config.json"] == []


def test_the_shell_lists_suggestions_and_what_the_hub_has(hub, tiny, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert shell.main(["models", "tiny", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["licence"], told["obstacle"]) == (tiny.repo_id, "apache-2.0", None)
    assert told["here"]["compare"]["fits"] == "fits"
    assert shell.main(["models", "--task", "code", "--language", "en"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("Coder" in line and "GB" in line for line in lines[1:])
    assert shell.main(["models", "--language", "xx"]) == 0
    assert "search the Hub" in capsys.readouterr().out
    add(hub, "ada/odd", {"model_type": "homemade"})
    assert shell.main(["models", "odd"]) == 0
    assert "does not support this architecture" in capsys.readouterr().out
