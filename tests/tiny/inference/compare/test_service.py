"""From a request to events: references, adapters that share a batch or do not, limits."""

import shutil

import pytest
import torch

from core import settings
from core.errors import UserError
from core.files import write_json
from inference.compare.replay import generate_alone, new_tokens
from inference.compare.request import CompareRequest
from inference.compare.service import run_comparison
from inference.compare.work import row_bytes
from inference.engine.engine import prompt_ids
from inference.events import Started
from inference.models.cache import Shelf
from inference.models.locate import locate, mixable
from inference.strategies.table import parse_column
from tests.tiny.adapters import make_adapter

MIXED = ["greedy", "greedy model=base", "beam", "beam model=base", "sample", "nucleus model=base temperature=0.8"]


@pytest.fixture(scope="module")
def shelf():
    return Shelf()


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter"))


def _run(owner, shelf, model, columns, **settings):
    request = CompareRequest(str(model), columns, **{"prompt": "How do I make tea?", "max_new_tokens": 20, **settings})
    return list(run_comparison(request, owner, shelf))


def _alone(loaded, spec, seed=0, prompt="How do I make tea?", length=20):
    ids = prompt_ids(loaded.tokenizer, prompt)
    return new_tokens(generate_alone(loaded, ids, spec, seed=seed, max_new_tokens=length)[0], ids)


def _check_both_models(owner, shelf, result, adapter, tiny_model):
    base, tuned = shelf.get(locate(str(tiny_model), owner)), shelf.get(locate(str(adapter), owner))
    for column in result.columns:
        loaded = base if column.model == "base" else tuned
        assert column.token_ids == _alone(loaded, parse_column(column.name.replace(" model=base", ""))), column.name


def test_base_and_tuned_columns_share_one_batch_and_equal_generate(owner, shelf, adapter, tiny_model):
    result = _run(owner, shelf, tiny_model, MIXED, adapter=str(adapter))[-1].result
    assert [column.model for column in result.columns] == ["tuned", "base", "tuned", "base", "tuned", "base"]
    assert result.columns[0].token_ids != result.columns[1].token_ids
    assert result.forwards <= max(len(column.token_ids) for column in result.columns)
    _check_both_models(owner, shelf, result, adapter, tiny_model)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"bias": "lora_only"}, {"modules_to_save": ["lm_head"]}])
def test_adapters_that_cannot_share_a_batch_run_beside_their_base(owner, shelf, tiny_model, tmp_path, settings):
    adapter = make_adapter(tiny_model, tmp_path / "adapter", target_modules=["q_proj", "up_proj"], **settings)
    assert not mixable(locate(str(adapter), owner))
    result = _run(owner, shelf, tiny_model, MIXED, adapter=str(adapter))[-1].result
    assert result.forwards > 20
    _check_both_models(owner, shelf, result, adapter, tiny_model)


def test_tuned_columns_go_on_alone_when_all_base_columns_are_done(owner, shelf, adapter, tiny_model):
    source = locate(str(adapter), owner)
    loaded = shelf.get(source)
    own_ends = loaded.model.generation_config.eos_token_id
    first = _run(owner, shelf, adapter, ["greedy model=base"])[-1].result.columns[0].token_ids[2]
    loaded.model.get_base_model().generation_config.eos_token_id = first
    try:
        result = _run(owner, shelf, adapter, ["greedy", "greedy model=base", "beam"])[-1].result
        assert len(result.columns[1].token_ids) < len(result.columns[0].token_ids)
        assert result.columns[0].token_ids == _alone(loaded, parse_column("greedy"))
    finally:
        loaded.model.get_base_model().generation_config.eos_token_id = own_ends


def test_a_column_can_run_on_a_model_of_its_own(owner, shelf, tiny_model, adapter, tmp_path):
    from tests.tiny_model import make_tiny_model

    other = make_tiny_model(tmp_path / "other", seed=5)
    columns = ["greedy", f"greedy model={other}", f"greedy model={adapter}", f"sample model={tiny_model}"]
    result = _run(owner, shelf, tiny_model, columns)[-1].result
    assert [column.model for column in result.columns] == ["base", str(other), str(adapter), str(tiny_model)]
    sources = [tiny_model, other, adapter, tiny_model]
    for column, source in zip(result.columns, sources, strict=True):
        loaded = shelf.get(locate(str(source), owner))
        assert column.token_ids == _alone(loaded, parse_column(column.name.split()[0]))


