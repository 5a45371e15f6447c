"""GGUF files: what was written is read back, by transformers and by llama.cpp, and gives the same tokens and logits."""

import math
from dataclasses import replace

import pytest

from core.words import say
from finetune.publish.formats import gguf_model, gguf_vocab, logit_check, lora_delta, modelfile
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.gguf_model import Header
from finetune.publish.kinds import Options, build
from inference.strategies.table import parse_column
from tests.refusals import refused
from tests.tiny.kinds import finished, make_model
from tests.tiny_model import make_tiny_tokenizer

pytestmark = pytest.mark.matrix

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
FAMILIES = {
    "Llama whose head is its own": ("llama", {"tie_word_embeddings": False}),
    "Llama with wide heads": ("llama", {"head_dim": 32, "tie_word_embeddings": True}),
    "Llama 3": ("llama", {"head_dim": 16, "rope_parameters": LLAMA3}),
    "Llama stretched": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "Qwen 2 stretched": ("qwen2", {"rope_parameters": YARN}),
    "Qwen 2": ("qwen2", {"tie_word_embeddings": True}),
    "Qwen 3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": False}),
}
TEXTS = ("Tea at 5 o'clock, 1234 cups!", "  two  spaces\n\n\tand a tab", "请用一句话解释。🙂", "naïve café’s")


@pytest.fixture(autouse=True)
def cache(monkeypatch, workspace):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))


def write(base, path, kind="F16", name="tea"):
    plan = lora_delta.plan(base, None)
    plan = replace(plan, parts=[replace(part, dtype="F32") for part in plan.parts])
    config = logit_check.config_of(base, plan)
    gguf_model.check_family(config)
    rows = next(part.rows for part in plan.parts if part.name.endswith("embed_tokens.weight"))
    header = Header(name, config, gguf_vocab.read(base, rows), "apache-2.0")
    gguf_model.write(path, gguf_model.outline(plan, header, kind), header, kind, BuildProgress(1, None, None))
    return plan, config


def contents(path):
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def test_a_run_becomes_two_files_that_hold_its_weights_and_a_modelfile(owner, tiny_model, tmp_path):
    run = finished(owner, tiny_model)
    options = Options(name="tea", columns=("nucleus top_p=0.9 temperature=0.8",))
    built = build("gguf", run, owner, tmp_path / "out", options)
    assert set(built.facts["files"]) == {"tea-F16.gguf", "tea-Q8_0.gguf", "Modelfile"}
    half, half_apart, eight, eight_apart = built.facts["comparisons"]
    assert [half["what"], half_apart["what"], eight["what"], eight_apart["what"]] == ["F16", "F16", "Q8_0", "Q8_0"]
    assert half["max_difference"] < 1e-3 and eight["max_difference"] < 1e-3
    assert half_apart["max_difference"] < 0.1 < eight_apart["max_difference"] < 5
    assert half_apart["top1"] > 0.95 and 0.5 < eight_apart["top1"] <= 1
    facts = contents(tmp_path / "out" / "tea-Q8_0.gguf")
    assert (facts["general.architecture"], facts["general.file_type"], facts["llama.block_count"]) == ("llama", 7, 2)
    assert facts["tokenizer.ggml.pre"] == "gpt-2" and "<|im_start|>" in facts["tokenizer.chat_template"]
    assert len(facts["tokenizer.ggml.tokens"]) == facts["llama.vocab_size"] == 320
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./tea-Q8_0.gguf" and "PARAMETER top_p 0.9" in lines
    assert 'PARAMETER stop "<|im_end|>"' in lines and any(line.startswith("TEMPLATE") for line in lines)


@pytest.mark.parametrize(("family", "settings"), FAMILIES.values(), ids=FAMILIES.keys())
@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_each_family_is_read_back_with_the_logits_of_its_rounded_weights(tmp_path, family, settings, kind):
    base = make_model(tmp_path / "base", family, **settings)
    plan, config = write(base, tmp_path / "model.gguf", kind)
    prompts = logit_check.prompt_ids(base)
    found = logit_check.logits_of_gguf(tmp_path / "model.gguf", config, prompts)
    wanted = logit_check.logits(logit_check.in_memory(plan, base, logit_check.rounded(kind)), prompts)
    distance = logit_check.distance(wanted, found)
    assert distance.max_difference < 1e-3 and distance.top1 == 1 and distance.largest > 1
    original = logit_check.distance(logit_check.logits(logit_check.in_memory(plan, base), prompts), found)
    assert original.max_difference > distance.max_difference


