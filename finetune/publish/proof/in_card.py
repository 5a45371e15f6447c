"""Put a verification into the card and `tunescope.json` of its push, in a second commit."""

import json
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.hub import retries
from core.hub.errors import in_words
from core.words import say
from core.workspace import Owner
from finetune.publish.repo import remote
from finetune.publish.repo.differences import PROOF
from finetune.publish.repo.files import made
from finetune.publish.repo.records import PushResult, read_push, summary, write_push
from finetune.publish.repo.remote import MANIFEST
from inference.models.types import Progress, Report

if TYPE_CHECKING:
    from finetune.data.store import Dataset
    from finetune.publish.proof.proof import Proof
    from finetune.runs.run import Run

_SECTION = re.compile(r"<!-- tunescope:proof -->.*?<!-- /tunescope:proof -->\n*", re.DOTALL)
_BEFORE = re.compile(r"\n(?=## Licen[cs]e\n)")
"""The heading that a verification goes before; cards of earlier versions use the British spelling."""


def with_proof(card: str, proof: dict[str, Any] | None) -> str:
    """Return the card with the section of this verification in place of an older one; without a section where `proof`
    is None."""
    from finetune.publish.card.card import proof_section

    card = _SECTION.sub("", card)
    if proof is None:
        return card
    section = proof_section(proof)
    positions = [found.end() for found in _BEFORE.finditer(card)]
    if not positions:
        return f"{card.rstrip()}\n\n{section.rstrip()}\n"
    return f"{card[: positions[-1]]}{section}{card[positions[-1] :]}"


def keep_in_card(
    subject: "Run | Dataset",
    proof: "Proof",
    owner: Owner,
    progress: Report | None = None,
    *,
    kind: str | None = None,
    stop: threading.Event | None = None,
) -> PushResult:
    """Commit the verification of the last push to its card and `tunescope.json`, and nothing else, on top of that push.

    Raises UserError where it is not a passed verification of that push, or where somebody changed the repository since.
    """
    sent = read_push(subject, kind)
    if sent is None or not proof.ok or proof.revision != sent.commit or sent.repo_id != proof.repo_id:
        raise UserError("publish.not_pushed", run=subject.id, repo=proof.repo_id)
    if progress is not None:
        progress(Progress(say("publish.proof_in_card", repo=sent.repo_id)))
    record = summary(proof.to_json())
    with in_words(sent.repo_id, owner, lost="publish.lost"):
        newest = sent.card_commit or sent.commit
        old = {name: _fetch(sent, name, newest, owner, stop) for name in ("README.md", MANIFEST)}
        new = _changed(old, record)
        if new == old:
            return sent
        commit = _commit(sent, new, newest, owner)
    result = replace(sent, card_commit=commit)
    write_push(subject, result)
    return result


def _changed(old: dict[str, bytes], record: dict[str, Any]) -> dict[str, bytes]:
    card = with_proof(old["README.md"].decode(), record).encode()
    value = json.loads(old[MANIFEST])
    value["files"]["README.md"] = made("README.md", card).sha256
    value["proof"] = record
    return {"README.md": card, MANIFEST: json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"}


def _fetch(sent: PushResult, name: str, commit: str, owner: Owner, stop: threading.Event | None) -> bytes:
    def fetch() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = remote.api(owner).hf_hub_download(
                sent.repo_id,
                name,
                repo_type=sent.repo_type,
                revision=commit,
                token=remote.token_of(owner),
                local_dir=folder,
            )
            return Path(path).read_bytes()

    request: Callable[[], bytes] = fetch
    return retries.again(request, stop)


def _commit(sent: PushResult, files: dict[str, bytes], parent: str, owner: Owner) -> str:
    from huggingface_hub import CommitOperationAdd

    try:
        made_commit = remote.api(owner).create_commit(
            sent.repo_id,
            [CommitOperationAdd(path, content) for path, content in files.items()],
            commit_message=PROOF,
            token=remote.token_of(owner),
            repo_type=sent.repo_type,
            revision=sent.revision,
            parent_commit=parent,
        )
    except Exception:
        found = _already(sent, files, owner)
        if found is None:
            raise
        return found
    return str(made_commit.oid)


def _already(sent: PushResult, files: dict[str, bytes], owner: Owner) -> str | None:
    """Return the newest commit where it holds these files already: its answer was lost, now or at an earlier try."""
    try:
        info = retries.again(
            lambda: remote.api(owner).repo_info(
                sent.repo_id,
                repo_type=sent.repo_type,
                revision=sent.revision,
                timeout=retries.patience.look,
                token=remote.token_of(owner),
            )
        )
        there = {name: _fetch(sent, name, str(info.sha), owner, None) for name in files}
    except (OSError, ValueError):
        return None
    return str(info.sha) if there == files else None
