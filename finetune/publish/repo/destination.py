"""The destination of a push on the Hub: which repository, of which type, on which branch, or a pull request."""

import re
from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.hub import reach
from core.references import Hub, parse
from core.workspace import Owner

RepoType = Literal["model", "dataset", "space"]
_FOLDERS = {"model": "", "dataset": "datasets/", "space": "spaces/"}
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_NO_BRANCH = re.compile(r"\.\.|//|/$|\.$|\.lock($|/)|/\.|^refs/")
_CREATE = ("contribute-repos", "manage-repos")
_WRITE = ("contribute-repos", "write-repos", "manage-repos")
_DISCUSS = ("write-discussions",)


@dataclass(frozen=True)
class Destination:
    """A repository and how a push reaches it.

    `branch` None is the main branch. With `pull_request` no branch is written to: the repository's owners decide.
    """

    repo_id: str
    repo_type: RepoType = "model"
    branch: str | None = None
    pull_request: bool = False

    @property
    def url(self) -> str:
        return f"{reach.endpoint()}/{_FOLDERS[self.repo_type]}{self.repo_id}"


NOWHERE = Destination("")


def destination(
    text: str, owner: Owner, repo_type: RepoType = "model", branch: str | None = None, pull_request: bool = False
) -> Destination:
    """Return the destination that a person named. Raises UserError for an invalid repository or branch, or for both a
    branch and a pull request."""
    branch = (branch or "").strip() or None
    if branch and (not _BRANCH.fullmatch(branch) or _NO_BRANCH.search(branch)):
        raise UserError("publish.branch_name", value=branch[:100])
    if branch and pull_request:
        raise UserError("publish.branch_or_request", branch=branch)
    return Destination(
        repository(text, owner), repo_type, None if branch == "main" else branch, pull_request=pull_request
    )


def repository(text: str, owner: Owner) -> str:
    """Return the repository that a person named, as `namespace/name`. Raises UserError for anything else."""
    try:
        reference = parse(text, owner)
    except UserError:
        raise UserError("publish.repo_name", value=text[:120]) from None
    if not isinstance(reference, Hub) or reference.revision:
        raise UserError("publish.repo_name", value=text[:120])
    return reference.repo_id


def check_scopes(to: Destination, exists: bool, owner: Owner) -> None:
    """Raise UserError, naming the missing scope, where a sign-in cannot write to the destination.

    A token of one's own has no scopes (None) and is judged by the Hub alone.
    """
    needed = _DISCUSS if to.pull_request else _WRITE if exists else _CREATE
    if owner.scopes is not None and not owner.scopes & set(needed):
        raise missing_scope(to, needed[0])


def missing_scope(to: Destination, scope: str) -> UserError:
    """Return the error for a scope that a sign-in lacks, with the remedy."""
    code = "publish.scope_others" if scope == "write-repos" else "publish.scope"
    return UserError(code, scope=scope, repo=to.repo_id)
