"""Documents that share a row: none sees another, no token is lost, and models in which they would leak share no row."""

import numpy as np
import pytest
import torch

from finetune.data.tokenizing.packing import pack, positions
from finetune.data.tokenizing.token_rows import TokenRow, write
from finetune.data.tokenizing.tokenize import Encoded
from finetune.objectives import OBJECTIVES
from finetune.runs.log import Journal
from finetune.training.attempt import train
from finetune.training.batches import collate
from finetune.training.loss_head import AnswerLoss, forward
from finetune.training.stages import stays_apart
from tests.tiny.architectures import CONFIGS, random_model
from tests.tiny.stages import run_of, staged


def _document(length, seed):
    ids = torch.randint(3, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenRow((Encoded(ids, list(ids), length, False),), seed)


def _documents(lengths):
    return [_document(length, number) for number, length in enumerate(lengths, 1)]


def test_every_token_is_in_one_row_and_none_is_too_long():
    documents = _documents([30, 7, 64, 12, 50, 3, 33, 20] * 20)
    rows = list(pack(documents, 64))
    assert sorted(token for row in rows for token in row.parts[0].input_ids) == sorted(
        token for document in documents for token in document.parts[0].input_ids
    )
    assert all(row.length == sum(row.documents) <= 64 for row in rows)
    assert len(rows) <= 1.1 * sum(document.length for document in documents) / 64
    for row in rows:
        starts = [0, *np.cumsum(row.documents)[:-1]]
        assert [place for place, label in enumerate(row.parts[0].labels) if label == -100] == starts
    assert list(pack(documents, 64)) == rows


def test_places_begin_anew_with_each_document():
    assert positions((3, 2), 7).tolist() == [0, 1, 2, 0, 1, 0, 1]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_documents_logits_do_not_change_with_its_neighbours(kind):
    model = random_model(kind).model
    apart = stays_apart(model)
    assert apart == (kind not in ("mamba", "lfm2", "qwen3_next")), "running states and convolutions leak"
    if not apart:
        return
    first, other, second = _documents([20, 20, 15])
    seen = []
    for before in (first, other):
        [row] = pack([before, second], 64)
        seen.append(forward(model, collate([row]))[0, 20:35])
    assert torch.equal(*seen)
    alone = forward(model, collate([second]))[0]
    torch.testing.assert_close(seen[0], alone, atol=2e-5, rtol=1e-4)


def test_packed_documents_have_the_loss_of_documents_alone(tmp_path):
    model, documents = random_model("llama").model, _documents([20, 15, 9, 30])
    loss = AnswerLoss(model, OBJECTIVES["pretrain"])
    alone = sum(loss(model, collate([document])).total for document in documents)
    packed = write(tmp_path / "rows.arrow", pack(documents, 64))
    assert len(packed) == 2
    together = loss(model, collate(list(packed))).total
    torch.testing.assert_close(together, alone)


def test_where_documents_would_leak_each_gets_a_row_and_the_log_says_so(owner, tmp_path):
    base = tmp_path / "lfm2"
    loaded = random_model("lfm2")
    loaded.model.save_pretrained(base)
    loaded.tokenizer.save_pretrained(base)
    run = run_of(owner, staged(base, tmp_path, ("pretrain",)), base)
    said = []
    journal = Journal(run)
    journal.say = said.append
    assert train(run, base, journal, lambda: False) is False
    stage = run.progress().started["stages"][0]
    assert stage["rows"] == stage["tally"]["kept"]
    assert any("gets a separate row" in line for line in said)
