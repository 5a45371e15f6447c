"""The forward, the loss and the optimizer of training, against the models' own and against plain float32."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from finetune.data.tokenizing.token_rows import TokenRow
from finetune.data.tokenizing.tokenize import Encoded
from finetune.kernels.attention import LONGEST, NAME, use_short_attention
from finetune.kernels.chunked_loss import chunked_log_probs
from finetune.kernels.optimizer import MasterAdamW, ParameterGroup
from finetune.objectives import CHUNK, OBJECTIVES
from finetune.training.batches import LengthGrouped, collate
from finetune.training.loss_head import AnswerLoss
from tests.tiny.architectures import CONFIGS, HEADS, SIZES, random_model


def _rows(lengths, answers_from):
    chance = torch.Generator().manual_seed(1)
    rows = []
    for length in lengths:
        ids = torch.randint(3, 300, (length,), generator=chance).tolist()
        encoded = Encoded(ids, [-100] * answers_from + ids[answers_from:], length, False)
        rows.append(TokenRow((encoded,), len(rows) + 1, len(rows)))
    return rows


def _own_loss(model, batch, rows):
    mask = torch.zeros_like(batch["input_ids"])
    for place, row in enumerate(rows):
        mask[place, : row.length] = 1
    return model(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]).loss


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def _compare(model, rows):
    batch = collate(rows)
    count = int((batch["labels"][:, 1:] != -100).sum())
    answer_loss = AnswerLoss(model, OBJECTIVES["sft"])
    model.train()
    own = _own_loss(model, batch, rows)
    theirs = _gradients(model, own)
    ours = answer_loss(model, batch).total / count
    mine = _gradients(model, ours)
    apart = max((mine[name] - gradient).abs().max().item() for name, gradient in theirs.items())
    print(f"\n{type(model).__name__}: loss {abs(ours.item() - own.item()):.1e} apart, gradients at most {apart:.1e}")
    assert ours.item() == pytest.approx(own.item(), abs=1e-5)
    assert mine.keys() == theirs.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-4, msg=name)
    return answer_loss


def test_the_loss_on_answers_and_its_gradient_are_the_models_own(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert _compare(model, _rows([50, 21, 33, 8], answers_from=5)).gathers


def test_so_they_are_where_the_labels_fill_more_than_one_chunk(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert _compare(model, _rows([400, 390, 77], answers_from=0)).gathers
    assert CHUNK < 400 + 390


def test_a_head_with_a_soft_cap_runs_as_the_model_has_it():
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=1.0,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    assert not _compare(Gemma2ForCausalLM(config), _rows([30, 12], answers_from=3)).gathers


@pytest.mark.parametrize("kind", [*CONFIGS, "cohere", "granite"])
def test_every_kind_of_model_has_its_own_loss_here(kind):
    """Full attention, sliding windows, state spaces and mixtures of them; `cohere` and `granite` scale their logits."""
    model = random_model(kind).model if kind in CONFIGS else _scaled(kind)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    answer_loss = _compare(model, _rows([40, 23, 9], 4))
    assert answer_loss.gathers == (kind not in ("cohere", "granite"))


def _scaled(kind):
    from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig

    torch.manual_seed(0)
    config = (
        CohereConfig(**SIZES, **HEADS, num_hidden_layers=2, logit_scale=0.25)
        if kind == "cohere"
        else GraniteConfig(**SIZES, **HEADS, num_hidden_layers=2, logits_scaling=3.0)
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def test_log_probabilities_a_chunk_at_a_time_are_those_of_the_whole(tiny_model):
    head = torch.nn.Linear(8, 50)
    hidden, targets = torch.randn(37, 8, requires_grad=True), torch.randint(50, (37,))
    weights = torch.rand(37)
    whole = torch.log_softmax(head(hidden), -1).gather(-1, targets[:, None])[:, 0]
    expected = torch.autograd.grad((whole * weights).sum(), [hidden, *head.parameters()])
    found = chunked_log_probs(hidden, targets, head, 10)
    torch.testing.assert_close(found, whole)
    seen = torch.autograd.grad((found * weights).sum(), [hidden, *head.parameters()])
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    found = chunked_log_probs(hidden, targets, head.requires_grad_(False), 10)
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), hidden)[0], expected[0])


def test_attention_for_short_rows_is_the_models_own_in_training_and_untouched_elsewhere(tiny_model, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    fused = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    use_short_attention(model)
    assert model.config._attn_implementation == NAME
    for length in (7, LONGEST, LONGEST + 1):
        ids = torch.randint(3, 300, (3, length), generator=torch.Generator().manual_seed(length))
        for mode in (True, False):
            ours, theirs = (each.train(mode)(input_ids=ids, labels=ids).loss for each in (model, fused))
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        mine, own = _gradients(model.train(), model(input_ids=ids, labels=ids).loss), _gradients(fused.train(), theirs)
        for name, gradient in mine.items():
            torch.testing.assert_close(gradient, own[name], atol=1e-5, rtol=1e-3, msg=name)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_a_batch_without_labels_weighs_nothing(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    batch = collate(_rows([6, 4], answers_from=6))
    loss = AnswerLoss(model, OBJECTIVES["sft"])(model, batch).total
    loss.backward()
    assert loss.item() == 0


def test_small_updates_are_not_rounded_away_in_bfloat16():
    exact = torch.nn.Parameter(torch.ones(8))
    rounded = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    reference = torch.optim.AdamW([exact], lr=1e-4, weight_decay=0.0)
    masters = MasterAdamW([ParameterGroup([rounded])], learning_rate=1e-4)
    for _ in range(100):
        exact.grad, rounded.grad = torch.ones(8), torch.ones(8, dtype=torch.bfloat16)
        reference.step()
        masters.collect()
        masters.step()
    torch.testing.assert_close(masters.masters[0], exact, atol=1e-6, rtol=0)
    torch.testing.assert_close(rounded, exact.bfloat16())
    assert rounded.max() < 1
    assert (masters.masters[0].dtype, rounded.dtype) == (torch.float32, torch.bfloat16)


def test_the_masters_state_survives_being_saved(tmp_path):
    weights = [torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(2)]
    first, second = (MasterAdamW([ParameterGroup([weight], 0.01)], learning_rate=1e-3) for weight in weights)
    for _ in range(3):
        weights[0].grad = torch.full((4,), 0.3, dtype=torch.bfloat16)
        first.collect()
        first.step()
    torch.save(first.state_dict(), tmp_path / "optimizer.pt")
    second.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(first.masters[0], second.masters[0])
    assert all(value.dtype == torch.float32 for state in second.state.values() for value in state.values())


def test_the_longest_batch_comes_first_and_an_epoch_is_the_same_each_time():
    lengths = [(17 * row) % 101 + 1 for row in range(1003)]
    sampler = LengthGrouped(lengths, batch_size=8, seed=3)
    sampler.set_epoch(2)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    assert max(lengths[row] for row in order[:8]) == max(lengths)
    assert order == list(sampler)
    padded = sum(8 * max(lengths[row] for row in order[start : start + 8]) for start in range(0, 1003, 8))
    assert padded < 1.1 * sum(lengths)
    other = LengthGrouped(lengths, batch_size=8, seed=4)
    other.set_epoch(2)
    assert order != list(other)
    sampler.set_epoch(3)
    assert order != list(sampler)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_a_batch_are_all_used(rows):
    assert sorted(LengthGrouped([5] * rows, batch_size=3, seed=0)) == list(range(rows))
