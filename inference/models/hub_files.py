"""The files of a Hub repository: which ones exist, which ones are needed, and their download."""

import contextvars
import errno
import io
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.files import write_file
from core.hub import reach
from core.hub.errors import classify, key_of
from core.references import Hub
from core.words import say
from core.workspace import Owner
from inference.models import fingerprint
from inference.models.types import Progress, Report

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle|joblib|npy|npz)")
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state.*)\.(bin|pt|pth)")
_SMALL = re.compile(
    r"(config|generation_config|adapter_config|tunescope|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|vocab|chat_template|model\.safetensors\.index|tekken)\.json"
    r"|(merges|vocab)\.txt|chat_template\.jinja|.*\.model|README\.md|LICENSE.*"
)
_MARGIN = 64 * 2**20
_TICK_SECONDS = 0.1
DOWNLOAD = "model download"
_SENTENCES = {
    "gated": "models.gated",
    "no_revision": "models.no_revision",
    "no_repository": "models.no_repository",
    "wrong_token": "models.wrong_token",
    "no_right": "models.no_repository",
    "answered": "models.hub_error",
}


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit: top-level file names and their sizes in bytes (0 if not known).

    `root` is the cache folder for it; a private or gated repository has one of its owner's own if several people share
    the machine. `online` is False if this is what an earlier download left.
    """

    repo: Hub
    commit: str
    sizes: dict[str, int]
    root: Path
    online: bool

    @property
    def storage(self) -> Path:
        return _storage(self.root, self.repo)

    @property
    def folder(self) -> Path:
        return self.storage / "snapshots" / self.commit


def small_files(listing: Listing) -> list[str]:
    """Return the files besides weights that are ever read: configuration, tokenizer, card, license."""
    return [name for name in listing.sizes if _SMALL.fullmatch(name)]


def weight_names(names: list[str], folder: Path) -> list[str]:
    """Return the weight files among `names`: one `model.safetensors`, or the shards that the index in `folder` names.

    Raises UserError if the index names something else, or a missing file.
    """
    if "model.safetensors" in names:
        return ["model.safetensors"]
    shards = [path.name for path in fingerprint.shards(folder)]
    for name in shards:
        if name not in names:
            raise UserError("models.damaged", file=name, folder=folder)
    return shards


def refuse_pickles(names: list[str], value: str) -> None:
    """Raise UserError because there are no safetensors files; a pickle, if there is one, is named."""
    pickles = [name for name in names if PICKLES.fullmatch(name) and not _NOT_WEIGHTS.fullmatch(name)]
    if pickles:
        raise UserError("models.pickle", value=value, file=pickles[0])
    raise UserError("models.no_weights", value=value)


def list_files(repo: Hub, token: str | bool, owner: Owner | None) -> Listing | None:
    """Return the repository's files or, if the Hub cannot be reached, those that were downloaded before; None if there
    are none.

    Raises UserError if the Hub refuses: there is no such repository or revision, or not for this caller.
    """
    if not reach.reachable():
        return _downloaded_before(repo, owner)
    with reach.naming_scopes(owner):
        return _list_online(repo, token, owner)


def _list_online(repo: Hub, token: str | bool, owner: Owner | None) -> Listing | None:
    """Return the repository's files as a Hub that can be reached lists them; as `list_files`."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=reach.endpoint(), token=token)
    try:
        info = api.model_info(repo.repo_id, revision=repo.revision, files_metadata=True, timeout=10, token=token)
        if info.gated:
            api.auth_check(repo.repo_id, token=token)
    except HfHubHTTPError as error:
        left = _downloaded_before(repo, owner) if error.response.status_code >= 500 else None
        if left is None:
            raise _explain(error, str(repo)) from error
        return left
    except (httpx2.TransportError, ConnectionError):
        reach.mark_unreachable()
        return _downloaded_before(repo, owner)
    except ValueError as error:
        raise _explain(error, str(repo)) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    return Listing(repo, str(info.sha), sizes, _root(owner, bool(info.private or info.gated)), online=True)


def _explain(error: Exception, repo: str) -> UserError:
    """Return the UserError for an error that the Hub's client raised about a repository."""
    refusal = classify(error)
    key = key_of(refusal, _SENTENCES) if refusal is not None else None
    facts = {"value": repo, "endpoint": reach.endpoint(), "url": f"{reach.endpoint()}/{repo.partition('@')[0]}"}
    return UserError(key or "models.hub_lost", **facts, status=refusal.status if refusal is not None else None)


def download(
    listing: Listing, names: list[str], token: str | bool, progress: Report | None, stop: threading.Event | None
) -> Path:
    """Download the named files that are missing here, and return the snapshot's folder. Raises UserError."""
    missing = [name for name in names if not (listing.folder / name).is_file()]
    if missing and not listing.online:
        raise unreachable(listing.repo)
    if missing:
        check_room(listing.root, sum(listing.sizes[name] for name in missing), str(listing.repo))
        _download_missing(listing, missing, token, progress, stop)
    if listing.online:
        _remember_branch(listing)
    return listing.folder


