"""What a run writes while it learns: prompts that its rows or its config give, whatever they look like."""

import json
import shutil

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from core.rows import ChatRow, Message
from finetune.data.tokenizing.tokenize import encode_all
from finetune.runs.log import Journal
from finetune.training.attempt import train
from finetune.training.sampling import Prompt, row_prompt, typed_prompt, write_sample
from tests.tiny.training import make_run
from tests.tiny_model import TEMPLATE, make_tiny_tokenizer

REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


def test_a_row_that_the_template_refuses_first_does_not_end_the_run(owner, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text(REFUSES_SYSTEM)
    rows = [{"system": "be brief" if row < 2 else "", "prompt": f"say {row}", "response": f"{row}"} for row in range(6)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    run = make_run(owner, model, tmp_path / "data.json", limits__validation=0.0, optim__epochs=1)
    assert train(run, model, Journal(run), lambda: False) is False
    progress = run.progress()
    assert (progress.ending, progress.started["rows"]) == ("done", 4)
    assert [sample["prompt"] for sample in progress.samples[0]] == ["say 0"]


def test_a_refused_conversation_asks_its_last_turn_alone():
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = REFUSES_SYSTEM
    turns = [("system", "be brief"), ("user", "how much?"), ("assistant", "five")]
    row = ChatRow(messages=[Message(role=role, content=text) for role, text in turns])
    assert encode_all([row], tokenizer, 100)[0].problem
    assert row_prompt(row, tokenizer) == typed_prompt("how much?", tokenizer)


def test_a_prompt_longer_than_the_context_is_read_from_its_end():
    tokenizer = make_tiny_tokenizer()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2)
    ).eval()
    ids = [5 + place % 200 for place in range(100)]
    written = write_sample(model, tokenizer, Prompt("long", ids), 8, lambda: False)
    assert written == write_sample(model, tokenizer, Prompt("its end", ids[-24:]), 8, lambda: False)


def test_a_long_prompt_is_written_down_in_short():
    prompt = typed_prompt("word " * 5000, make_tiny_tokenizer())
    assert len(prompt.text) == 2000 and len(prompt.ids) > 5000
