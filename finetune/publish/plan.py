"""The plan of a push, before anything is sent: files, destination, card, and what is published there already."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.publish.card import facts, licenses
from finetune.publish.card.card import render
from finetune.publish.card.facts import UNKNOWN, BaseFacts, License, Sample, Subject
from finetune.publish.card.metadata import checked_card, read_head
from finetune.publish.card.pictures import pictures
from finetune.publish.proof.in_card import with_proof
from finetune.publish.repo import records, remote
from finetune.publish.repo.destination import NOWHERE, Destination, RepoType, destination
from finetune.publish.repo.differences import Difference, since_our_push
from finetune.publish.repo.files import collect, made
from finetune.publish.repo.remote import MANIFEST, DestinationState, Target
from finetune.publish.repo.scan import PlannedFile
from finetune.runs.run import Run

if TYPE_CHECKING:
    from finetune.data.store import Dataset

FORMAT = 1


class Publishable(Protocol):
    """What `finetune.publish.kinds.build` returns: a folder of files for a repository of one type."""

    @property
    def kind(self) -> str: ...
    @property
    def repo_type(self) -> RepoType: ...
    @property
    def folder(self) -> Path: ...
    @property
    def facts(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PushPlan:
    """What a push would do. `target` says what is at the destination now: no repository ("new"), an "empty" one, an
    earlier push of the "same" thing, or something else ("foreign"). `difference` is what somebody else changed there
    since the last push. `warnings` are sentences in the reader's language; `card` is the complete README.md, which is
    also among `files`.

    `run` is what is published: a run, or a dataset.
    """

    run: "Run | Dataset"
    repo_id: str
    private: bool
    files: list[PlannedFile]
    card: str
    target: Target
    warnings: list[str]
    found: DestinationState = field(repr=False, default=DestinationState("new"))
    kind: str = "adapter"
    to: Destination = NOWHERE
    difference: Difference | None = None
    license: License = UNKNOWN
    mark: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def needs_yes(self) -> bool:
        """Whether a person must confirm that the files there may be overwritten. A pull request overwrites nothing."""
        return not self.to.pull_request and (self.target == "foreign" or self.difference is not None)


def prepare(
    subject: "Run | Dataset",
    repo_id: str,
    owner: Owner,
    *,
    private: bool = True,
    built: Publishable | None = None,
    branch: str | None = None,
    pull_request: bool = False,
    license: str | None = None,
    card: str | None = None,
    samples: Sequence[Sample] = (),
) -> PushPlan:
    """Check what is to be published, the Hub and the repository at `repo_id`; make the card. Nothing is sent yet.

    `built` is what to publish; without it a run's own result. `license` is a person's answer where the base model's
    license is not known; `card` replaces the card made here and is checked like it; `samples` go into the card. Raises
    UserError for a run that is not done, a file that must not be published, an invalid name, token, scope or namespace,
    a Hub that does not answer, and for a public repository where a private one was requested.
    """
    to = destination(repo_id, owner, built.repo_type if built else "model", branch, pull_request)
    remote.token_of(owner)
    kind = built.kind if built else "adapter" if (subject.folder / "model/adapter_config.json").is_file() else "merged"
    base, files = _contents(subject, kind, built, owner)
    remote.greet(to, owner)
    mark = {"run" if isinstance(subject, Run) else "dataset": subject.id, "kind": kind}
    found = remote.look(to, mark, owner)
    if private and found.private is False:
        raise UserError("publish.is_public", repo=to.repo_id)
    known, attached = licenses.of_base(base, owner, license) if base else (licenses.chosen(license), [])
    files += [file for file in attached if file.path not in {known.path for known in files}]
    if isinstance(subject, Run) and kind in ("adapter", "merged", "gguf"):
        files += pictures(subject)
    last = records.last_commit(subject, kind, to, found)
    about = Subject(subject, to, base, known, files, kind, dict(built.facts) if built else {}, tuple(samples))
    proof = records.matching_proof(subject, kind, to, files)
    text = with_proof(card or _own_card(built) or render(about, owner), proof)
    text = checked_card(text, about, owner, given=card is not None)
    known = known if known.key else facts.license_from(read_head(text))
    about = replace(about, license=known)
    files.append(made("README.md", text.encode()))
    files.sort(key=lambda file: file.path)
    files.append(made(MANIFEST, manifest(mark, base, files, proof)))
    difference = since_our_push(to, found, last, remote.title(mark), owner)
    visible = found.private if found.private is not None else private
    warnings = _warnings(about, found, private, visible, difference)
    return PushPlan(
        subject, to.repo_id, visible, files, text, found.target, warnings, found, kind, to, difference, known, mark
    )


def _contents(
    subject: "Run | Dataset", kind: str, built: Publishable | None, owner: Owner
) -> tuple[BaseFacts | None, list[PlannedFile]]:
    """Return the base model, where there is one, and the files of what is published."""
    if not isinstance(subject, Run):
        assert built is not None, "a dataset is built before it is published"
        return None, collect(built.folder, owner, kind)
    facts.check_done(subject)
    base = facts.base_of(subject, owner)
    folder = built.folder if built else subject.model
    return base, collect(folder, owner, kind, base.hub_id or base.name, base.revision)


def _own_card(built: Publishable | None) -> str | None:
    """Return the card that the kind itself built, as demo Spaces and datasets do."""
    path = built.folder / "README.md" if built else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else None


def manifest(
    mark: dict[str, str], base: BaseFacts | None, files: list[PlannedFile], proof: dict[str, Any] | None = None
) -> bytes:
    """Return `tunescope.json`: what was published, its base model, the SHA-256 of every other file, the
    verification."""
    value: dict[str, Any] = {"tunescope": FORMAT, **mark}
    if base is not None:
        value |= {
            "base": base.hub_id or base.name,
            "stand_in": base.name if base.stand_in else None,
            "revision": base.revision,
            "base_fingerprint": base.fingerprint,
        }
    value["files"] = {file.path: file.sha256 for file in files}
    if proof is not None:
        value["proof"] = proof
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _warnings(
    subject: Subject, found: DestinationState, private: bool, visible: bool, difference: Difference | None
) -> list[str]:
    base, repo_id = subject.base, subject.to.repo_id
    warnings = []
    if base is not None and base.stand_in:
        warnings.append(say("publish.warn_stand_in", name=base.name, base=base.hub_id))
    if base is not None and not base.hub_id:
        warnings.append(say("publish.warn_local_base", name=base.name))
    if not subject.license.key and subject.to.repo_type != "space":
        code = "publish.warn_licence" if visible else "publish.ask_licence"
        warnings.append(say(code, base=(base.hub_id or base.name) if base else repo_id))
    if found.private and not private:
        warnings.append(say("publish.warn_stays_private", repo=repo_id))
    if found.make_branch:
        warnings.append(say("publish.warn_new_branch", repo=repo_id, branch=subject.to.branch))
    if subject.to.pull_request:
        code = "publish.continues_request" if found.pull_request else "publish.opens_request"
        warnings.append(say(code, repo=repo_id, number=found.pull_request))
    elif found.target == "foreign":
        warnings.append(_foreign_warning(repo_id, found, subject.files))
    if difference is not None:
        warnings.append(difference.sentence(repo_id))
    return warnings


def _foreign_warning(repo_id: str, found: DestinationState, files: list[PlannedFile]) -> str:
    replaced = sorted(set(found.files) & {*(file.path for file in files), "README.md", MANIFEST})
    if not replaced:
        return say("publish.warn_foreign_kept", repo=repo_id, count=len(found.files))
    return say("publish.warn_foreign", repo=repo_id, count=len(found.files), files=", ".join(replaced))
