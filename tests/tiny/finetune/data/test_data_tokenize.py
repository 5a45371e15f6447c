"""Token ids are those of the chat template, and loss lies on the answers and their end tokens, exactly."""

import json
import random

import pytest

from core.errors import UserError
from core.rows import ChatRow, Message, PairRow, PreferenceRow, TextRow
from finetune.data.importing.importer import import_file
from finetune.data.store import example_file
from finetune.data.tokenizing.check import data_findings
from finetune.data.tokenizing.tokenize import IGNORED, encode, encode_all, ensure_template, pieces
from tests.tiny_model import TEMPLATE, make_tiny_tokenizer

SYSTEM_FIRST = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good<|im_end|>\n{% endif %}" + TEMPLATE
TRIMS = TEMPLATE.replace("message['content']", "message['content'] | trim")
NO_HEADER = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}<|im_end|>{% endif %}{% endfor %}"
)
PLAIN_MARKS = (
    "{% for message in messages %}### {{ message['role'] }}:\n{{ message['content'] }}\n<END>\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
REASONING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% set parts = message['content'].split('</think>') %}"
    "{% if message['role'] == 'assistant' and loop.last %}"
    "<think>\n{{ (parts[0].replace('<think>', '') | trim) if parts | length > 1 else '' }}\n</think>\n\n{% endif %}"
    "{{ parts[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = [("user", "hi"), ("assistant", "ho 😀你"), ("user", "and"), ("assistant", " two\n")]


@pytest.fixture(scope="module")
def shared_tokenizer():
    return make_tiny_tokenizer()


@pytest.fixture
def tokenizer(shared_tokenizer):
    shared_tokenizer.chat_template = TEMPLATE
    return shared_tokenizer


def chat(*turns):
    return ChatRow(messages=[Message(role=role, content=content) for role, content in turns])


def learned(row, tokenizer, max_length=10_000):
    """The stretches of text that carry loss."""
    stretches, open_ = [], False
    for piece in pieces(row, tokenizer, max_length):
        if piece.loss and not open_:
            stretches.append("")
        if piece.loss:
            stretches[-1] += piece.text
        open_ = piece.loss
    return stretches


LEARNED = {
    "chatml": (TEMPLATE, TURNS, ["ho 😀你<|im_end|>", " two\n<|im_end|>"]),
    "with a system turn": (TEMPLATE, [("system", "s"), *TURNS[:2]], ["ho 😀你<|im_end|>"]),
    "the answer repeats the prompt": (
        TEMPLATE,
        [("user", "a"), ("assistant", "a")] * 2,
        ["a<|im_end|>", "a<|im_end|>"],
    ),
    "the last turn has no answer": (TEMPLATE, TURNS[:3], ["ho 😀你<|im_end|>"]),
    "injects a system turn": (SYSTEM_FIRST, TURNS, ["ho 😀你<|im_end|>", " two\n<|im_end|>"]),
    "trims answers": (TRIMS, TURNS, ["ho 😀你<|im_end|>", "two<|im_end|>"]),
    "asks without a header": (NO_HEADER, TURNS, [" ho 😀你<|im_end|>", "  two\n<|im_end|>"]),
    "closes with plain text": (PLAIN_MARKS, TURNS, ["ho 😀你\n<END>", " two\n\n<END>"]),
    "shows reasoning of the last turn": (
        REASONING,
        [("user", "a"), ("assistant", "<think>\nx\n</think>\n\nb"), ("user", "c"), ("assistant", "<think>y</think>d")],
        ["b<|im_end|>", "<think>\ny\n</think>\n\nd<|im_end|>"],
    ),
    "writes empty reasoning": (REASONING, TURNS, ["ho 😀你<|im_end|>", "<think>\n\n</think>\n\n two\n<|im_end|>"]),
}


@pytest.mark.parametrize("case", LEARNED)
def test_loss_lies_on_the_answers_and_their_end_tokens_under_any_template(case, tokenizer):
    template, turns, expected = LEARNED[case]
    tokenizer.chat_template = template
    row = chat(*turns)
    encoded = encode(row, tokenizer, 10_000)
    messages = [message.model_dump() for message in row.messages]
    assert encoded.input_ids == tokenizer.apply_chat_template(messages, return_dict=False)
    assert learned(row, tokenizer) == expected
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORED]) == "".join(expected)


def test_the_ids_before_an_answer_are_those_the_model_is_asked_with(tokenizer):
    for row in import_rows(example_file()):
        encoded = encode(row, tokenizer, 10_000)
        messages = [message.model_dump() for message in row.messages]
        asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        first = next(place for place, label in enumerate(encoded.labels) if label != IGNORED)
        assert encoded.input_ids[:first] == asked


