"""Requests to the Hub: who the caller is, and the state of a destination."""

import hashlib
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import settings
from core.errors import UserError
from core.hub import reach, retries
from core.hub.errors import clean, in_words, no_room
from core.words import say
from core.workspace import Owner
from finetune.publish.repo.destination import Destination, check_scopes, missing_scope

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["MANIFEST", "DestinationState", "Target", "api", "greet", "in_words", "look", "no_room", "token_of"]

Target = Literal["new", "empty", "same", "foreign"]
MANIFEST = "tunescope.json"
_HARMLESS = {".gitattributes", "README.md"}
_LARGEST_MANIFEST = 1_000_000
_REMEMBERED_SECONDS = 60.0
_known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


@dataclass(frozen=True)
class DestinationState:
    """The state of a destination: `files` by name, the newest commit, and the files of an earlier push of the same
    thing (`pushed_before`, with the `manifest` of that push).

    `revision` is what a push goes to: None for the main branch, a branch, or `refs/pr/7` where a pull request of ours
    is open (`pull_request` 7). `make_branch`: the branch does not exist yet and will start at `commit`.
    """

    target: Target
    private: bool | None = None
    commit: str | None = None
    files: tuple[str, ...] = ()
    pushed_before: tuple[str, ...] = ()
    revision: str | None = None
    make_branch: bool = False
    pull_request: int | None = None
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)


def api(owner: Owner) -> "HfApi":
    """Return a client with the caller's token and no other, and with a time limit."""
    from huggingface_hub import HfApi

    retries.limit_time()
    return HfApi(endpoint=reach.endpoint(), token=token_of(owner))


def token_of(owner: Owner) -> str:
    """Return the caller's token. Raises UserError where there is none: the process's own is never used instead."""
    if not isinstance(owner.token, str) or not owner.token:
        raise UserError("core.sign_in" if settings.on_space() else "publish.no_token")
    return owner.token