def test_a_prompt_gets_the_chat_template_once_and_raw_text_the_tokenizers_own(owner, shelf, tiny_model):
    tokenizer = shelf.get(locate(str(tiny_model), owner)).tokenizer
    chat = prompt_ids(tokenizer, "tea")
    assert tokenizer.decode(chat) == "<|im_start|>user\ntea<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_ids(tokenizer, [{"role": "user", "content": "tea"}]) == chat
    assert prompt_ids(tokenizer, "tea", raw=True) == tokenizer("tea")["input_ids"]
    started = next(e for e in _run(owner, shelf, tiny_model, ["greedy"], prompt="tea") if isinstance(e, Started))
    assert started.prompt_tokens == len(chat)


def test_a_model_without_template_takes_plain_text(owner, shelf, tiny_model):
    import copy

    tokenizer = copy.deepcopy(shelf.get(locate(str(tiny_model), owner)).tokenizer)
    tokenizer.chat_template = None
    assert prompt_ids(tokenizer, "tea") == tokenizer("tea")["input_ids"]
    with pytest.raises(UserError, match="no chat template"):
        prompt_ids(tokenizer, [{"role": "user", "content": "tea"}])


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"prompt": " \n"}, ["prompt is empty"]),
        ({"prompt": None}, ["takes either a prompt or messages"]),
        ({"messages": [{"role": "user", "content": "x"}]}, ["takes either a prompt or messages"]),
        ({"prompt": None, "messages": []}, ["messages are empty or not a list"]),
        ({"prompt": None, "messages": [{"role": "bot", "content": "x"}]}, ['role "bot"', "system, user"]),
        ({"prompt": None, "messages": [{"role": "user"}]}, ["Message 1", "role and content"]),
        ({"prompt": None, "messages": [{"role": "assistant", "content": "x"}]}, ["last message", '"assistant"']),
        ({"prompt": None, "messages": [{"role": "user", "content": "x"}], "raw": True}, ["--raw"]),
        ({"max_new_tokens": 501}, ["26 tokens and max new tokens is 501", "15 tokens more", "512"]),
        ({"prompt": "tea " * 600}, ["more than the model's context length of 512"]),
        ({"columns": ["greedy model=tuned"]}, ["greedy model=tuned", "no", "model=base"]),
        ({"columns": ["greedy model=../x"]}, ["greedy model=../x", "not a valid model"]),
        ({"columns": ["greedy model=/nowhere"]}, ["greedy model=/nowhere", "/nowhere"]),
        ({"columns": []}, ["has 0 columns", "1 to 12"]),
        ({"seed": -1}, ["Seed is -1"]),
        ({"dtype": "int8"}, ["int8"]),
    ],
)
def test_what_cannot_run_is_refused_in_a_sentence(owner, shelf, tiny_model, settings, parts):
    columns = settings.pop("columns", ["greedy"])
    with pytest.raises(UserError) as refused:
        _run(owner, shelf, tiny_model, columns, **settings)
    assert [part for part in parts if part not in str(refused.value)] == [], str(refused.value)


def test_too_many_rows_for_the_memory_are_refused_before_they_are_spent(owner, shelf, tiny_model, monkeypatch):
    loaded = shelf.get(locate(str(tiny_model), owner))
    assert row_bytes(loaded, 10) - row_bytes(loaded, 0) == 10 * 2 * 2 * 2 * 8 * 4
    monkeypatch.setattr("inference.models.loading.free_memory", lambda device: 100_000)
    with pytest.raises(UserError, match=r"need about 0 MB of memory for 16 rows of 46 tokens"):
        _run(owner, shelf, tiny_model, ["beam num_beams=16"])


def test_an_adapter_on_the_stand_in_is_known_to_be_on_it(owner, shelf, tiny_model, adapter, tmp_path):
    shutil.copytree(tiny_model, settings.cache() / settings.STANDIN)
    on_it = shutil.copytree(adapter, tmp_path / "on-the-stand-in")
    fingerprint = locate(settings.STANDIN, owner).base.fingerprint
    write_json(on_it / "tunescope.json", {"stand_in": settings.STANDIN, "base_fingerprint": fingerprint})
    for model, stands_in in ((on_it, True), (settings.STANDIN, True), (tiny_model, False)):
        events = _run(owner, shelf, model, ["greedy"], max_new_tokens=2)
        assert next(event for event in events if isinstance(event, Started)).stand_in is stands_in, model


def test_half_precision_runs_too(owner, shelf, tiny_model):
    for dtype in ("bfloat16", "float16"):
        result = _run(owner, shelf, tiny_model, ["greedy", "beam", "typical"], dtype=dtype)[-1].result
        assert result.dtype == dtype
        assert {column.finish for column in result.columns} <= {"eos", "length"}
    assert torch.get_default_dtype() is torch.float32
