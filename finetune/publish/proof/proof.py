"""The verification of a push: download it as somebody else would, and compare it with what was trained.

A fresh process with an empty cache downloads the repository, hashes the files, loads the model with the card's own
code, and computes the logits of five prompts with it and with the local weights. The token is passed through its
standard input. The result is recorded in the card (see `in_card`).
"""

import shutil
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import read_json, write_json
from core.hub import reach
from core.references import Folder, Hub, StandIn, parse
from core.words import current, say
from core.workspace import Owner
from finetune.publish.card.card import snippet_of
from finetune.publish.card.facts import base_of
from finetune.publish.formats.logit_check import PROMPTS
from finetune.publish.proof.prover_process import ask
from finetune.publish.repo import remote
from finetune.publish.repo.records import PushResult, path_of, read_push
from finetune.runs.run import Run
from inference.models.types import Report

if TYPE_CHECKING:
    from finetune.data.store import Dataset

TOLERANCE = 1e-4
_LOADED = ("adapter", "merged", "gguf", "")
_SCRATCH = ".proof-"
_STALE_SECONDS = 24 * 3600
_MARGIN = 64 * 2**20


@dataclass(frozen=True)
class FileProof:
    """SHA-256 of a file as it was sent and as it was received (None where it was not)."""

    path: str
    sent: str
    received: str | None

    @property
    def same(self) -> bool:
        return self.sent == self.received


@dataclass(frozen=True)
class Proof:
    """Whether the published files are what was trained. `logits_max_difference` is None where files already differ, and
    for kinds that are not a model to load; `prompts` is how many were compared. `more` holds `not_loaded`: a sentence
    why a model was not loaded."""

    ok: bool
    repo_id: str
    revision: str
    files: list[FileProof]
    logits_max_difference: float | None
    tolerance: float
    same_tokens: bool | None
    seconds: float
    checked: str
    kind: str = ""
    prompts: int = 0
    more: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """Return the result in the reader's language."""
        difference = "" if self.logits_max_difference is None else f"{self.logits_max_difference:.3g}"
        facts = {"repo": self.repo_id, "count": len(self.files)}
        if self.ok:
            loaded = "publish.proved_gguf" if self.kind == "gguf" else "publish.proved"
            sentence = say(
                loaded if difference else "publish.proved_files", **facts, difference=difference, prompts=self.prompts
            )
            return f"{sentence} {self.more['not_loaded']}" if self.more.get("not_loaded") else sentence
        wrong = [file.path for file in self.files if not file.same]
        if wrong:
            return say("publish.files_differ", repo=self.repo_id, files=", ".join(wrong))
        if not self.same_tokens:
            return say("publish.tokens_differ", repo=self.repo_id)
        return say("publish.logits_differ", repo=self.repo_id, difference=difference, limit=f"{self.tolerance:.0e}")


def read_proof(subject: "Run | Dataset", kind: str | None = None) -> Proof | None:
    """Return the last verification of a kind, if there was one; without a kind that of the run's own result."""
    path = path_of(subject, "proof", kind)
    if not path.is_file():
        return None
    value = read_json(path)
    known = {name: value[name] for name in (entry.name for entry in fields(Proof)) if name in value}
    return Proof(**{**known, "files": [FileProof(**file) for file in value["files"]]})


def prove(
    run: "Run | Dataset",
    repo_id: str,
    revision: str,
    owner: Owner,
    progress: Report | None = None,
    stop: threading.Event | None = None,
    *,
    kind: str | None = None,
    local: Path | None = None,
) -> Proof:
    """Download `repo_id` at a commit into an empty cache, in a fresh process, and compare; stored beside the run.

    Files are compared with what the last push of that kind sent; logits with those of the folder `local`, by default
    the run's own result. Raises UserError where it could not be determined (no such push, the network, no disk space);
    a difference is a Proof that is not `ok`. A merged model and a GGUF are compared with base model and adapter. Where
    no logits could be compared this time, an earlier verification of the same commit that compared them stays.
    """
    sent = read_push(run, kind)
    if sent is None or sent.repo_id != repo_id:
        raise UserError("publish.not_pushed", run=run.id, repo=repo_id)
    started = time.monotonic()
    _sweep(run.folder)
    if shutil.disk_usage(run.folder).free < sent.size + _MARGIN:
        raise remote.no_room(repo_id)
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=_SCRATCH) as folder:
        order = {
            "repo_id": repo_id,
            "repo_type": sent.repo_type,
            "revision": revision,
            "branch": sent.revision,
            "endpoint": reach.endpoint(),
            "token": remote.token_of(owner),
            "files": sent.files,
            "size": sent.size,
            "folder": folder,
            "language": current(),
            "load": _load(run, sent, local, owner, progress, stop),
        }
        answer = ask(order, progress, stop)
    proof = _more_thorough(compare(sent, revision, answer, time.monotonic() - started), read_proof(run, kind))
    with remote.in_words(repo_id, owner):
        write_json(path_of(run, "proof", kind), proof.to_json())
    return proof


