"""For the tests of decoding: a loaded tiny model, and the honest comparison with `generate`."""

from dataclasses import replace

import torch

from inference.compare.replay import check
from inference.compare.request import CompareRequest
from inference.engine.engine import Panel, compare
from inference.models.loading import Loaded
from inference.strategies.table import parse_columns


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
    result, verdicts = checked(loaded, ids, specs, seed=seed, max_new_tokens=max_new_tokens, peer=peer)
    return result, [verdict for verdict in verdicts if verdict.kind not in ("identical", "tie")]


def checked(loaded, ids, specs, *, seed, max_new_tokens, peer=None, exact=False):
    """The result of a comparison and the verdict on each column, by `peer` where it is another model than `loaded`."""
    result = run_ids(loaded, ids, specs, seed=seed, max_new_tokens=max_new_tokens, exact=exact)
    return result, verdicts_on(peer or loaded, ids, specs, result, seed, max_new_tokens, exact)


def verdicts_on(loaded, ids, specs, result, seed, max_new_tokens, exact=False):
    request = CompareRequest("", [], seed=seed, max_new_tokens=max_new_tokens, exact=exact)
    panel = Panel(loaded, ids, list(enumerate(specs)))
    columns = zip(specs, result.columns, strict=True)
    return [check(request, panel, index, spec, column) for index, (spec, column) in enumerate(columns)]


def as_if_written(result, index, **changes):
    """The column of a result as if it had written something else."""
    return replace(result.columns[index], **changes)