def import_rows(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [ChatRow(**json.loads(line)) for line in lines]


def test_an_answer_that_begins_with_white_space_of_the_header_is_not_mixed_with_it(tokenizer):
    row = chat(("user", "a"), ("assistant", "\n\nb"))
    assert "".join(learned(row, tokenizer)) in ("\n\nb<|im_end|>", "b<|im_end|>")
    assert "assistant" not in "".join(learned(row, tokenizer))


def test_a_row_longer_than_max_length_is_cut_on_the_right_and_marked(tokenizer):
    row = chat(*TURNS)
    whole, cut = encode(row, tokenizer, 10_000), encode(row, tokenizer, 30)
    assert (whole.truncated, cut.truncated) == (False, True)
    assert cut.input_ids == whole.input_ids[:30] and cut.labels == whole.labels[:30]
    assert cut.total == whole.total == len(whole.input_ids)
    shown = pieces(row, tokenizer, 30)
    assert "".join(piece.text for piece in shown) == tokenizer.decode(whole.input_ids)
    assert [piece.cut for piece in shown] == sorted(piece.cut for piece in shown)
    assert any(piece.cut for piece in shown) and not shown[0].cut


def test_a_row_cut_before_its_answer_learns_nothing(tokenizer):
    encoded = encode(chat(("user", "long " * 50), ("assistant", "a")), tokenizer, 20)
    assert not encoded.learns and encoded.truncated
    assert encode(chat(*TURNS), tokenizer, 10_000).learns


def test_no_character_is_shown_in_parts(tokenizer):
    chance = random.Random(5)
    for _ in range(50):
        text = "".join(chance.choice("a 你😀é\n👩‍🔬の\u0301") for _ in range(30))
        row = chat(("user", text), ("assistant", text[::-1] or "x"))
        for length in (3, 20, 10_000):
            shown = [piece.text for piece in pieces(row, tokenizer, length)]
            assert "�" not in "".join(shown)
            assert "".join(shown).count(text) >= 1


def test_all_of_a_text_is_learned_with_an_end_token(tokenizer):
    encoded = encode(TextRow(text="the fox 你"), tokenizer, 100)
    assert encoded.labels == encoded.input_ids
    assert encoded.input_ids == [*tokenizer("the fox 你")["input_ids"], tokenizer.eos_token_id]
    assert [piece.text for piece in pieces(TextRow(text="好"), tokenizer, 100)] == ["好", "<|im_end|>"]


def test_of_a_pair_the_target_is_learned_with_an_end_token(tokenizer):
    row = PairRow(source="the fox", target="le renard")
    encoded = encode(row, tokenizer, 100)
    assert tokenizer.decode(encoded.input_ids) == "the fox\nle renard<|im_end|>"
    assert learned(row, tokenizer) == ["le renard<|im_end|>"]


def test_a_model_without_a_template_gets_the_shipped_one_which_ends_answers_by_its_end_token(tokenizer):
    tokenizer.chat_template = None
    row = chat(("system", "s"), ("user", "hi"), ("assistant", "ho"))
    expected = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
    assert tokenizer.decode(encode(row, tokenizer, 1000).input_ids) == expected
    assert learned(row, tokenizer) == ["ho<|im_end|>"]
    before = encode(row, tokenizer, 1000)
    assert ensure_template(tokenizer) and not ensure_template(tokenizer)
    assert encode(row, tokenizer, 1000) == before
    tokenizer.eos_token = "<|pad|>"
    assert learned(row, tokenizer) == ["ho<|pad|>"]
    tokenizer.eos_token = "<|im_end|>"


def test_a_row_that_the_template_refuses_gets_its_reason_and_the_others_go_on(tokenizer):
    tokenizer.chat_template = NO_SYSTEM
    refused, fine = chat(("system", "s"), *TURNS), chat(*TURNS)
    with pytest.raises(UserError, match="no system role"):
        encode(refused, tokenizer, 100)
    encoded = encode_all([fine, refused, fine], tokenizer, 100)
    assert [each.learns for each in encoded] == [True, False, True]
    assert "no system role" in encoded[1].problem


def test_many_rows_at_once_are_the_rows_one_by_one(tokenizer):
    rows = import_rows(example_file()) * 6
    assert encode_all(rows, tokenizer, 100)[:60] == [encode(row, tokenizer, 100) for row in rows[:60]]


def test_preferences_are_refused_for_fine_tuning_on_answers(tokenizer):
    answer = [Message(role="assistant", content="a")]
    with pytest.raises(UserError, match="preferences"):
        encode(PreferenceRow(prompt=[], chosen=answer, rejected=answer), tokenizer, 10)


def test_a_tokenizer_that_knows_no_offsets_is_refused_by_name():
    from transformers import ByT5Tokenizer

    with pytest.raises(UserError, match="ByT5Tokenizer"):
        encode(TextRow(text="a"), ByT5Tokenizer(), 10)


def test_findings_under_a_model_name_rows_by_their_number_in_the_file(tokenizer, owner, tmp_path):
    tokenizer.chat_template = NO_SYSTEM
    rows = [
        {"prompt": "", "response": "left out on import"},
        {"prompt": "a", "response": "fine"},
        {"prompt": "a", "response": "long " * 100},
        {"prompt": "long " * 100, "response": "nothing of it is left"},
        {"prompt": "a", "response": "b", "system": "s"},
        {"prompt": "a<|im_end|>", "response": "b"},
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    dataset = import_file(path, owner)
    found = data_findings(dataset, tokenizer, 100)
    assert [(each.rule, each.severity, each.rows) for each in found] == [
        ("template", "error", [5]),
        ("nothing_learned", "error", [4]),
        ("too_long", "warning", [3]),
        ("control_tokens", "warning", [6]),
    ]
    assert "no system role" in found[0].remedy and "100" in found[2].remedy
    assert data_findings(dataset, tokenizer, 100, limit=1) == []


def test_white_space_that_a_tokenizer_trims_from_its_offsets_is_not_learned(tokenizer):
    from tokenizers.processors import ByteLevel

    trimming = make_tiny_tokenizer()
    trimming.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    row = chat(*TURNS)
    assert encode(row, trimming, 1000) == encode(row, tokenizer, 1000)
    assert learned(row, trimming) == learned(row, tokenizer)
