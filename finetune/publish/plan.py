"""Before anything is sent: which files go where, what the card says, what lies there already."""

import json
from dataclasses import dataclass, field

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.publish import facts, remote
from finetune.publish.card import Subject, render
from finetune.publish.facts import Base, Licence
from finetune.publish.files import PlannedFile, collect, machine_path, made
from finetune.publish.remote import MANIFEST, Found, Target
from finetune.run import Run

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What a push would do. `target` says what lies there now: nothing ("new"), an "empty" repository, an earlier
    push of the "same" run, or something else ("foreign", which needs an explicit yes).

    `warnings` are sentences in the reader's language; `card` is the whole README.md, also among `files`.
    """

    run: Run
    repo_id: str
    private: bool
    files: list[PlannedFile]
    card: str
    target: Target
    warnings: list[str]
    found: Found = field(repr=False, default=Found("new"))

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)


def prepare(run: Run, repo_id: str, owner: Owner, *, private: bool = True) -> Plan:
    """Look at the run, at the Hub and at what lies at `repo_id`; make the card. Nothing is sent.

    Raises UserError for a run that is not done, a file that must not go, a name, token or namespace that is wrong,
    a Hub that does not answer, and for a public repository where a private one was asked for.
    """
    repo_id = remote.repository(repo_id, owner)
    remote.token_of(owner)
    status = run.status().status
    if status != "done":
        raise UserError("publish.not_done", run=run.id, status=say(f"publish.status.{status}"))
    base = facts.base_of(run, owner)
    files = collect(run.model, base.hub_id or base.name, base.revision, owner)
    remote.greet(repo_id, owner)
    found = remote.look(repo_id, run.id, owner)
    if private and found.private is False:
        raise UserError("publish.is_public", repo=repo_id)
    subject = Subject(run, repo_id, base, _licence(base, owner), files)
    card = render(subject, owner)
    if machine_path([card]):
        raise UserError("publish.path_inside", file="README.md", value=str(machine_path(card.split()))[:80])
    files = sorted([*files, made("README.md", card.encode())], key=lambda file: file.path)
    files.append(made(MANIFEST, _manifest(run, base, files)))
    warnings = _warnings(subject, found, private, files)
    return Plan(
        run,
        repo_id,
        found.private if found.private is not None else private,
        files,
        card,
        found.target,
        warnings,
        found,
    )


def _manifest(run: Run, base: Base, files: list[PlannedFile]) -> bytes:
    """`tunescope.json`: the run's id, the base it was trained on, and the SHA-256 of every other file."""
    value = {
        "tunescope": FORMAT,
        "run": run.id,
        "base": base.hub_id or base.name,
        "stand_in": base.name if base.stand_in else None,
        "revision": base.revision,
        "base_fingerprint": base.fingerprint,
        "files": {file.path: file.sha256 for file in files},
    }
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _licence(base: Base, owner: Owner) -> Licence:
    """The base's licence: known here, or as its card on the Hub says. Not knowing it is no error; the card says so."""
    known = facts.known_licence(base, owner)
    if known.key or not base.hub_id:
        return known
    try:
        with remote.in_words(base.hub_id, owner):
            info = remote.api(owner).model_info(base.hub_id, timeout=5, token=remote.token_of(owner))
    except UserError:
        return known
    return facts.licence_from(info.card_data.to_dict() if info.card_data else {})


def _warnings(subject: Subject, found: Found, private: bool, files: list[PlannedFile]) -> list[str]:
    base = subject.base
    warnings = []
    if base.stand_in:
        warnings.append(say("publish.warn_stand_in", name=base.name, base=base.hub_id))
    if not base.hub_id:
        warnings.append(say("publish.warn_local_base", name=base.name))
    if not subject.licence.key:
        warnings.append(say("publish.warn_licence", base=base.hub_id or base.name))
    if found.private and not private:
        warnings.append(say("publish.warn_stays_private", repo=subject.repo_id))
    if found.target == "foreign":
        warnings.append(_what_lies_there(subject.repo_id, found, files))
    return warnings


def _what_lies_there(repo_id: str, found: Found, files: list[PlannedFile]) -> str:
    replaced = sorted(set(found.files) & {file.path for file in files})
    if not replaced:
        return say("publish.warn_foreign_kept", repo=repo_id, count=len(found.files))
    return say("publish.warn_foreign", repo=repo_id, count=len(found.files), files=", ".join(replaced))