def _download_missing(
    listing: Listing, names: list[str], token: str | bool, progress: Report | None, stop: threading.Event | None
) -> None:
    """Download in a separate thread: a stalled connection must not keep `stop` waiting."""
    import httpx2

    try:
        _wait(_in_thread(lambda: _snapshot(listing, names, token, progress, stop)), stop)
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise no_room(listing.root, sum(listing.sizes[name] for name in names), str(listing.repo)) from error
        raise _explain(error, str(listing.repo)) from error
    if any(not (listing.folder / name).is_file() for name in names):
        raise UserError("models.hub_lost", value=str(listing.repo), endpoint=reach.endpoint())


def _snapshot(
    listing: Listing, names: list[str], token: str | bool, progress: Report | None, stop: threading.Event | None
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        listing.repo.repo_id,
        revision=listing.commit,
        cache_dir=listing.root,
        endpoint=reach.endpoint(),
        token=token,
        allow_patterns=[re.sub(r"([*?\[])", r"[\1]", name) for name in names],
        tqdm_class=_meter(listing, names, progress, stop),
    )


def _in_thread(work: Callable[[], None]) -> "Future[None]":
    done: Future[None] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name=DOWNLOAD, daemon=True).start()
    return done


def _wait(done: "Future[None]", stop: threading.Event | None) -> None:
    while stop is not None and not done.done():
        if stop.wait(_TICK_SECONDS):
            raise UserError("models.stopped")
    done.result()


def _meter(listing: Listing, names: list[str], progress: Report | None, stop: threading.Event | None) -> Any:
    """Return a progress bar class that draws nothing, reports bytes and ends the download when `stop` is set."""
    from tqdm.std import tqdm

    text = say("models.downloading", value=str(listing.repo))
    total = sum(listing.sizes[name] for name in names)
    most = [0.0]

    class Meter(tqdm):
        monitor_interval = 0  # see core.runtime.no_bar_monitors; and a class of its own would get a thread of its own

        def __init__(self, *positional: Any, **named: Any) -> None:
            super().__init__(*positional, **{**named, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            if stop is not None and stop.is_set():
                raise UserError("models.stopped")
            drawn = super().update(n)
            if self.unit == "B" and self.n > most[0]:
                most[0] = self.n
                if progress is not None:
                    progress(Progress(text, min(int(self.n), total), total))
            return drawn

    return Meter


def _remember_branch(listing: Listing) -> None:
    """Record the commit of the branch, as huggingface_hub does, so that it is found without the Hub, too."""
    branch = listing.storage / "refs" / (listing.repo.revision or "main")
    if listing.repo.revision != listing.commit and (not branch.is_file() or branch.read_text() != listing.commit):
        write_file(branch, listing.commit)


def _downloaded_before(repo: Hub, owner: Owner | None) -> Listing | None:
    own = [] if owner is None or owner.local else [_root(owner, private=True)]
    for root in [*own, _root(owner, private=False)]:
        storage = _storage(root, repo)
        branch = storage / "refs" / (repo.revision or "main")
        commit = branch.read_text().strip() if branch.is_file() else repo.revision or ""
        folder = storage / "snapshots" / commit
        if commit and folder.is_dir():
            sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
            return Listing(repo, commit, sizes, root, online=False)
    return None


def _root(owner: Owner | None, private: bool) -> Path:
    if private and owner is not None and not owner.local:
        return owner.folder / "models"
    if private and settings.on_space():
        raise UserError("core.sign_in")
    return shared_cache()


def _storage(root: Path, repo: Hub) -> Path:
    return root / f"models--{repo.repo_id.replace('/', '--')}"


def check_room(folder: Path, needed: int, value: str) -> None:
    """Raise UserError if the disk under `folder` cannot take `needed` more bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed + _MARGIN:
        raise no_room(folder, needed, value)


def no_room(folder: Path, needed: int, value: str) -> UserError:
    """Return the error for a full disk."""
    free = megabytes(shutil.disk_usage(folder).free)
    return UserError("models.no_room", value=value, needed=megabytes(needed), free=free, folder=folder)


def megabytes(count: int) -> str:
    """Return a number of bytes for people: "538 MB"."""
    return f"{count / 1e6:,.0f} MB"


def unreachable(repo: Hub) -> UserError:
    """Return the error for a repository that is not here while the Hub cannot be reached; it says what was tried."""
    tried = "models.tried_offline" if settings.hub_offline() else "models.tried"
    return UserError(
        "models.unreachable",
        value=str(repo),
        endpoint=reach.endpoint(),
        standin=settings.STANDIN,
        tried=say(tried, cache=shared_cache(), seconds=int(reach.PROBE_SECONDS)),
    )


def shared_cache() -> Path:
    """Return the folder in which huggingface_hub stores what everybody may read (`HF_HOME`)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def complete(folder: Path) -> bool:
    """Return whether all weights of a model folder are there: an interrupted download leaves some out."""
    if (folder / "model.safetensors").is_file():
        return True
    shards = fingerprint.shards(folder)
    return bool(shards) and all(path.is_file() for path in shards)
