"""For the tests of decoding: a loaded tiny model, and the honest comparison with `generate`."""

import torch

from inference.chain import chain_of
from inference.columns import Setting
from inference.engine import Panel, compare
from inference.loading import Loaded
from inference.replay import generate_alone, new_tokens
from inference.samplers import Noise
from inference.strategies import parse_columns

TIE = 1e-3


def load_tiny(folder, *, end_ids=None, dtype="float32", adapter=None):
    """The tiny model as the engine takes it; `end_ids` replaces its end tokens, `adapter` names a PEFT wrapper."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    if end_ids is not None:
        model.generation_config.eos_token_id = end_ids
    if adapter is not None:
        model = adapter(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Loaded(model, tokenizer, "tiny", "0" * 64, 512, dtype, "cpu", adapter and "adapter", None)


def run(loaded, prompt, columns, *, seed=0, max_new_tokens=30, **options):
    """The result of one comparison on one loaded model."""
    ids = loaded.tokenizer(prompt)["input_ids"]
    return run_ids(loaded, ids, parse_columns(columns), seed=seed, max_new_tokens=max_new_tokens, **options)


def run_ids(loaded, ids, specs, **options):
    return list(compare([Panel(loaded, ids, list(enumerate(specs)))], **options))[-1].result


def differences(loaded, prompt, columns, *, seed=0, max_new_tokens=30, peer=None):
    """Run a comparison, and every column alone through `generate`; returns (result, what differs without a tie)."""
    ids = loaded.tokenizer(prompt)["input_ids"]
    return differences_of_ids(loaded, ids, parse_columns(columns), seed=seed, max_new_tokens=max_new_tokens, peer=peer)


def differences_of_ids(loaded, ids, specs, *, seed, max_new_tokens, peer=None):
    result = run_ids(loaded, ids, specs, seed=seed, max_new_tokens=max_new_tokens)
    wrong = []
    for spec, column in zip(specs, result.columns, strict=True):
        alone = generate_alone(
            peer or loaded,
            ids,
            spec,
            seed=seed,
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
        expected = new_tokens(alone.sequences[0], ids)
        if column.token_ids != expected and not _tie(alone, ids, spec, seed, column.token_ids, expected):
            wrong.append((spec.name, seed, column.token_ids, expected))
    return result, wrong


def _tie(alone, ids, spec, seed, ours, theirs):
    """Whether two columns part at a numerical tie, judged by the scores of the peer; beams get no such mercy."""
    fork = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if fork is None or spec.kind == "beam":
        return False
    logits = alone.logits[fork]
    if spec.kind == "greedy":
        return abs(logits[0, ours[fork]] - logits[0, theirs[fork]]) < TIE
    noise = Noise(seed, torch.device("cpu"))
    for _ in range(fork + 1):
        noise.next_step(logits.shape[-1])
    scores = chain_of(spec, Setting(frozenset(), 1, noise, ids))(logits, [ids + theirs[:fork]])
    reached = scores.log_softmax(-1) - noise.row.log()
    return abs(reached[0, ours[fork]] - reached[0, theirs[fork]]) < TIE
