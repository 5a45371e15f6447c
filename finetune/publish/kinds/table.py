"""The table of kinds, and how each is built: priced, written under another name, moved into place."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import UserError
from core.files import folder_size
from core.words import say
from core.workspace import Owner
from finetune.data.store import Dataset
from finetune.publish.formats.build_folder import BuildProgress, built_folder
from finetune.publish.kinds import adapter, dataset, gguf, merged_model, presets, space
from finetune.publish.kinds.options import Options
from finetune.publish.kinds.request import Cost, PreparedBuild, Request
from finetune.runs.run import Run
from inference.models.types import Report

RepoType = Literal["model", "dataset", "space"]


@dataclass(frozen=True)
class Kind:
    """One kind of thing that can be published. `subject` is what it is made from, `repo_type` the type of its
    repository; `prepare` checks a request and returns the build with its price. `samples`: whether its card shows
    texts."""

    key: str
    repo_type: RepoType
    prepare: Callable[[Request], PreparedBuild]
    subject: Literal["run", "dataset"] = "run"
    samples: bool = True

    @property
    def title_key(self) -> str:
        return f"kinds.title.{self.key}"

    @property
    def help_key(self) -> str:
        return f"kinds.about.{self.key}"


KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind("adapter", "model", adapter.prepare),
        Kind("merged", "model", merged_model.prepare),
        Kind("gguf", "model", gguf.prepare),
        Kind("presets", "model", presets.prepare),
        Kind("dataset", "dataset", dataset.prepare, subject="dataset", samples=False),
        Kind("space", "space", space.prepare, samples=False),
    )
}


@dataclass(frozen=True)
class BuiltKind:
    """What was built: `folder` holds the files as they will be in the repository, `facts` are for card and verification
    (always `files`: their sizes by path, and `size`: all of them in bytes; of models `comparisons`: what was loaded
    back, against what, and the distance, see `logit_check.Distance`)."""

    kind: str
    repo_type: RepoType
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)


def cost(
    kind: str,
    subject: Run | Dataset,
    owner: Owner,
    options: Options | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> Cost:
    """Return which files would be made and how much disk that takes, before anything is written. Raises as `build`
    does."""
    return _prepared(kind, subject, owner, options, progress, stop).cost


def build(
    kind: str,
    subject: Run | Dataset,
    owner: Owner,
    folder: Path,
    options: Options | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> BuiltKind:
    """Make the files of a kind in `folder`, complete or not at all; what was there before is replaced.

    Raises UserError: no such kind, a run that is not done, what this kind cannot do, no disk space, "kinds.stopped".
    """
    prepared = _prepared(kind, subject, owner, options, progress, stop)
    build_progress = BuildProgress(prepared.cost.written, progress, stop)
    with built_folder(folder, prepared.cost.disk, kind) as part:
        facts = prepared.write(part, build_progress)
        files = {
            path.relative_to(part).as_posix(): path.stat().st_size for path in sorted(part.rglob("*")) if path.is_file()
        }
        facts |= {"files": files, "size": folder_size(part)}
        build_progress.text = say("kinds.built", kind=say(KINDS[kind].title_key))
        build_progress.add(build_progress.total)
    return BuiltKind(kind, KINDS[kind].repo_type, folder, facts)


def _prepared(
    kind: str,
    subject: Run | Dataset,
    owner: Owner,
    options: Options | None,
    progress: Report | None,
    stop: threading.Event | None,
) -> PreparedBuild:
    entry = KINDS.get(kind)
    if entry is None:
        raise UserError("kinds.unknown", value=str(kind)[:40], known=", ".join(KINDS))
    if (entry.subject == "run") != isinstance(subject, Run):
        raise UserError("kinds.wrong_subject", kind=say(entry.title_key), subject=say(f"kinds.subject.{entry.subject}"))
    return entry.prepare(Request(subject, owner, options or Options(), progress, stop))