def greet(to: Destination, owner: Owner) -> None:
    """Check that the Hub answers and that the caller's token may write to the namespace. Raises UserError.

    A pull request may be made anywhere.
    """
    if settings.hub_offline():
        raise UserError("publish.offline")
    reach.forget()
    if not reach.reachable():
        raise UserError("publish.unreachable", endpoint=reach.endpoint(), reason=say("publish.no_answer"))
    with in_words(to.repo_id, owner):
        me = retries.again(lambda: _who(owner))
    token = me.get("auth", {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise UserError("publish.read_only_token", user=me.get("name"), endpoint=reach.endpoint())
    allowed = [me.get("name"), *(organisation.get("name") for organisation in me.get("orgs", []))]
    namespace = to.repo_id.split("/")[0]
    if not to.pull_request and namespace not in allowed:
        names = ", ".join(str(name) for name in allowed)
        raise UserError("publish.no_namespace", namespace=namespace, user=me.get("name"), allowed=names)


def _who(owner: Owner) -> dict[str, Any]:
    """Return whose token it is; cached for a minute, since the Hub limits how often it answers this."""
    token = token_of(owner)
    key = (reach.endpoint(), hashlib.sha256(token.encode()).hexdigest())
    requested, me = _known.get(key, (-_REMEMBERED_SECONDS, {}))
    if time.monotonic() - requested >= _REMEMBERED_SECONDS:
        me = api(owner).whoami(token=token)
        _known[key] = (time.monotonic(), me)
    return me


def check_card(text: str, to: Destination, owner: Owner, stop: threading.Event | None = None) -> None:
    """Let the Hub check a card's head, as it does before a commit. Raises UserError where the Hub refuses it."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    retries.limit_time()
    headers = build_hf_headers(token=token_of(owner))
    request = {"content": text, "repoType": to.repo_type}

    def check() -> None:
        response = get_session().post(f"{reach.endpoint()}/api/validate-yaml", json=request, headers=headers)
        if response.status_code != 400:
            hf_raise_for_status(response)
        answer = response.json()
        if response.status_code == 400:
            if not isinstance(answer, dict):
                raise ValueError("Malformed response from server")
            errors = [error for error in answer.get("errors", []) if isinstance(error, dict)]
            reason = "; ".join(str(error.get("message")) for error in errors) or str(answer.get("error"))
            raise UserError("publish.card_refused", reason=clean(reason, owner))

    retries.again(check, stop)


def look(to: Destination, mark: dict[str, str], owner: Owner, stop: threading.Event | None = None) -> DestinationState:
    """Return the state of the destination now, and whether it is an earlier push of the same thing.

    `mark` is what the manifest of such a push says, as {"run": id, "kind": kind}. Raises UserError.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with in_words(to.repo_id, owner):
        try:
            info = retries.again(lambda: _info(to, owner, None), stop)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            if to.pull_request:
                raise UserError("publish.nothing_to_change", repo=to.repo_id) from None
            check_scopes(to, False, owner)
            return DestinationState("new")
        check_scopes(to, True, owner)
        if not to.pull_request:
            _may_write(to, owner, stop)
        return _at_revision(to, info, mark, owner, stop)


def _info(to: Destination, owner: Owner, revision: str | None) -> Any:
    return api(owner).repo_info(
        to.repo_id,
        repo_type=to.repo_type,
        revision=revision,
        timeout=min(retries.patience.look, retries.patience.answer),
        token=token_of(owner),
    )


def _may_write(to: Destination, owner: Owner, stop: threading.Event | None) -> None:
    """Raise the Hub's refusal of a caller who may not write; for a sign-in the error for the missing scope."""
    from huggingface_hub.errors import HfHubHTTPError

    token = token_of(owner)
    try:
        retries.again(lambda: api(owner).auth_check(to.repo_id, repo_type=to.repo_type, write=True, token=token), stop)
    except HfHubHTTPError as error:
        reaches = owner.scopes is None or owner.scopes & {"write-repos", "manage-repos"}
        if error.response.status_code == 403 and not reaches:
            raise missing_scope(to, "write-repos") from error
        raise


def _at_revision(
    to: Destination, main: Any, mark: dict[str, str], owner: Owner, stop: threading.Event | None
) -> DestinationState:
    from huggingface_hub.errors import RevisionNotFoundError

    info, make_branch = main, False
    number = open_request(to, title(mark), owner, stop) if to.pull_request else None
    revision = f"refs/pr/{number}" if number else to.branch
    if revision:
        try:
            info = retries.again(lambda: _info(to, owner, revision), stop)
        except RevisionNotFoundError:
            make_branch = True
    files = tuple(file.rfilename for file in info.siblings or [])
    manifest = _manifest(to, str(info.sha), owner, stop) if MANIFEST in files else {}
    target = _target(files, manifest, mark)
    before = manifest.get("files") if target == "same" else None
    pushed_before = tuple(path for path in before if path in files) if isinstance(before, dict) else ()
    return DestinationState(
        target, bool(main.private), str(info.sha), files, pushed_before, revision, make_branch, number, manifest
    )


def _target(files: tuple[str, ...], manifest: dict[str, Any], mark: dict[str, str]) -> Target:
    if set(files) <= _HARMLESS:
        return "empty"
    same = manifest and all(manifest.get(name, value) == value for name, value in mark.items())
    return "same" if same and any(manifest.get(name) for name in ("run", "dataset") if name in mark) else "foreign"


def title(mark: dict[str, str]) -> str:
    """Return the title of commits and pull requests of a thing."""
    return f"Publish run {mark['run']} with Tunescope" if "run" in mark else "Publish a dataset with Tunescope"


def open_request(to: Destination, called: str, owner: Owner, stop: threading.Event | None = None) -> int | None:
    """Return the number of the caller's own open pull request of that title, if there is one."""
    token = token_of(owner)

    def ours() -> list[int]:
        me = _who(owner).get("name")
        requests = api(owner).get_repo_discussions(
            to.repo_id,
            repo_type=to.repo_type,
            author=me,
            discussion_type="pull_request",
            discussion_status="open",
            token=token,
        )
        return [request.num for request in requests if request.title == called and request.author == me]

    return max(retries.again(ours, stop), default=None)


def _manifest(to: Destination, commit: str, owner: Owner, stop: threading.Event | None) -> dict[str, Any]:
    """Return the manifest of an earlier push; empty where the file is not ours: anybody may use that name, at any
    size."""
    where: dict[str, Any] = {"repo_type": to.repo_type, "revision": commit, "token": token_of(owner)}

    def fetch() -> bytes:
        about: Any = api(owner).get_paths_info(to.repo_id, MANIFEST, **where)
        if any(file.size > _LARGEST_MANIFEST for file in about):
            return b""
        with tempfile.TemporaryDirectory() as folder:
            path = api(owner).hf_hub_download(to.repo_id, MANIFEST, local_dir=folder, **where)
            return Path(path).read_bytes()

    try:
        value = json.loads(retries.again(fetch, stop))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
