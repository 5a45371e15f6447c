"""The fresh process of a proof: reads its order from standard input, downloads, hashes, computes logits, answers.

Answers are lines on standard output behind a mark: {"progress", "done", "total"} in bytes, then {"files",
"logits_max_difference", "same_tokens"}, or {"code", "facts"} of a sentence. What differs from what was sent is never
loaded.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import folder_size
from core.words import say, speak
from core.workspace import Owner
from finetune.publish import remote
from finetune.publish.files import sha256_of
from finetune.publish.proof import MARK

if TYPE_CHECKING:
    import torch

_FLOAT32_BELOW = 4_000_000_000


def main() -> int:
    order = json.loads(sys.stdin.read())
    speak(order["language"])
    try:
        answer = _answer(order)
    except UserError as error:
        answer = {"code": error.code, "facts": error.facts}
    _say(answer)
    return 0


def _say(value: dict[str, Any]) -> None:
    print(MARK + json.dumps(value, default=str), flush=True)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    repo_id = order["repo_id"]
    with _measured(Path(order["folder"]), order["size"], say("publish.fetching_back", repo=repo_id)):
        folder = _download(order)
    received = {path: sha256_of(folder / path) for path in order["files"] if (folder / path).is_file()}
    if received != order["files"]:
        return {"files": received, "logits_max_difference": None, "same_tokens": None}
    _say({"progress": say("publish.computing", repo=repo_id), "done": 0, "total": 0})
    return {"files": received, **_compared(folder, Path(order["local"]), order["base"], order["prompt"])}


@contextmanager
def _measured(folder: Path, total: int, text: str) -> Iterator[None]:
    """Tell, twice a second, how many bytes have arrived in a folder while the block runs."""
    ended = threading.Event()

    def measure() -> None:
        while True:
            _say({"progress": text, "done": min(folder_size(folder), total), "total": total})
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
    """The files of the push, and no others, at the push's commit."""
    from huggingface_hub import snapshot_download

    owner = Owner("local", order["token"])
    with remote.in_words(order["repo_id"], owner, lost="publish.lost_back"):
        folder = snapshot_download(
            order["repo_id"],
            revision=order["revision"],
            endpoint=order["endpoint"],
            token=order["token"],
            cache_dir=Path(order["folder"]) / "cache",
            allow_patterns=sorted(order["files"]),
        )
    return Path(folder)


def _compared(downloaded: Path, local: Path, base: str | None, prompt: str) -> dict[str, Any]:
    """The largest difference between the logits of both, and whether both split the prompt into the same tokens."""
    here, there = (_token_ids(folder, prompt) for folder in (local, downloaded))
    if here != there:
        return {"logits_max_difference": None, "same_tokens": False}
    wanted, got = (_logits(folder, base, here) for folder in (local, downloaded))
    return {"logits_max_difference": (wanted - got).abs().max().item(), "same_tokens": True}


def _token_ids(folder: Path, prompt: str) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)(prompt)["input_ids"]


def _logits(folder: Path, base: str | None, token_ids: list[int]) -> "torch.Tensor":
    """Logits [tokens, vocabulary] in float32, as plain transformers and PEFT compute them from a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    size = sum(path.stat().st_size for path in Path(base or folder).glob("*.safetensors"))
    dtype = torch.float32 if size < _FLOAT32_BELOW else "auto"
    model: Any = AutoModelForCausalLM.from_pretrained(base or folder, dtype=dtype, use_safetensors=True)
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder))
    with torch.inference_mode():
        return model.eval()(torch.tensor([token_ids])).logits[0].float()


if __name__ == "__main__":
    sys.exit(main())