def test_the_stretched_rotation_of_llama_3_goes_along(tmp_path):
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    base = make_model(tmp_path / "base", "llama", head_dim=16, rope_parameters=LLAMA3)
    write(base, tmp_path / "model.gguf")
    [tensor] = [one for one in GGUFReader(tmp_path / "model.gguf").tensors if one.name == "rope_freqs.weight"]
    stretched = AutoModelForCausalLM.from_pretrained(base).model.rotary_emb.inv_freq.tolist()
    plain = [LLAMA3["rope_theta"] ** (-step / 16) for step in range(0, 16, 2)]
    wanted = [one / other for one, other in zip(plain, stretched, strict=True)]
    assert all(math.isclose(one, other, rel_tol=1e-5) for one, other in zip(wanted, tensor.data.tolist(), strict=True))
    assert len({round(factor, 3) for factor in wanted}) > 2


def sentencepiece_tokenizer(folder):
    """A tokenizer of Llama 2's kind: marked spaces, bytes for what is not known, merges in the order of scores."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    words = ["the quick brown fox", "a good cup of tea", "answer the question briefly"] * 20
    learner.train_from_iterator(words, trainers.BpeTrainer(vocab_size=70, show_progress=False))
    learned = [learner.id_to_token(number) for number in range(learner.get_vocab_size())]
    pieces = [token for token in learned if len(token) > 1] + [token for token in learned if len(token) == 1]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256)), *pieces]
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = generate_merges(vocab, {token: -number for token, number in vocab.items()})
    LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True).save_pretrained(folder)
    return len(tokens)


def test_a_vocabulary_of_sentencepiece_keeps_order_scores_and_bytes(tmp_path):
    size = sentencepiece_tokenizer(tmp_path)
    vocabulary = gguf_vocab.read(tmp_path, size + 4)
    assert (vocabulary.model, vocabulary.merges, vocabulary.space_prefix, vocabulary.add_bos) == (
        "llama",
        None,
        True,
        True,
    )
    assert vocabulary.types[0] == gguf_vocab.UNKNOWN and vocabulary.types[1] == gguf_vocab.CONTROL
    assert vocabulary.types[vocabulary.tokens.index("<0x0A>")] == gguf_vocab.BYTE
    assert vocabulary.types[-1] == gguf_vocab.UNUSED and vocabulary.tokens[-1] == f"[PAD{size + 3}]"
    long, short = (vocabulary.tokens.index(token) for token in ("▁the", "he"))
    assert vocabulary.scores[short] > vocabulary.scores[long]


def test_a_vocabulary_of_sentencepiece_is_read_back_with_the_same_tokens(tmp_path):
    from inference.models.fallback_model import tokenizer_of
    from inference.models.loading import load_tokenizer

    base = make_model(tmp_path / "base", "llama", vocab_size=400)
    sentencepiece_tokenizer(base)
    write(base, tmp_path / "model.gguf")
    wanted, back = load_tokenizer(base), tokenizer_of(tmp_path / "model.gguf")
    for text in (*TEXTS, "the quick tea answer", "a good cup of tea"):
        assert back(text, add_special_tokens=False)["input_ids"] == wanted(text, add_special_tokens=False)["input_ids"]


def splitting(name):
    """A tokenizer that splits as a family of llama.cpp's does, from the tiny one."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer = make_tiny_tokenizer()
    backend = tokenizer.backend_tokenizer
    if name == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    else:
        [rule] = [rule for rule, known in gguf_vocab._SPLITS.items() if known == name]
        steps = [pre_tokenizers.Split(Regex(rule), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


@pytest.mark.parametrize("name", ["smollm", "llama-bpe", "qwen2"])
def test_how_text_is_split_is_recognized_and_read_back(tiny_model, tmp_path, name):
    from inference.models.fallback_model import tokenizer_of

    base = make_model(tmp_path / "base", "llama", hidden_size=32)
    tokenizer = splitting(name)
    tokenizer.save_pretrained(base)
    write(base, tmp_path / "model.gguf")
    assert contents(tmp_path / "model.gguf")["tokenizer.ggml.pre"] == name
    back = tokenizer_of(tmp_path / "model.gguf")
    assert [back(text)["input_ids"] for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_a_tokenizer_that_llama_cpp_cannot_follow_is_refused(tmp_path):
    from tokenizers import pre_tokenizers

    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save_pretrained(tmp_path)
    assert "Whitespace" in refused("kinds.tokenizer", gguf_vocab.read, tmp_path, 320)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    assert "320" in refused("kinds.too_many_tokens", gguf_vocab.read, tmp_path, 300)


def test_what_a_gguf_cannot_tell_is_refused(owner, tmp_path):
    gpt2 = finished(owner, make_model(tmp_path / "gpt2", "gpt2"))
    assert "gpt2" in refused("kinds.family", build, "gguf", gpt2, owner, tmp_path / "out")
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    turned = make_model(tmp_path / "turned", "llama", rope_parameters=dynamic)
    assert "dynamic" in refused("kinds.gguf_feature", write, turned, tmp_path / "model.gguf")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.part").exists()


def test_numbers_that_half_precision_cannot_hold_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    base = make_model(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert "layers.1.mlp.up_proj" in refused("kinds.overflow", write, base, tmp_path / "model.gguf")


@pytest.mark.parametrize("types", [(), ("Q4_K",), ("F16", "int3")])
def test_a_type_that_cannot_be_written_is_named(types):
    sentence = refused("kinds.gguf_type", Options(types=types).gguf_types)
    assert "F16, Q8_0" in sentence and (not types or types[-1].upper() in sentence)


@pytest.mark.parametrize("name", ["../up", "a b", ".hidden", "a/b", "x" * 200])
def test_a_name_that_is_no_file_name_is_refused(name):
    refused("kinds.name", Options(name=name).file_name, "run")


def test_a_template_goes_into_the_modelfile_only_where_it_writes_the_same(tiny_model, tmp_path):
    tokenizer = make_tiny_tokenizer()
    chat = modelfile.chat_of(tiny_model, [1])
    assert chat.family.key == "chatml" and chat.system is None and chat.stops == ("<|im_end|>",)
    assert modelfile.chat_of(tiny_model, [1], ["END"]).stops == ("<|im_end|>", "END")
    unasked = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Tea.<|im_end|>\n{% endif %}"
    tokenizer.chat_template = unasked + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "unasked")
    assert modelfile.chat_of(tmp_path / "unasked", [1]).system == "You are Tea."
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "other")
    chat = modelfile.chat_of(tmp_path / "other", [1])
    assert chat.family is None and "TEMPLATE" not in modelfile.render("x.gguf", chat, modelfile.parameters(None))


@pytest.mark.parametrize("family", modelfile.FAMILIES, ids=lambda family: family.key)
def test_ollamas_template_says_what_the_family_writes(family):
    """Its template language is small enough here to be played by hand."""
    head, body = family.template().removeprefix("{{- range .Messages }}").split("{{ end }}")
    message = {"role": "user", "content": "Hello."}
    played = head.replace("{{ .Role }}", message["role"]).replace("{{ .Content }}", message["content"]) + body
    assert played == family.write((message,))


def test_ollama_draws_as_the_column_does():
    drawn = modelfile.parameters(parse_column("nucleus top_p=0.9 temperature=0.8"))
    assert drawn == {"repeat_penalty": 1.0, "temperature": 0.8, "top_k": 0, "top_p": 0.9, "min_p": 0.0}
    greedy = modelfile.parameters(parse_column("greedy repetition_penalty=1.2"))
    assert (greedy["temperature"], greedy["repeat_penalty"], greedy["repeat_last_n"]) == (0, 1.2, -1)
    assert modelfile.parameters(parse_column("nucleus seed=7"))["seed"] == 7
    assert modelfile.parameters(parse_column("greedy stop=END")) == modelfile.parameters(parse_column("greedy"))
    assert say("kinds.title.gguf").startswith("GGUF")


@pytest.mark.parametrize(
    ("column", "code", "word"),
    [
        ("beam num_beams=4", "kinds.not_in_ollama", "beam"),
        ("typical typical_p=0.6", "kinds.setting_not_in_ollama", "typical_p"),
        ("nucleus xtc_probability=0.5", "kinds.setting_not_in_ollama", "xtc_probability"),
    ],
)
def test_what_ollama_lacks_is_refused_before_anything_is_written(column, code, word):
    assert word in refused(code, modelfile.parameters, parse_column(column))


def by_llama_cpp(path, tokenizer, prompts):
    """The logits of llama.cpp, a tensor a prompt, once its tokens were found to be the tokenizer's.

    A text that begins with spaces is left out: with SentencePiece, llama.cpp marks one more of them.
    """
    llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python")
    import torch

    model = llama_cpp.Llama(str(path), logits_all=True, n_ctx=256, n_threads=1, verbose=False)
    for text in (*map(str.strip, TEXTS), *logit_check.PROMPTS):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert model.tokenize(text.encode(), add_bos=False, special=True) == ids, text
    found = []
    for ids in prompts:
        model.reset()
        model.eval(ids)
        found.append(torch.tensor(model.scores[: len(ids)]))
    return found


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
@pytest.mark.parametrize("family", ["Llama 2", *FAMILIES])
def test_llama_cpp_reads_the_same_tokens_and_says_the_same(tmp_path, family, kind):
    from inference.models.loading import load_tokenizer

    model, settings = FAMILIES.get(family, ("llama", {"vocab_size": 400}))
    base = make_model(tmp_path / "base", model, **settings)
    if family == "Llama 2":
        sentencepiece_tokenizer(base)
    plan, _ = write(base, tmp_path / "model.gguf", kind)
    prompts = logit_check.prompt_ids(base)
    found = by_llama_cpp(tmp_path / "model.gguf", load_tokenizer(base), prompts)
    wanted = logit_check.logits(logit_check.in_memory(plan, base, logit_check.rounded(kind)), prompts)
    distance = logit_check.distance(wanted, found)
    assert distance.top1 > 0.95 and distance.mean_difference < 0.01 * distance.largest, distance
