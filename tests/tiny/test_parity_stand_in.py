"""Twelve prompts on the stand-in, every strategy: each column equals `model.generate` in float32 (takes minutes)."""

import pytest

from core import settings
from inference.strategies import parse_columns
from tests.tiny.decoding import differences_of_ids

PROMPTS = [
    "Name three colours.",
    "Write a haiku about rain.",
    "What is the capital of France?",
    "Explain why the sky is blue to a child.",
    "List the steps to make a cup of tea.",
    "Translate 'good morning' into Spanish.",
    "def fibonacci(n):",
    "用中文介绍一下茶。",
    "Give me a short story that ends badly.",
    "What is 17 times 23?",
    "Say nothing but yes.",
    "Once upon a time, in a village by the sea,",
]
COLUMNS = [
    "greedy",
    "beam",
    "beam num_beams=2 early_stopping=true",
    "beam num_beams=5 length_penalty=2 early_stopping=never",
    "sample",
    "sample temperature=0.7",
    "top_k",
    "nucleus",
    "min_p",
    "typical",
]


@pytest.fixture(scope="module")
def stand_in():
    from core.workspace import Owner
    from inference.loading import load
    from inference.models import locate

    folder = settings.cache() / settings.STANDIN
    if not (folder / "config.json").is_file():
        pytest.skip(f"needs the stand-in: python -m inference compare --model {settings.STANDIN} ... fetches it")
    return load(locate(settings.STANDIN, Owner("local")), "float32", "cpu")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_the_stand_in_writes_what_generate_writes(stand_in, number):
    from inference.engine import prompt_ids

    ids = prompt_ids(stand_in.tokenizer, PROMPTS[number])
    result, wrong = differences_of_ids(stand_in, ids, parse_columns(COLUMNS), seed=number, max_new_tokens=60)
    assert wrong == []
    assert len(result.columns) == len(COLUMNS)
