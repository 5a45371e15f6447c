"""A private dataset repository of the Hub as the place of the copies: one commit per item, so no item is incomplete."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.hub import retries
from core.hub.errors import in_words
from core.workspace import Owner
from finetune.backup.place import Content, content_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SMALL = 4 * 2**20
_TYPE = "dataset"


class RepositoryPlace:
    """A repository that belongs to the operator of the app; visitors' tokens are never used for it."""

    every = 300.0

    def __init__(self, repo_id: str, token: str) -> None:
        self.repo_id, self.name = repo_id, f"hf://datasets/{repo_id}"
        self._keeper = Owner("keeper", token)
        self._token = token
        self._commit: str | None = None

    def open(self) -> set[str]:
        """Create the repository if it does not exist. Raises UserError also where others can read it."""
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        with in_words(self.repo_id, self._keeper):
            api = self._api()
            try:
                info = retries.again(lambda: api.dataset_info(self.repo_id, token=self._token))
            except RepositoryNotFoundError:
                api.create_repo(self.repo_id, private=True, repo_type=_TYPE, token=self._token)
                info = retries.again(lambda: api.dataset_info(self.repo_id, token=self._token))
            if not info.private:
                raise UserError("keep.public", place=self.name)
            self._commit = str(info.sha)
            return set(retries.again(self._names))

    def add(self, files: Mapping[str, Content], manifest: tuple[str, bytes], gone: set[str]) -> None:
        from huggingface_hub import CommitOperationAdd

        with in_words(self.repo_id, self._keeper):
            added = [CommitOperationAdd(name, _given(source)) for name, source in files.items()]
            self._commit_all([*added, CommitOperationAdd(*manifest)], sorted(gone))

    def remove(self, names: list[str]) -> None:
        with in_words(self.repo_id, self._keeper):
            if names:
                self._commit_all([], names)

    def fetch(self, name: str, path: Path) -> None:
        with in_words(self.repo_id, self._keeper), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            shutil.move(retries.again(lambda: self._download(name, scratch)), path)

    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi

        from core.hub import reach

        retries.limit_time()
        return HfApi(endpoint=reach.endpoint(), token=self._token)

    def _commit_all(self, added: list[Any], gone: list[str]) -> None:
        from huggingface_hub import CommitOperationDelete

        operations = [*added, *(CommitOperationDelete(name, is_folder=False) for name in gone)]
        message = "Keep a copy" if added else "Remove a copy"
        self._api().create_commit(self.repo_id, operations, commit_message=message, repo_type=_TYPE, token=self._token)

    def _names(self) -> list[str]:
        return self._api().list_repo_files(self.repo_id, revision=self._commit, repo_type=_TYPE, token=self._token)

    def _download(self, name: str, folder: str) -> str:
        return self._api().hf_hub_download(
            self.repo_id, name, repo_type=_TYPE, revision=self._commit, token=self._token, local_dir=folder
        )


def _given(source: Content) -> bytes | Path:
    """Return what the client uploads: the current content of a file that may change meanwhile, the path of any
    other."""
    if isinstance(source, bytes) or source.grows or source.size <= _SMALL:
        return content_of(source)
    return source.path
