"""The stand-in in float32: its columns against `model.generate`, counted as equal, tied and wrong; none may be wrong.

Twelve prompts wherever the stand-in is here (a minute or two); two hundred, in half an hour on two cores, with
`pytest -n 0 -s -m soak -o faulthandler_timeout=0 tests/tiny/inference/columns/test_parity_stand_in.py`.
TUNESCOPE_CACHE says where it is.
"""

import json
from collections import Counter
from dataclasses import replace

import pytest

from core import settings
from inference.strategies.table import parse_columns
from tests.rules.source import ROOT
from tests.tiny.decoding import run_ids, verdicts_on

FORMS = ("{question}", "{question} Answer in one short sentence.", "Translate into French: {question}", "{answer}")
FIRST = [
    "greedy",
    "sample",
    "beam",
    "nucleus",
    "typical",
    "beam num_beams=5 length_penalty=2 early_stopping=never",
    "min_p temperature=1.3",
    "greedy repetition_penalty=1.2 no_repeat_ngram_size=3",
    "beam num_beams=2 early_stopping=true",
    "top_k",
    "eta",
    "beam_sample num_beams=3 temperature=0.8",
]
SECOND = [
    "epsilon",
    "top_h temperature=1.5",
    "lookup",
    'greedy banned="the|a" stop="\\n|. "',
    "beam_sample num_beams=4 top_p=0.9 top_k=40",
    "sample repetition_penalty=1.3 no_repeat_ngram_size=2 temperature=0.7",
    "nucleus top_p=0.6 min_p=0.02 typical_p=0.95",
    'beam num_beams=8 length_penalty=-1 repetition_penalty=1.1 stop=", "',
    "lookup ngram=2 draft_tokens=4 repetition_penalty=1.2",
    "top_k top_k=5 eta_cutoff=0.001 seed=11",
    "beam num_beams=3 no_repeat_ngram_size=3 banned=it",
    "greedy start=504,260",
]
"""What `generate` has, in two boards of twelve columns that take turns with the prompts."""
LACKING = ["diverse_beam", "dynamic_beam", "contrastive", "dola"]
"""What it has not (see the slow references): they keep the second board company, and are compared with themselves
alone."""
LOOKED_AT = 4


@pytest.fixture(scope="module")
def stand_in():
    from core.workspace import Owner
    from inference.models.loading import load
    from inference.models.locate import locate

    folder = settings.cache() / settings.STANDIN
    if not (folder / "config.json").is_file():
        pytest.skip(f"needs the stand-in: python -m inference compare --model {settings.STANDIN} ... fetches it")
    return load(locate(settings.STANDIN, Owner("local")), "float32", "cpu")


@pytest.fixture(autouse=True, scope="module")
def both_cores():
    """The suite keeps tiny models on one thread; this one has weights to read."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def prompts(count):
    """Real questions: the rows of the example dataset in several forms, the last of which is text to go on with."""
    lines = (ROOT / "finetune" / "data" / "example.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines]
    asked = [(form, *row) for form in FORMS for row in rows]
    step = len(asked) // count or 1
    for form, question, answer in asked[: count * step : step]:
        yield form.format(question=question, answer=answer[: len(answer) // 2]), form == "{answer}"


@pytest.mark.ci
def test_twelve_prompts(stand_in):
    _assert_exact(*_count(stand_in, 12, max_new_tokens=12))


@pytest.mark.soak
def test_two_hundred_prompts(stand_in):
    _assert_exact(*_count(stand_in, 200, max_new_tokens=24))


def _assert_exact(against_generate, alone, wrong):
    print(f"\nagainst generate: {dict(against_generate)}; alone against in company: {dict(alone)}")
    assert wrong == []
    for counts in (against_generate, alone):
        assert counts["wrong"] == counts["none"] == 0
        assert counts["tie"] + counts["parted"] <= 0.01 * sum(counts.values())


def _count(loaded, number, max_new_tokens):
    """One of the two boards on each prompt; some of its columns in turn are run again by `generate`, and one of them
    and one that `generate` lacks alone in their batches."""
    from inference.engine.engine import prompt_ids

    against_generate, alone, wrong = Counter(), Counter(), []
    for place, (prompt, raw) in enumerate(prompts(number)):
        ids = prompt_ids(loaded.tokenizer, prompt, raw)
        lines = (FIRST, SECOND)[place % 2]
        specs = parse_columns(lines) + (parse_columns(LACKING) if lines is SECOND else [])
        company = run_ids(loaded, ids, specs, seed=place, max_new_tokens=max_new_tokens)
        looked_at = [(place // 2 * LOOKED_AT + more) % len(lines) for more in range(LOOKED_AT)]
        verdicts = _verdicts(loaded, ids, specs, company, looked_at, place, max_new_tokens)
        against_generate.update(verdict.kind for verdict in verdicts)
        wrong += [(prompt, specs[one].name, told) for one, told in zip(looked_at, verdicts, strict=True) if _bad(told)]
        one = looked_at[place % LOOKED_AT]
        kind = _alone(loaded, ids, specs[one], company.columns[one], verdicts[place % LOOKED_AT], place, max_new_tokens)
        alone[kind] += 1
        wrong += [(prompt, specs[one].name, "alone")] if kind == "wrong" else []
        if lacking := specs[len(lines) :]:
            turn = place // 2 % len(lacking)
            by_itself = run_ids(loaded, ids, [lacking[turn]], seed=place, max_new_tokens=max_new_tokens).columns[0]
            same = by_itself.token_ids == company.columns[len(lines) + turn].token_ids
            alone["identical" if same else "parted"] += 1
    return against_generate, alone, wrong


def _verdicts(loaded, ids, specs, result, places, seed, max_new_tokens):
    part = replace(result, columns=[result.columns[place] for place in places])
    return verdicts_on(loaded, ids, [specs[place] for place in places], part, seed, max_new_tokens)


def _alone(loaded, ids, spec, in_company, verdict, seed, max_new_tokens):
    """Whether a column alone writes what it wrote in company; where not, one of both must be at a tie."""
    result = run_ids(loaded, ids, [spec], seed=seed, max_new_tokens=max_new_tokens)
    if result.columns[0].token_ids == in_company.token_ids:
        return "identical"
    (own,) = verdicts_on(loaded, ids, [spec], result, seed, max_new_tokens)
    return "tie" if "tie" in (own.kind, verdict.kind) and not _bad(own) and not _bad(verdict) else "wrong"


def _bad(verdict):
    return verdict.kind not in ("identical", "tie")
