"""This machine's records of pushes and verifications: beside the run or the dataset, one file per kind."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.files import read_json, write_json
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.remote import DestinationState
from finetune.publish.repo.scan import PlannedFile
from finetune.runs.run import Run

if TYPE_CHECKING:
    from finetune.data.store import Dataset

_OWN = ("adapter", "merged")


@dataclass(frozen=True)
class PushResult:
    """The result of a push: `url` to look at, the commit, the SHA-256 of each file sent, by path, and the size of all
    in bytes (0 where it was not recorded).

    `revision` is the branch, or `refs/pr/7` of `pull_request` 7; None is the main branch. `changed` is False where
    everything was there already. `card_commit` is the later commit that put the verification into the card.
    """

    repo_id: str
    url: str
    commit: str
    private: bool
    files: dict[str, str]
    size: int = 0
    repo_type: str = "model"
    kind: str = ""
    revision: str | None = None
    pull_request: int | None = None
    changed: bool = True
    card_commit: str | None = None


def path_of(subject: "Run | Dataset", name: str, kind: str | None) -> Path:
    """Return the path of a record: a run's own result has the plain name, other kinds have one of their own."""
    own = kind in (None, "", *_own(subject))
    return subject.folder / (f"{name}.json" if own else f"{name}-{kind}.json")


def _own(subject: "Run | Dataset") -> tuple[str, ...]:
    """Return the kinds that are the subject itself."""
    if not isinstance(subject, Run):
        return ("dataset",)
    return ("adapter",) if (subject.model / "adapter_config.json").is_file() else ("adapter", "merged")


def read_push(subject: "Run | Dataset", kind: str | None = None) -> PushResult | None:
    """Return the last push of a kind, if there was one; without a kind that of the run's own result."""
    path = path_of(subject, "published", kind)
    return PushResult(**read_json(path)) if path.is_file() else None


def write_push(subject: "Run | Dataset", result: PushResult) -> None:
    write_json(path_of(subject, "published", result.kind), asdict(result))


def last_commit(subject: "Run | Dataset", kind: str, to: Destination, found: DestinationState) -> str | None:
    """Return the newest commit that we made at the destination, as far as this machine remembers."""
    record = read_push(subject, kind)
    if record is None or (record.repo_id, record.repo_type, record.revision) != (
        to.repo_id,
        to.repo_type,
        found.revision,
    ):
        return None
    return record.card_commit or record.commit


def matching_proof(
    subject: "Run | Dataset", kind: str, to: Destination, files: list[PlannedFile]
) -> dict[str, Any] | None:
    """Return the card's summary of the last verification, where it was of these files at this destination."""
    path = path_of(subject, "proof", kind)
    value = read_json(path) if path.is_file() else {}
    proved = {file["path"]: file["sent"] for file in value.get("files", [])}
    for name in ("README.md", "tunescope.json"):
        proved.pop(name, None)
    if not value.get("ok") or value.get("repo_id") != to.repo_id:
        return None
    return summary(value) if proved == {file.path: file.sha256 for file in files} else None


def summary(proof: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a verification that a card shows."""
    return {
        "revision": proof["revision"],
        "files": len(proof["files"]),
        "prompts": proof.get("prompts", 1),
        "logits_max_difference": proof["logits_max_difference"],
        "tolerance": proof["tolerance"],
        **({"kind": "gguf"} if proof.get("kind") == "gguf" else {}),
    }
