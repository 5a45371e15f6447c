"""Turns a string that a person typed into a reference, once, or refuses it.

It is never handed to `from_pretrained`, `load_dataset` or `open` as typed: those open a local folder when the string
happens to be one.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from core import settings
from core.errors import UserError
from core.files import read_json
from core.workspace import DATASET_ID, RUN_ID, Owner, dataset_folder, run_folder

_REPO = re.compile(
    r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9](?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?",
    re.ASCII,
)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face Hub, at a revision (its newest where None)."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo_id + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class StandIn:
    """The small model that is used if the Hub cannot be reached."""

    def __str__(self) -> str:
        return settings.STANDIN


@dataclass(frozen=True)
class Run:
    """One of the owner's own runs."""

    id: str

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Data:
    """One of the owner's own datasets."""

    id: str

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Folder:
    """A folder of this machine with a model or an adapter; never on a Space."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Reference = Hub | StandIn | Run | Data | Folder
Base = Hub | StandIn | Folder


@dataclass(frozen=True)
class Resolved:
    """Where a model's weights come from: a base and, for a tuned one, its adapter on top."""

    base: Base
    adapter: Hub | Folder | None = None


def parse(text: str, owner: Owner) -> Reference:
    """Read what a person typed: a Hub repository (`name/model` or `name/model@revision`), a run's or dataset's id,
    the stand-in's name or, for a local owner, a folder (a path that starts with `/`, `./` or `~`).

    A repository's name follows the Hub's own rules (huggingface_hub, `validate_repo_id`). Raises UserError for anything
    else; touches the disk only to look at a local owner's folder.
    """
    text = text.strip()
    if text == settings.STANDIN:
        return StandIn()
    if RUN_ID.fullmatch(text):
        return Run(text)
    if DATASET_ID.fullmatch(text):
        return Data(text)
    if text.startswith(("/", ".", "~")):
        return _folder(text, owner)
    repo_id, _, revision = text.partition("@")
    if not _REPO.fullmatch(repo_id) or (revision and not _REVISION.fullmatch(revision)):
        raise UserError("core.reference", value=text[:80])
    return Hub(repo_id, revision or None)


def _folder(text: str, owner: Owner) -> Folder:
    if not owner.local or ".." in Path(text).parts or "\\" in text:
        raise UserError("core.reference", value=text[:80])
    try:
        path = Path(text).expanduser().resolve()
        known = any((path / name).is_file() for name in ("config.json", "adapter_config.json", "config.yaml"))
    except (OSError, ValueError, RuntimeError):
        raise UserError("core.not_a_model_folder", value=text[:80]) from None
    if path.is_relative_to(settings.home().resolve()) and not path.is_relative_to(owner.folder.resolve()):
        raise UserError("core.reference", value=text[:80])
    if not known:
        raise UserError("core.not_a_model_folder", value=text[:80])
    return Folder(path)


def resolve(reference: Reference, owner: Owner) -> Resolved:
    """Find the base and the adapter behind a reference to a model.

    A run stands for its result (`model/`), an adapter for itself on the base that it names. A Hub repository is taken
    for a base here: whether it is an adapter is known when its files are listed. Raises UserError for a dataset, for a
    run without a result, and for files that cannot be read.
    """
    if isinstance(reference, Data):
        raise UserError("core.not_a_model", value=str(reference))
    if isinstance(reference, Run):
        return _run_result(run_folder(owner, reference.id), owner)
    if isinstance(reference, Folder) and (reference.path / "adapter_config.json").is_file():
        return Resolved(named_base(reference.path, owner), reference)
    if isinstance(reference, Folder) and not (reference.path / "config.json").is_file():
        return _run_result(reference.path, owner)
    return Resolved(reference)


def named_base(adapter: Path, owner: Owner, name: str = "") -> Base:
    """Return the base model that an adapter names, as far as `owner` may open it. Raises UserError.

    An adapter that was trained on the stand-in says so in its `tunescope.json`; its `adapter_config.json` names the
    original.
    """
    record = _read_object(adapter / "tunescope.json") if (adapter / "tunescope.json").is_file() else {}
    if settings.STANDIN in (record.get("stand_in"), record.get("base")):
        return StandIn()
    config = _read_object(adapter / "adapter_config.json")
    text, revision = str(config.get("base_model_name_or_path") or ""), config.get("revision")
    try:
        base = _base(text, owner)
        return _base(f"{base.repo_id}@{revision}", owner) if isinstance(base, Hub) and revision else base
    except UserError:
        raise UserError("core.adapter_base", value=name or str(adapter), base=text[:80]) from None


def _run_result(run: Path, owner: Owner) -> Resolved:
    model = run / "model"
    if (model / "adapter_config.json").is_file():
        return Resolved(_recorded_base(run, owner), Folder(model))
    if (model / "config.json").is_file():
        return Resolved(Folder(model))
    raise UserError("core.run_without_model", value=run.name)


def _recorded_base(run: Path, owner: Owner) -> Base:
    """Return the base model that the run was really trained on: the stand-in may have been used instead of the
    configured one."""
    env = run / "env.json"
    recorded = _read_object(env).get("base") if env.is_file() else None
    return _base(str(recorded or _configured_model(run / "config.yaml")), owner)


def _configured_model(path: Path) -> str:
    try:
        return str(yaml.safe_load(path.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError("core.damaged", file=path.name, folder=path.parent) from error


def _read_object(path: Path) -> dict:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError("core.damaged", file=path.name, folder=path.parent) from error


def _base(text: str, owner: Owner) -> Base:
    reference = parse(text, owner)
    if isinstance(reference, Run | Data):
        raise UserError("core.not_a_base", value=text)
    return reference


def dataset(reference: Reference, owner: Owner) -> Path:
    """Return the folder of a dataset of the owner. Raises UserError for a reference to anything else."""
    if not isinstance(reference, Data):
        raise UserError("core.not_a_dataset", value=str(reference))
    return dataset_folder(owner, reference.id)
