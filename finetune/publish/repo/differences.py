"""Changes by somebody else at a destination since the last push, or since the preview."""

from dataclasses import dataclass
from typing import Any

from core.words import say
from core.workspace import Owner
from finetune.publish.repo import remote
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.remote import DestinationState

PROOF = "Add the verification to the card"
PROOFS = (PROOF, "Put the proof of the push into the card")
"""The titles of commits of a verification, of this and earlier versions."""
_MOST_NAMES = 12
_MOST_CHANGES = 5


@dataclass(frozen=True)
class Change:
    """A commit in a repository's history: `when` as "2026-11-24 02:45 UTC"."""

    commit: str
    title: str
    by: str
    when: str


@dataclass(frozen=True)
class Difference:
    """The commits after `since`, newest first, and the files that differ between then and now."""

    since: str
    changes: tuple[Change, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changes or self.added or self.changed or self.removed)

    def sentence(self, repo_id: str) -> str:
        """Return who changed which files, and when, in the reader's language."""
        who = "; ".join(
            say("publish.by_whom", by=change.by, when=change.when, title=change.title[:80])
            for change in self.changes[:_MOST_CHANGES]
        )
        files = ", ".join(
            say(f"publish.file_{word}", files=_names(paths))
            for word, paths in (("added", self.added), ("changed_list", self.changed), ("removed", self.removed))
            if paths
        )
        return say("publish.difference", repo=repo_id, who=who or "-", files=files or "-")


def _names(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:_MOST_NAMES])
    return shown if len(paths) <= _MOST_NAMES else f"{shown}, …"


def since_our_push(
    to: Destination, found: DestinationState, last: str | None, called: str, owner: Owner
) -> Difference | None:
    """Return what changed since our last push; None where nothing did.

    `last` is the commit that this machine remembers. Without one, the newest commit titled as a push of ours, or as its
    verification, counts as ours.
    """
    if found.target != "same" or found.commit is None or found.make_branch or last == found.commit:
        return None
    with remote.in_words(to.repo_id, owner):
        history = _history(to, found.commit, owner)
        if last is None or last not in [change.commit for change in history]:
            last = next((change.commit for change in history if change.title in (called, *PROOFS)), None)
        return between(to, last, found, history, owner) if last != found.commit else None


def since_the_preview(to: Destination, before: DestinationState, found: DestinationState, owner: Owner) -> Difference:
    """Return what changed between two calls of `look`."""
    assert found.commit is not None, "there is something to look at"
    with remote.in_words(to.repo_id, owner):
        return between(to, before.commit, found, _history(to, found.commit, owner), owner)


def between(
    to: Destination, since: str | None, found: DestinationState, history: list[Change], owner: Owner
) -> Difference:
    """Return the commits after `since` (all where it is None or gone), and the files they added, changed or removed."""
    known = [change.commit for change in history]
    after = history[: known.index(since)] if since in known else history
    now = tree(to, str(found.commit), owner)
    before = tree(to, since, owner) if since in known and since is not None else {}
    return Difference(
        since or "",
        tuple(after),
        tuple(sorted(now.keys() - before.keys())),
        tuple(sorted(path for path in now.keys() & before.keys() if now[path] != before[path])),
        tuple(sorted(before.keys() - now.keys())),
    )


def _history(to: Destination, revision: str, owner: Owner) -> list[Change]:
    token = remote.token_of(owner)
    commits = remote.api(owner).list_repo_commits(to.repo_id, repo_type=to.repo_type, revision=revision, token=token)
    return [_change(commit) for commit in commits]


def _change(commit: Any) -> Change:
    when = commit.created_at.strftime("%Y-%m-%d %H:%M UTC")
    return Change(commit.commit_id, commit.title, ", ".join(commit.authors) or "?", when)


def tree(to: Destination, revision: str, owner: Owner) -> dict[str, str]:
    """Return every file at a commit, with the id of its content."""
    token = remote.token_of(owner)
    entries: list[Any] = list(
        remote.api(owner).list_repo_tree(
            to.repo_id, repo_type=to.repo_type, revision=revision, recursive=True, token=token
        )
    )
    return {entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in entries if _is_file(entry)}


def _is_file(entry: Any) -> bool:
    from huggingface_hub.hf_api import RepoFile

    return isinstance(entry, RepoFile)
