"""What the Hub says: who the caller is, what lies in a repository already, and its refusals in words."""

import errno
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import settings
from core.errors import UserError
from core.references import Hub, parse
from core.words import say
from core.workspace import Owner
from inference import hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Target = Literal["new", "empty", "same", "foreign"]
MANIFEST = "tunescope.json"
_HARMLESS = {".gitattributes", "README.md"}
_LARGEST_MANIFEST = 1_000_000
_SECONDS = 15
_REMEMBERED_SECONDS = 60.0
_known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


@dataclass(frozen=True)
class Found:
    """What lies at the target: `files` by name, the newest commit, and which files an earlier push of this run left."""

    target: Target
    private: bool | None = None
    commit: str | None = None
    files: tuple[str, ...] = ()
    pushed_before: tuple[str, ...] = ()


def api(owner: Owner) -> "HfApi":
    """The client, with the caller's token and no other."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint(), token=token_of(owner))


def token_of(owner: Owner) -> str:
    """The caller's token. Raises UserError where there is none: the process's own is never used for them."""
    if not isinstance(owner.token, str) or not owner.token:
        raise UserError("core.sign_in" if settings.on_space() else "publish.no_token")
    return owner.token


def repository(text: str, owner: Owner) -> str:
    """The repository that a person named, as `namespace/name`. Raises UserError for anything else."""
    try:
        reference = parse(text, owner)
    except UserError:
        raise UserError("publish.repo_name", value=text[:120]) from None
    if not isinstance(reference, Hub) or reference.revision:
        raise UserError("publish.repo_name", value=text[:120])
    return reference.repo_id


def greet(repo_id: str, owner: Owner) -> None:
    """Check that the Hub answers and that the caller's token may write to the namespace. Raises UserError."""
    if settings.hub_offline():
        raise UserError("publish.offline")
    hub.forget()
    if not hub.reachable():
        raise UserError("publish.unreachable", endpoint=hub.endpoint(), reason=say("publish.no_answer"))
    with in_words(repo_id, owner):
        me = _who(owner)
    token = me.get("auth", {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise UserError("publish.read_only_token", user=me.get("name"), endpoint=hub.endpoint())
    allowed = [me.get("name"), *(organisation.get("name") for organisation in me.get("orgs", []))]
    if repo_id.split("/")[0] not in allowed:
        names = ", ".join(str(name) for name in allowed)
        raise UserError("publish.no_namespace", namespace=repo_id.split("/")[0], user=me.get("name"), allowed=names)


def _who(owner: Owner) -> dict[str, Any]:
    """Whose token it is; remembered for a minute, for the Hub answers this question only so often."""
    token = token_of(owner)
    key = (hub.endpoint(), hashlib.sha256(token.encode()).hexdigest())
    asked, me = _known.get(key, (-_REMEMBERED_SECONDS, {}))
    if time.monotonic() - asked >= _REMEMBERED_SECONDS:
        me = api(owner).whoami(token=token)
        _known[key] = (time.monotonic(), me)
    return me


def look(repo_id: str, run_id: str, owner: Owner) -> Found:
    """What lies at the target now, and whether it is this run's own."""
    from huggingface_hub.errors import RepositoryNotFoundError

    token = token_of(owner)
    with in_words(repo_id, owner):
        try:
            info = api(owner).model_info(repo_id, timeout=_SECONDS, token=token)
        except RepositoryNotFoundError:
            return Found("new")
        api(owner).auth_check(repo_id, write=True, token=token)
        files = tuple(file.rfilename for file in info.siblings or [])
        manifest = _manifest(repo_id, str(info.sha), owner) if MANIFEST in files else {}
    target: Target = "foreign"
    if set(files) <= _HARMLESS:
        target = "empty"
    elif manifest.get("run") == run_id:
        target = "same"
    before = manifest.get("files") if target == "same" else None
    pushed_before = tuple(path for path in before if path in files) if isinstance(before, dict) else ()
    return Found(target, bool(info.private), str(info.sha), files, pushed_before)


def _manifest(repo_id: str, commit: str, owner: Owner) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = api(owner).hf_hub_download(repo_id, MANIFEST, revision=commit, token=token_of(owner), local_dir=folder)
        content = Path(path).read_bytes()[:_LARGEST_MANIFEST]
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def in_words(repo_id: str, owner: Owner, *, lost: str = "publish.unreachable") -> Iterator[None]:
    """Turn what the client raises inside the block into a sentence; `lost` is the one for a lost connection.

    A full disk is told from the network: both are OSErrors.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except Exception as error:
        chain = list(_chain(error))
        for cause in chain:
            if isinstance(cause, UserError):
                raise cause from None
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(repo_id) from error
            if type(cause) is ValueError and "README.md" in str(cause):
                raise UserError("publish.card_refused", reason=_reason(str(cause), owner)) from error
            if isinstance(cause, HfHubHTTPError):
                raise _refusal(cause, repo_id, owner) from error
            if isinstance(cause, OfflineModeIsEnabled):
                raise UserError("publish.offline") from error
        for cause in chain:
            if isinstance(cause, httpx2.TransportError) or (isinstance(cause, OSError) and cause.filename is None):
                reason = _reason(str(cause) or type(cause).__name__, owner)
                raise UserError(lost, repo=repo_id, endpoint=hub.endpoint(), reason=reason) from error
        raise


def no_room(repo_id: str) -> UserError:
    """The sentence for a full disk."""
    return UserError("publish.no_room", repo=repo_id, folder=settings.home())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_BY_STATUS = {
    401: "publish.wrong_token",
    402: "publish.quota",
    403: "publish.no_right",
    404: "publish.no_repository",
    409: "publish.changed",
    412: "publish.changed",
    413: "publish.too_large",
    429: "publish.slow_down",
}


def _refusal(error: Any, repo_id: str, owner: Owner) -> UserError:
    """The sentence for an answer that is an error."""
    response = error.response
    status = response.status_code
    code = _BY_STATUS.get(status, "publish.hub_broken" if status >= 500 else "publish.refused")
    reason = _reason(error.server_message or response.headers.get("X-Error-Message") or str(error), owner)
    return UserError(
        code,
        repo=repo_id,
        endpoint=hub.endpoint(),
        status=status,
        reason=reason,
        wait=_wait(response.headers.get("Retry-After")),
    )


def _wait(seconds: str | None) -> str:
    return seconds if seconds and seconds.isdigit() else "60"


def _reason(text: str, owner: Owner) -> str:
    """What the Hub said, short, in one line, without the token."""
    line = " ".join(text.split())
    if isinstance(owner.token, str) and owner.token:
        line = line.replace(owner.token, "***")
    return line[:200].rstrip(". ")
