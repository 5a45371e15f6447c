"""From a reference to files that can be loaded: find, download and check them.

source = locate("HuggingFaceTB/SmolLM2-135M-Instruct", owner)
loaded = Shelf().get(source, "float32")
"""

import threading
from pathlib import Path

from core import settings
from core.errors import UserError
from core.references import Base, Folder, Hub, Run, StandIn, parse, resolve
from core.workspace import Owner
from inference.models import fallback_model, hub_files
from inference.models.adapters import (
    base_of,
    check_adapter_base,
    download_adapter,
    mixable,
    read_adapter,
    read_adapter_config,
)
from inference.models.cache import Shelf
from inference.models.loading import Loaded, load, load_tokenizer
from inference.models.model_config import check_config, describe
from inference.models.types import AdapterFiles, Fetched, Progress, Report, Source

__all__ = [
    "AdapterFiles",
    "Fetched",
    "Loaded",
    "Progress",
    "Report",
    "Shelf",
    "Source",
    "check_adapter_base",
    "fetch",
    "fetch_adapter",
    "load",
    "load_tokenizer",
    "locate",
    "locate_tokenizer",
    "mixable",
]


def fetch(
    base: Base,
    token: str | bool,
    *,
    owner: Owner | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> Fetched:
    """Bring a base model's files to the disk: configuration, tokenizer and safetensors, at one commit.

    If the Hub cannot be reached, the files on the disk are used; for the default model its stand-in. `owner` keeps
    private and gated models separate if several people share the machine. Raises UserError: unreachable, no such
    repository or revision, gated, pickles only, not a causal language model, no room, damaged; "models.stopped" once
    `stop` is set.
    """
    if isinstance(base, Hub):
        listing = hub_files.list_files(base, token, owner)
        if listing is None or (not listing.online and not _whole(listing)):
            return _without_hub(base, progress, stop)
        return _fetch_listing(listing, token, progress, stop)
    if isinstance(base, StandIn):
        return _fetch_stand_in(settings.STANDIN, progress, stop)
    return _fetch_folder(base)


def _whole(listing: hub_files.Listing) -> bool:
    return "config.json" in listing.sizes and hub_files.complete(listing.folder)


def _without_hub(base: Hub, progress: Report | None, stop: threading.Event | None) -> Fetched:
    if base.repo_id == settings.DEFAULT_MODEL and base.revision is None:
        return _fetch_stand_in(str(base), progress, stop)
    raise hub_files.unreachable(base)


def _fetch_stand_in(requested: str, progress: Report | None, stop: threading.Event | None) -> Fetched:
    folder = fallback_model.make(progress=progress, stop=stop)
    return describe(folder, requested=requested, name=settings.STANDIN, stand_in=True)


def _fetch_folder(base: Folder) -> Fetched:
    names = sorted(path.name for path in base.path.iterdir())
    if "adapter_config.json" in names:
        raise _is_adapter(read_adapter_config(base.path, str(base)))
    if "config.json" not in names:
        raise UserError("models.no_config", value=str(base))
    check_config(base.path, str(base))
    if not hub_files.weight_names(names, base.path):
        hub_files.refuse_pickles(names, str(base))
    stand_in = (base.path / fallback_model.MARK).is_file()
    return describe(base.path, requested=str(base), name=str(base), stand_in=stand_in)


def _fetch_listing(
    listing: hub_files.Listing, token: str | bool, progress: Report | None, stop: threading.Event | None
) -> Fetched:
    """Download a base model, small files first: what cannot be used is refused before its weights are downloaded.

    A base with an adapter in it is refused, too: transformers would apply the adapter unasked.
    """
    value, names = str(listing.repo), sorted(listing.sizes)
    if "adapter_config.json" in names:
        raise _is_adapter(
            read_adapter_config(hub_files.download(listing, hub_files.small_files(listing), token, None, stop), value)
        )
    if "config.json" not in names:
        raise UserError("models.no_config", value=value)
    folder = hub_files.download(listing, hub_files.small_files(listing), token, progress, stop)
    check_config(folder, value)
    weights = hub_files.weight_names(names, folder)
    if not weights:
        hub_files.refuse_pickles(names, value)
    hub_files.download(listing, weights, token, progress, stop)
    return describe(folder, requested=value, name=listing.repo.repo_id, revision=listing.commit)


def _holds_adapter(folder: Folder) -> bool:
    return (folder.path / "adapter_config.json").is_file()


def _is_adapter(adapter: AdapterFiles) -> UserError:
    return UserError("models.is_adapter", value=adapter.name, base=adapter.base_name)


def fetch_adapter(
    adapter: Hub | Folder,
    token: str | bool,
    *,
    owner: Owner | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> AdapterFiles:
    """Bring an adapter's files to the disk. Raises UserError; pickled weights are refused by name."""
    if isinstance(adapter, Folder):
        return read_adapter(adapter.path, str(adapter))
    listing = hub_files.list_files(adapter, token, owner)
    if listing is None:
        raise hub_files.unreachable(adapter)
    return download_adapter(listing, token, progress, stop)


def locate(
    reference: str,
    owner: Owner,
    *,
    adapter: str | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> Source:
    """Turn what a person typed into files that can be loaded, with the owner's token and rights.

    `reference` may be a base, a run, a folder or an adapter (its base is read from its configuration); `adapter` names
    one to put on a base. Raises UserError, also if an adapter was trained on another base.
    """
    source = _locate(reference, owner, progress, stop)
    if adapter is not None:
        if source.adapter is not None:
            raise UserError("models.two_adapters", value=reference, adapter=adapter)
        source = _with_adapter(source.base, adapter, owner, progress, stop)
    if source.adapter is not None:
        check_adapter_base(source.adapter.folder, source.base, source.adapter.name)
    return source


def _locate(text: str, owner: Owner, progress: Report | None, stop: threading.Event | None) -> Source:
    reference = parse(text, owner)
    resolved = resolve(reference, owner)
    if isinstance(resolved.base, Hub) and resolved.adapter is None:
        listing = hub_files.list_files(resolved.base, owner.token, owner)
        if listing is not None and "adapter_config.json" in listing.sizes:
            found = download_adapter(listing, owner.token, progress, stop)
            return Source(fetch(base_of(found), owner.token, owner=owner, progress=progress, stop=stop), found)
    title = reference.id if isinstance(reference, Run) else ""
    base = fetch(resolved.base, owner.token, owner=owner, progress=progress, stop=stop)
    if resolved.adapter is None:
        return Source(base, title=title)
    return Source(base, fetch_adapter(resolved.adapter, owner.token, owner=owner), title)


def _with_adapter(
    base: Fetched, text: str, owner: Owner, progress: Report | None, stop: threading.Event | None
) -> Source:
    reference = parse(text, owner)
    if isinstance(reference, Hub) or (isinstance(reference, Folder) and _holds_adapter(reference)):
        return Source(base, fetch_adapter(reference, owner.token, owner=owner, progress=progress, stop=stop))
    adapter = resolve(reference, owner).adapter
    if adapter is None:
        raise UserError("models.not_an_adapter", value=text)
    title = reference.id if isinstance(reference, Run) else ""
    return Source(base, fetch_adapter(adapter, owner.token, owner=owner), title)


def locate_tokenizer(
    reference: str, owner: Owner, *, progress: Report | None = None, stop: threading.Event | None = None
) -> Path:
    """Return the folder of a model's tokenizer (for `load_tokenizer`) without downloading its weights. Raises
    UserError.

    An adapter's own tokenizer takes precedence over its base's.
    """
    resolved = resolve(parse(reference, owner), owner)
    if isinstance(resolved.adapter, Folder) and (resolved.adapter.path / "tokenizer_config.json").is_file():
        return resolved.adapter.path
    return _tokenizer_folder(resolved.base, owner, progress, stop, may_be_adapter=resolved.adapter is None)


def _tokenizer_folder(
    base: Base, owner: Owner, progress: Report | None, stop: threading.Event | None, *, may_be_adapter: bool
) -> Path:
    """Return the folder of the tokenizer. For an adapter without one, its base is searched next; a base that is an
    adapter itself is refused."""
    if isinstance(base, Folder):
        return base.path
    listing = hub_files.list_files(base, owner.token, owner) if isinstance(base, Hub) else None
    if listing is None:
        return fetch(base, owner.token, owner=owner, progress=progress, stop=stop).folder
    folder = hub_files.download(listing, hub_files.small_files(listing), owner.token, progress, stop)
    if "adapter_config.json" not in listing.sizes or (may_be_adapter and "tokenizer_config.json" in listing.sizes):
        return folder
    adapter = read_adapter_config(folder, str(listing.repo))
    if not may_be_adapter:
        raise _is_adapter(adapter)
    return _tokenizer_folder(base_of(adapter), owner, progress, stop, may_be_adapter=False)
