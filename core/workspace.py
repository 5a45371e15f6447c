"""Owners and their folders: `<home>/<owner>/datasets/<id>/`, `<home>/<owner>/runs/<id>/`."""

import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from core import settings
from core.errors import UserError

RUN_ID = re.compile(r"r\d{8}-\d{6}-[0-9a-f]{4}")
DATASET_ID = re.compile(r"[0-9a-f]{12,64}")
OWNER_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Owner:
    """The person whose datasets, runs and prompt sets these are.

    `key` names their folder: "local" on a laptop, the OAuth `sub` on a Space. `token` is their Hub access token or
    False (never None, which would fall back to the process's own). `expires` is when the token expires (unix seconds)
    and `scopes` its access scopes, both None if not known, as with a person's own token.
    """

    key: str
    token: str | bool = False
    name: str = ""
    expires: float | None = None
    scopes: frozenset[str] | None = None

    def __post_init__(self) -> None:
        assert OWNER_KEY.fullmatch(self.key), "owner keys come from the program or the OAuth provider"

    def __repr__(self) -> str:
        return f"Owner({self.key!r})"

    @property
    def local(self) -> bool:
        """Whether this is the one person of a laptop, who may also use folders of the machine."""
        return self.key == "local" and not settings.on_space()

    @property
    def folder(self) -> Path:
        return settings.home() / self.key

    @property
    def datasets(self) -> Path:
        return self.folder / "datasets"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def prompt_sets(self) -> Path:
        return self.folder / "prompt-sets"


def local_owner() -> Owner:
    """Return the one owner of a laptop, with the Hub token they are logged in with, if any.

    Raises UserError on a Space, where nobody has local rights.
    """
    if settings.on_space():
        raise UserError("core.sign_in")
    from huggingface_hub import get_token

    return Owner("local", get_token() or False)


def new_run_id() -> str:
    """Return a new run id, sortable by time: `r20261123-181502-3fa9`."""
    return time.strftime("r%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def dataset_folder(owner: Owner, dataset_id: str) -> Path:
    """Return the folder of one of the owner's datasets, by its id or a unique prefix of it (12 characters or more)."""
    if not DATASET_ID.fullmatch(dataset_id):
        raise UserError("core.dataset_id", value=dataset_id[:80])
    found = sorted(owner.datasets.glob(f"{dataset_id}*"))
    if len(found) != 1:
        raise UserError("core.no_dataset", value=dataset_id)
    return found[0]


def run_folder(owner: Owner, run_id: str) -> Path:
    """Return the folder of one of the owner's runs, by its id."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError("core.run_id", value=run_id[:80])
    folder = owner.runs / run_id
    if not (folder / "config.yaml").is_file():
        raise UserError("core.no_run", value=run_id)
    return folder