def _more_thorough(proof: Proof, earlier: Proof | None) -> Proof:
    """Return the new verification, unless it passed and compared less of the same commit than an earlier one."""
    if earlier is None or not (proof.ok and earlier.ok) or earlier.revision != proof.revision:
        return proof
    weaker = proof.logits_max_difference is None and earlier.logits_max_difference is not None
    return earlier if weaker else proof


def _load(
    run: "Run | Dataset",
    sent: PushResult,
    local: Path | None,
    owner: Owner,
    progress: Report | None,
    stop: threading.Event | None,
) -> dict[str, Any] | None:
    """Return how the fresh process loads the model, and what it compares it with; None for what is not a model to
    load."""
    if sent.kind not in _LOADED or not isinstance(run, Run):
        return None
    if sent.kind in ("merged", "gguf"):
        return _load_whole(run, sent, owner, progress, stop)
    folder = local or run.model
    if not folder.is_dir():
        return None
    adapter = (folder / "adapter_config.json").is_file()
    base = base_of(run, owner)
    base_folder = _base_folder(run, owner, progress, stop) if adapter else None
    return {
        "program": snippet_of(
            adapter,
            sent.repo_id,
            sent.revision,
            base.hub_id or str(base_folder),
            base.revision if base.hub_id else None,
        ),
        "base": base_folder,
        "base_id": base.hub_id,
        "base_revision": base.revision,
        "local": str(folder),
        "tokenizer": str(folder),
        "prompts": list(PROMPTS),
    }


def _load_whole(
    run: Run, sent: PushResult, owner: Owner, progress: Report | None, stop: threading.Event | None
) -> dict[str, Any]:
    """Return the same for a merged model or a GGUF: it is compared with base model and adapter, since the files that
    were built are here no longer."""
    from finetune.publish.formats.trained_run import trained

    source = trained(run, owner, progress, stop)
    return {
        "program": snippet_of(False, sent.repo_id, sent.revision, "", None) if sent.kind == "merged" else None,
        "base": str(source.base) if source.adapter or sent.kind == "gguf" else None,
        "base_id": None,
        "base_revision": None,
        "local": str(source.adapter or source.base),
        "adapter": str(source.adapter) if source.adapter else None,
        "tokenizer": str(source.tokenizer),
        "prompts": list(PROMPTS),
    }


def _sweep(where: Path) -> None:
    """Remove leftovers of verifications that were killed more than a day ago."""
    for folder in where.glob(f"{_SCRATCH}*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _base_folder(run: Run, owner: Owner, progress: Report | None, stop: threading.Event | None) -> str:
    """Return the folder of an adapter's base model, which is fetched where it is not here."""
    from inference.models.locate import fetch

    base = base_of(run, owner)
    reference = parse(base.reference, owner)
    assert isinstance(reference, Hub | StandIn | Folder), "base_of takes nothing else"
    fetched = fetch(reference, remote.token_of(owner), owner=owner, progress=progress, stop=stop)
    if base.fingerprint not in (None, fetched.fingerprint):
        raise UserError("publish.other_base", base=base.name)
    return str(fetched.folder)


def compare(sent: PushResult, revision: str, answer: dict[str, Any], seconds: float) -> Proof:
    """Judge what the fresh process found: every file as it was sent and, of a model, the same tokens and logits."""
    received = answer["files"]
    files = [FileProof(path, sha256, received.get(path)) for path, sha256 in sent.files.items()]
    difference, same_tokens = answer["logits_max_difference"], answer["same_tokens"]
    tolerance, why = answer.get("tolerance", TOLERANCE), answer.get("not_loaded")
    close = difference is not None and difference <= tolerance and bool(same_tokens)
    return Proof(
        ok=all(file.same for file in files) and (close or not answer.get("loads", True)),
        repo_id=sent.repo_id,
        revision=revision,
        files=files,
        logits_max_difference=difference,
        tolerance=tolerance,
        same_tokens=same_tokens,
        seconds=round(seconds, 1),
        checked=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        kind=sent.kind,
        prompts=len(PROMPTS) if difference is not None else 0,
        more={"not_loaded": why} if why else {},
    )
