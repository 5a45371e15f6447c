"""The fresh process of a verification: reads its order from standard input, downloads into an empty cache, hashes,
loads the model with the card's own code from that cache alone, computes logits, answers.

Answers are lines on standard output behind a mark: {"progress", "done", "total"} in bytes, then {"files",
"logits_max_difference", "same_tokens"}, or {"code", "facts"} of an error. Files that differ from those sent are never
loaded.
"""

import json
import math
import runpy
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import folder_size
from core.runtime import no_bar_monitors, quiet_libraries
from core.words import say, speak
from core.workspace import Owner
from finetune.publish.proof.proof import TOLERANCE
from finetune.publish.proof.prover_process import MARK
from finetune.publish.repo import remote
from finetune.publish.repo.files import sha256_of

if TYPE_CHECKING:
    import torch

_ROUNDINGS = 8
"""Merged weights are rounded once more: the tolerance, in units of the precision times the largest logit."""
_FLOAT32_BELOW = 4_000_000_000


def main() -> int:
    order = json.loads(sys.stdin.read())
    speak(order["language"])
    no_bar_monitors()
    quiet_libraries()
    try:
        answer = _answer(order)
    except UserError as error:
        answer = {"code": error.code, "facts": error.facts}
    _print_message(answer)
    return 0


def _print_message(value: dict[str, Any]) -> None:
    print(MARK + json.dumps(value, default=str), flush=True)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    repo_id, load = order["repo_id"], order["load"]
    with _measured(Path(order["folder"]), order["size"], say("publish.fetching_back", repo=repo_id)):
        folder = _download(order)
    received = {path: sha256_of(folder / path) for path in order["files"] if (folder / path).is_file()}
    nothing = {"files": received, "logits_max_difference": None, "same_tokens": None, "loads": load is not None}
    if received != order["files"] or load is None:
        return nothing
    _print_message({"progress": say("publish.computing", repo=repo_id), "done": 0, "total": 0})
    if load["program"] is None:
        from finetune.publish.proof.prover_gguf import compared

        return {**nothing, **compared(folder, load)}
    return {**nothing, **_compared(order)}


@contextmanager
def _measured(folder: Path, total: int, text: str) -> Iterator[None]:
    """Report, twice a second, how many bytes have arrived in a folder while the block runs."""
    ended = threading.Event()

    def measure() -> None:
        while True:
            _print_message({"progress": text, "done": min(folder_size(folder), total), "total": total})
            if ended.wait(0.5):
                return

    thread = threading.Thread(target=measure, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _download(order: dict[str, Any]) -> Path:
    """Download the files of the push, and no others, at the push's commit."""
    from huggingface_hub import snapshot_download

    owner = Owner("local", order["token"])
    with remote.in_words(order["repo_id"], owner, lost="publish.lost_back"):
        folder = snapshot_download(
            order["repo_id"],
            repo_type=order["repo_type"],
            revision=order["revision"],
            endpoint=order["endpoint"],
            token=order["token"],
            allow_patterns=sorted(order["files"]),
        )
    return Path(folder)


def _compared(order: dict[str, Any]) -> dict[str, Any]:
    """Return the largest difference between the logits of the downloaded and the trained model, the tolerance, and
    whether both split the prompts into the same tokens."""
    load = order["load"]
    local = Path(load["local"])
    there = _run_card_code(order)
    prompts = [
        (_token_ids(Path(load["tokenizer"]), prompt), there["tokenizer"](prompt)["input_ids"])
        for prompt in load["prompts"]
    ]
    if any(here != back for here, back in prompts):
        return {"logits_max_difference": None, "same_tokens": False}
    token_ids = [here for here, _ in prompts]
    precision = _precision(there["model"])
    got = _logits(there.pop("model"), token_ids)
    wanted = _logits(_local_model(local, load["base"]), token_ids)
    largest = max(logits.abs().max().item() for logits in wanted)
    tolerance = max(TOLERANCE, _ROUNDINGS * precision * largest) if "adapter" in load else TOLERANCE
    return {"logits_max_difference": _max_difference(wanted, got), "same_tokens": True, "tolerance": tolerance}


def _precision(model: Any) -> float:
    """Return the machine epsilon of the coarsest type among a model's weights."""
    import torch

    return max(torch.finfo(weight.dtype).eps for weight in model.parameters() if weight.is_floating_point())


def _max_difference(wanted: "list[torch.Tensor]", got: "list[torch.Tensor]") -> float:
    """Return the largest difference of any two logits; infinite for NaN, which `max` would skip."""
    pairs = zip(wanted, got, strict=True)
    return max((first - second).abs().nan_to_num(nan=math.inf, posinf=math.inf).max().item() for first, second in pairs)


def _run_card_code(order: dict[str, Any]) -> dict[str, Any]:
    """Run the card's code on the downloaded files and nothing else, and return its variables: offline, with the names
    that it uses pointing to those files."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    _write_ref(cache, order["repo_id"], order["branch"] or "main", order["revision"])
    _mark_missing(cache, order)
    _link_base(cache, order["load"])
    program = Path(order["folder"]) / "card.py"
    program.write_text(order["load"]["program"], encoding="utf-8")
    constants.HF_HUB_OFFLINE = True
    try:
        return runpy.run_path(str(program))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError("publish.card_code", repo=order["repo_id"], reason=lines[0][:200]) from error


def _write_ref(cache: Path, repo_id: str, name: str, commit: str) -> None:
    """Point a branch's name to a commit in the cache."""
    ref = cache / f"models--{repo_id.replace('/', '--')}" / "refs" / name
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


def _mark_missing(cache: Path, order: dict[str, Any]) -> None:
    """Record that an adapter has no model configuration, as the Hub would have answered."""
    known = cache / f"models--{order['repo_id'].replace('/', '--')}" / ".no_exist" / order["revision"]
    known.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "adapter_config.json"):
        if name not in order["files"]:
            (known / name).touch()


def _link_base(cache: Path, load: dict[str, Any]) -> None:
    """Link the base model, which was not published, from this machine into the cache."""
    if load["base"] is None or load["base_id"] is None:
        return
    commit = load["base_revision"] or "0" * 40
    snapshots = cache / f"models--{load['base_id'].replace('/', '--')}" / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    (snapshots / commit).symlink_to(Path(load["base"]).absolute(), target_is_directory=True)
    _write_ref(cache, load["base_id"], "main", commit)


def _token_ids(folder: Path, prompt: str) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)(prompt)["input_ids"]


def _local_model(folder: Path, base: str | None) -> Any:
    """Load what was trained from its folder, with plain transformers and PEFT."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base or folder, use_safetensors=True)
    if base is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder))


def _logits(model: Any, prompts: list[list[int]]) -> "list[torch.Tensor]":
    """Return logits [tokens, vocabulary] in float32, a tensor per prompt; a small model computes in float32 too."""
    import torch

    if sum(weight.numel() * weight.element_size() for weight in model.parameters()) < _FLOAT32_BELOW:
        model = model.float()
    with torch.inference_mode():
        return [model.eval()(torch.tensor([token_ids])).logits[0].float() for token_ids in prompts]


if __name__ == "__main__":
    sys.exit(main())
