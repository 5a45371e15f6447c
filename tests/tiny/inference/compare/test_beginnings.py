"""What a column goes on from, where its model has another tokenizer than the one the ids come from."""

import json

import pytest

from core.errors import UserError
from inference.compare.column_fit import with_start_ids
from inference.compare.request import CompareRequest
from inference.compare.service import run_comparison
from inference.engine.detokenize import Pieces
from inference.models.cache import Shelf
from inference.strategies.syntax import join_line
from inference.strategies.table import parse_column
from tests.tiny_model import make_tiny_model, make_tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return make_tiny_tokenizer()


@pytest.fixture(scope="module")
def letters():
    """A tokenizer of another kind: a token a letter, its ids from the alphabet; unknown is 0."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    alphabet = ["?", *"abcdefghijklmnopqrstuvwxyz |\\\n"]
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, [], unk_token="?"))
    made.decoder = None
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


def _start(ids, text):
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "\\n")
    return parse_column(join_line("greedy", [("start", ",".join(map(str, ids)) + ":" + escaped)]))


@pytest.mark.parametrize("text", ["the quick", "a | b \\ c\nd", "茶"])
def test_ids_that_say_the_same_stay(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    said = "".join(map(Pieces(tokenizer).text, ids))
    spec = _start(ids, said)
    assert with_start_ids(spec, tokenizer, len(tokenizer)) is spec
    assert spec.start == ids


@pytest.mark.parametrize("text", ["the quick", "a | b \\ c\nd"])
def test_another_tokenizer_gets_ids_of_its_own_for_the_text(tokenizer, letters, text):
    ids = tokenizer(text)["input_ids"]
    spec = with_start_ids(_start(ids, text), letters, 32)
    assert spec.start == letters(text)["input_ids"] != ids
    assert letters.decode(spec.start).replace(" ", "") == text.replace(" ", "")
    assert f"{len(spec.start)} tokens of this model" in spec.notes[0]


def test_a_character_in_several_tokens_is_cut_anew_by_its_text(tokenizer, letters):
    """Its tokens say nothing one by one; what they say together comes along."""
    ids = tokenizer("茶 b")["input_ids"]
    pieces = "".join(map(Pieces(tokenizer).text, ids))
    assert pieces != "茶 b"
    spec = parse_column(join_line("greedy", [("start", f"{','.join(map(str, ids))}:{pieces}|茶 b")]))
    assert with_start_ids(spec, tokenizer, len(tokenizer)) is spec
    assert with_start_ids(spec, letters, 32).start == letters("茶 b")["input_ids"]


def test_a_text_that_ends_within_a_character_is_left_out(tokenizer, letters):
    ids = tokenizer("茶")["input_ids"][:-1]
    spec = with_start_ids(_start(ids, "".join(map(Pieces(tokenizer).text, ids))), letters, 32)
    assert spec.start == [] and "start was ignored" in spec.notes[0]


def test_ids_without_their_text_stay_as_they_are(letters):
    spec = parse_column("greedy start=31,7")
    assert with_start_ids(spec, letters, 32) is spec


@pytest.mark.parametrize("value", ["1,x:the", ":the", "1,:the"])
def test_ids_before_the_colon_are_read_as_strictly(value):
    with pytest.raises(UserError, match="list of token ids"):
        parse_column(f"greedy start={value}")


def test_a_comparison_on_a_model_with_another_tokenizer_goes_on_from_the_text(owner, tiny_model, tmp_path, tokenizer):
    """The very ids would say something else there, or nothing."""
    other = make_tiny_model(tmp_path / "other")
    mapped = json.loads((other / "tokenizer.json").read_text())
    vocabulary = mapped["model"]["vocab"]
    plain = [name for name in vocabulary if not name.startswith("<|")]
    turned = dict(zip(plain, reversed([vocabulary[name] for name in plain]), strict=True))
    mapped["model"]["vocab"] = dict(sorted((vocabulary | turned).items(), key=lambda one: one[1]))
    (other / "tokenizer.json").write_text(json.dumps(mapped))
    ids = tokenizer("the quick")["input_ids"]
    start = f'start="{",".join(map(str, ids))}:the quick"'
    lines = [f"greedy {start}", f"greedy {start} model={other}", f"beam {start} model={other}"]
    request = CompareRequest(str(tiny_model), lines, "hi", max_new_tokens=len(ids) + 3)
    same, *others = list(run_comparison(request, owner, Shelf()))[-1].result.columns
    assert same.token_ids[: len(ids)] == ids and same.trace.notes == ()
    for column in others:
        assert column.text.startswith("the quick") and column.token_ids[: len(ids)] != ids
        assert "another tokenizer" in column.trace.notes[0]
        assert column.trace.given == len(ids)


def test_the_text_of_a_single_token_keeps_the_space_that_it_begins_with():
    """Llama 2's kind of tokenizer drops the first space of whatever it decodes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"?": 0, "▁a": 1, "▁tea": 2, "▁more": 3, "s": 4}
    made = Tokenizer(models.WordLevel(vocabulary, "?"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")
    assert tokenizer.decode([2]) == "tea"
    assert list(map(Pieces(tokenizer).text, [2, 4, 3])) == [" tea", "s", " more"]
