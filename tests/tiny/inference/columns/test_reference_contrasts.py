"""Tuned against base, and late layers against early ones, as slow references from the papers write them."""

import math

import pytest
import torch

from inference.columns.contrastive import _farthest
from inference.models.loading import Loaded
from tests.tiny import references as slow
from tests.tiny.adapters import make_adapter
from tests.tiny.decoding import load_tiny, run

pytestmark = pytest.mark.matrix

ENDS = [31, 54, 71, 125, 182]
PROMPTS = ["hello", "the quick brown fox", "tea, tea 茶, tea, tea 茶, tea,"]
LIMIT = 16


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


@pytest.fixture(scope="module")
def tuned(tiny_model, adapter):
    """The tiny model under a random LoRA adapter whose effect shows."""
    from peft import PeftModel

    return load_tiny(tiny_model, end_ids=ENDS, adapter=lambda model: PeftModel.from_pretrained(model, adapter))


def _ids(loaded, prompt):
    return loaded.tokenizer(prompt)["input_ids"]


@pytest.mark.parametrize("knobs", [(0.1, 1.0), (0.5, 1.0), (0.01, 0.3), (0.0, 2.0)])
def test_tuned_against_base_writes_what_its_reference_writes(tuned, knobs):
    line = f"contrast plausibility={knobs[0]} strength={knobs[1]}"
    for prompt in PROMPTS:
        expected = slow.contrastive_decoding(slow.Model(tuned.model, ENDS, LIMIT), _ids(tuned, prompt), *knobs)
        company = ["greedy", "beam model=base", line, "sample model=base", "contrastive"]
        alone = run(tuned, prompt, [line], max_new_tokens=LIMIT).columns[0]
        mixed = run(tuned, prompt, company, max_new_tokens=LIMIT).columns
        assert alone.token_ids == mixed[2].token_ids == expected
        assert alone.row_forwards == 2 * len(expected)


def test_columns_beside_a_contrast_write_what_they_write_without_it(tuned, loaded):
    """Base and tuned rows of one batch, among them candidates and beams, do not get mixed up."""
    company = ["contrast", "beam model=base", "contrastive model=base", "diverse_beam", "greedy", "dynamic_beam"]
    for order in (company, company[::-1]):
        for column in run(tuned, PROMPTS[1], order, max_new_tokens=LIMIT).columns:
            apart = run(tuned, PROMPTS[1], [column.name], max_new_tokens=LIMIT).columns[0]
            assert column.token_ids == apart.token_ids, column.name
            if "model=base" in column.name:
                bare = run(loaded, PROMPTS[1], [column.name], max_new_tokens=LIMIT).columns[0]
                assert column.token_ids == bare.token_ids
    assert run(loaded, PROMPTS[1], ["greedy"], max_new_tokens=LIMIT).columns[0].token_ids != apart.token_ids


def _layered(count, tied, tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(count)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=count,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = ENDS
    if not tied:  # or all layers but the last are so sure that they are equally far from it, to the last digit
        with torch.no_grad():
            model.lm_head.weight.mul_(0.1)
    return Loaded(model, tokenizer, "layers", "0" * 64, 512, "float32", "cpu", None, None)


# layers, tied, which half -> the candidates of the paper's rule as its authors' code has them
LAYERS = {
    (9, True, "low"): [2],
    (9, False, "low"): [0, 2],
    (9, True, "high"): [4, 6, 8],
    (12, True, "low"): [2, 4],
    (12, False, "high"): [6, 8, 10],
    (2, True, "low"): [1],
    (2, True, "high"): [1],
    (1, True, "high"): [0],
    (44, False, "high"): list(range(24, 44, 2)),
    (44, True, "low"): list(range(2, 20, 2)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_dola_writes_what_its_reference_writes(loaded, case):
    count, tied, half = case
    deep = _layered(count, tied, loaded.tokenizer)
    used = set()
    for share in (0.1, 0.5):
        model = slow.Model(deep.model, ENDS, 8)
        line = f"dola layers={half} plausibility={share}"
        for prompt in PROMPTS[:2]:
            expected, layers = slow.dola(model, _ids(deep, prompt), LAYERS[case], share)
            used |= layers
            for company in ([line], ["greedy", "contrastive", line, "beam"]):
                columns = run(deep, prompt, company, max_new_tokens=8).columns
                assert columns[company.index(line)].token_ids == expected, share
    assert used <= set(LAYERS[case])


@pytest.mark.parametrize("modules", [["q_proj", "lm_head"], ["lm_head"]])
def test_dola_reads_early_layers_by_the_head_of_its_own_model(loaded, tiny_model, tmp_path, modules):
    """Where the adapter is on the head, too, tuned and base columns of one batch each have their own."""
    from peft import PeftModel

    folder = make_adapter(tiny_model, tmp_path, target_modules=modules)
    tuned = load_tiny(tiny_model, end_ids=ENDS, adapter=lambda model: PeftModel.from_pretrained(model, folder))
    company = ["greedy", "dola model=base", "beam model=base", "dola", "sample"]
    written = []
    for prompt in PROMPTS:
        columns = run(tuned, prompt, company, max_new_tokens=LIMIT).columns
        for place, owner in ((1, loaded), (3, tuned)):
            expected, _ = slow.dola(slow.Model(owner.model, ENDS, LIMIT), _ids(owner, prompt), [1], 0.1)
            assert columns[place].token_ids == expected, (company[place], prompt)
        written.append([columns[place].token_ids for place in (1, 3)])
    assert any(base != own for base, own in written)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_farthest_layer_is_found_where_all_are_about_as_far_as_can_be(order):
    """Early layers that give the last one's token 1e-10, 1e-12 and 1e-11: the tenth digit tells them apart."""
    last = torch.tensor([[0.0, -30.0, -30.0]]).log_softmax(-1)
    rows = torch.tensor([[math.log(share), -30.0, 0.0] for share in (1e-10, 1e-12, 1e-11)]).log_softmax(-1)
    assert order[_farthest(last, rows[list(order)])] == 1
    far = [slow.divergence(last[0].double().exp().tolist(), row.double().exp().tolist()) for row in rows]
    assert max(far) == far[1] and far[1] - min(far) < 1e-8


def test_more_than_one_layer_is_taken(loaded):
    deep = _layered(12, False, loaded.tokenizer)
    used = set()
    for prompt in PROMPTS:
        model = slow.Model(deep.model, [], 20)
        used |= slow.dola(model, _ids(deep, prompt), LAYERS[12, False, "high"], 0.1)[1]
    assert len(used) > 1
