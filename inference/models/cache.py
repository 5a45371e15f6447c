"""A cache of a few loaded models, so that the next comparison need not load them again."""

import gc
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from inference.models import loading
from inference.models.adapters import keeps_base
from inference.models.loading import Loaded
from inference.models.types import Source

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


class Key(NamedTuple):
    """What identifies a loaded model. A folder's content may change: `fingerprint` is that of the base's weights,
    `adapter_state` (size in bytes, time in nanoseconds) of each file of the adapter."""

    base: Path
    fingerprint: str
    adapter: Path | None
    adapter_state: tuple[tuple[int, int], ...]
    dtype: str
    device: str


class Shelf:
    """Up to `places` loaded models within `memory` bytes and the free memory of their device. Thread-safe.

    The least recently used model is evicted.

    A base and the tuned models on it share one copy of the base's weights if the adapter leaves them unchanged. Models
    are identified by their folders: what somebody's token opened is in a separate folder. A model that is evicted while
    in use lives on until it is released.
    """

    def __init__(self, places: int = 4, memory: int | None = None) -> None:
        self.places = places
        self.memory = memory
        self._lock = threading.Lock()
        self._models: OrderedDict[Key, Future[Loaded]] = OrderedDict()

    def get(self, source: Source, dtype: str | None = None, device: str | None = None) -> Loaded:
        """Return the loaded model, from the cache or from the disk; callers that request one that is being loaded wait
        for it.

        Raises UserError as `load` does, to every waiting caller.
        """
        device = loading.choose_device(device)
        dtype = loading.choose_dtype(dtype, device)
        key = _key(source, dtype, device)
        with self._lock:
            waiting = self._models.get(key)
            if waiting is not None:
                self._models.move_to_end(key)
            else:
                mine: Future[Loaded] = Future()
                self._models[key] = mine
        if waiting is not None:
            return waiting.result()
        return self._fill(key, mine, source)

    def clear(self) -> None:
        """Drop all models."""
        with self._lock:
            self._models.clear()

    def __len__(self) -> int:
        return len(self._models)

    def _fill(self, key: Key, future: "Future[Loaded]", source: Source) -> Loaded:
        try:
            loaded = self._load(source, key.dtype, key.device)
        except BaseException as error:
            with self._lock:
                self._models.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(loaded)
        self._make_room(0, key.device, keep=key)
        return loaded

    def _load(self, source: Source, dtype: str, device: str) -> Loaded:
        if source.adapter is None or not keeps_base(source.adapter.config):
            self._make_room(loading.needed_memory(source.base, dtype), device)
            return loading.load(source, dtype, device)
        base = self.get(Source(source.base), dtype, device)
        model = loading.put_adapter(loading.twin(base.model), source.adapter)
        return loading.finish(model, source, dtype, device)

    def _make_room(self, coming: int, device: str, keep: Key | None = None) -> None:
        """Evict models, the least recently used first, until the rest and `coming` bytes fit."""
        with self._lock:
            while goes := self._in_the_way(coming, device, keep):
                del self._models[goes[0]]
                _give_back_memory()

    def _in_the_way(self, coming: int, device: str, keep: Key | None) -> list[Key]:
        """Return the models that can be evicted, in order, while some have to be."""
        done = [key for key, future in self._models.items() if future.done() and key != keep]
        if self._too_full(coming):
            return done
        there = [key for key in done if key.device == device]
        return there if there and coming > loading.free_memory(device) else []

    def _too_full(self, coming: int) -> bool:
        held = [future.result().model for future in self._models.values() if future.done() and not future.exception()]
        return len(self._models) > self.places or _bytes(held) + coming > self._bound()

    def _bound(self) -> int:
        if self.memory is None:
            import psutil

            self.memory = psutil.virtual_memory().total // 2
        return self.memory


def _key(source: Source, dtype: str, device: str) -> Key:
    adapter = source.adapter.folder if source.adapter else None
    state = tuple(_state(adapter / name) for name in _ADAPTER_FILES) if adapter else ()
    return Key(source.base.folder, source.base.fingerprint, adapter, state, dtype, device)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def _give_back_memory() -> None:
    """Free the memory of models that are no longer referenced."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _bytes(models: list[Any]) -> int:
    """Return the bytes of the weights of several models, shared ones counted once."""
    tensors = {id(tensor): tensor for model in models for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
