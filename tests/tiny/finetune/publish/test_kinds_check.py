"""The distance between two models' logits: a model that gives no numbers is as far away as can be."""

import math

import pytest
import torch

from finetune.publish.formats.logit_check import distance
from finetune.publish.proof.proof import compare
from finetune.publish.proof.prover import _max_difference
from finetune.publish.repo.records import PushResult

GOOD = [torch.ones(2, 3), torch.ones(4, 3)]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_logits_that_are_no_numbers_are_never_close(place, broken):
    got = [logits.clone() for logits in GOOD]
    got[place][1, 2] = broken
    for wanted in (GOOD, got):
        found = distance(wanted, got)
        assert found.max_difference == math.inf and found.mean_difference == math.inf
        assert _max_difference(wanted, got) == math.inf


def test_a_proof_fails_where_one_prompt_gives_no_numbers():
    got = [GOOD[0], torch.full((4, 3), math.nan)]
    sent = PushResult("ada/model", "", "c", True, {"a": "1"}, kind="merged")
    answer = {
        "files": {"a": "1"},
        "logits_max_difference": _max_difference(GOOD, got),
        "same_tokens": True,
        "loads": True,
    }
    assert not compare(sent, "c", answer, 1.0).ok
    same = {**answer, "logits_max_difference": _max_difference(GOOD, GOOD)}
    assert compare(sent, "c", same, 1.0).ok
