"""The order of the Publish tab, and its preview: files built in a temporary folder, and the plan of the push."""

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.publish.card.facts import Sample
from finetune.publish.card.samples import samples_of
from finetune.publish.kinds import KINDS, BuiltKind, Options, build
from finetune.publish.plan import PushPlan, prepare
from finetune.publish.repo import remote
from finetune.publish.repo.destination import destination
from finetune.runs.run import Run, find
from inference.compare.record import record_of
from ui.compare.last_comparison import comparisons
from ui.parts import job as work
from ui.web.handler import Caller

if TYPE_CHECKING:
    from finetune.data.store import Dataset

KEPT = 16
_SCRATCH, _STALE_SECONDS = ".publish-", 24 * 3600
_WRITTEN_LAST = ("README.md", remote.MANIFEST)


@dataclass(frozen=True)
class Order:
    """The values of the tab's fields, by their names."""

    kind: str
    run: str | None
    dataset: str | None
    repo: str
    visibility: str
    branch: str
    pull_request: bool
    license: str
    columns: str
    types: tuple[str, ...]
    shows: str
    samples: bool

    @classmethod
    def typed(cls, kind: Any, **values: Any) -> "Order":
        """Make an order from the values of the fields; one that is not given is empty. Raises UserError for an unknown
        kind."""
        if kind not in KINDS:
            raise UserError("kinds.unknown", value=str(kind)[:40], known=", ".join(KINDS))
        texts = {
            name: str(values.get(name) or "").strip() for name in ("repo", "branch", "license", "columns", "shows")
        }
        return cls(
            kind,
            run=values.get("run") or None,
            dataset=values.get("dataset") or None,
            visibility=values.get("visibility") or "",
            pull_request=bool(values.get("pull_request")),
            types=tuple(map(str, values.get("types") or ())),
            samples=bool(values.get("samples")) and KINDS[kind].samples,
            **texts,
        )

    def subject(self, owner: Owner) -> "Run | Dataset":
        """Return the run, or the dataset, that is published. Raises UserError if none is chosen."""
        if KINDS[self.kind].subject == "dataset":
            from finetune.data.store import open_dataset

            if not self.dataset:
                raise UserError("publishing.choose_dataset")
            return open_dataset(dataset_folder(owner, self.dataset))
        if not self.run:
            raise UserError("publishing.choose_run")
        return find(self.run, owner)

    def options(self) -> Options:
        """Return the options that the kinds read."""
        lines = tuple(line.strip() for line in self.columns.splitlines() if line.strip())
        return Options(
            license=self.license or None,
            repo_id=self.shows or None,
            columns=lines,
            types=self.types,
            name=self.repo.rpartition("/")[2] or None,
        )

    def texts(self, subject: "Run | Dataset", caller: Caller) -> tuple[Sample, ...]:
        """Return the run's texts in the browser tab's last comparison, if samples were asked for. Raises UserError if
        there is no comparison, or none of its columns is the run's."""
        if not self.samples or not isinstance(subject, Run):
            return ()
        compared = comparisons.find(caller)
        if compared is None:
            raise UserError("publishing.no_comparison", run=subject.id)
        return samples_of(record_of(compared.request, compared.result), subject, say("publishing.last_comparison"))

    def plan(
        self,
        subject: "Run | Dataset",
        owner: Owner,
        built: BuiltKind | None,
        samples: tuple[Sample, ...] = (),
        card: str | None = None,
    ) -> PushPlan:
        """Return what a push would do now; `card` replaces the generated one, which shows the `samples`."""
        return prepare(
            subject,
            self.repo,
            owner,
            private=self.visibility != "public",
            built=built,
            branch=self.branch or None,
            pull_request=self.pull_request,
            license=self.license or None,
            card=card,
            samples=samples,
        )


def is_full(run: Run) -> bool:
    """Return whether the run trained every weight, so that its result is a full model and no adapter."""
    return run.model.is_dir() and not (run.model / "adapter_config.json").is_file()


def _made_already(kind: str, subject: "Run | Dataset") -> bool:
    """Return whether the kind is the run's own result. Raises UserError for the adapter of a run that has none."""
    if not isinstance(subject, Run):
        return False
    if kind == "adapter" and is_full(subject):
        raise UserError("kinds.no_adapter", run=subject.id)
    return kind == "adapter" or (kind == "merged" and is_full(subject))


@dataclass
class Preview:
    """A previewed push. `samples` are the texts that the card shows, whatever is compared later; `scratch` is the
    temporary folder of the built files and is deleted with the preview."""

    order: Order
    plan: PushPlan
    samples: tuple[Sample, ...] = ()
    built: BuiltKind | None = None
    scratch: TemporaryDirectory | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def again(self, order: Order, owner: Owner, card: str | None) -> PushPlan:
        """Return the plan as it is now, with the card as the person left it. Raises UserError if anything else
        changed."""
        if order != self.order:
            raise UserError("publishing.look_again")
        edited = card if card is not None and card != self.plan.card else None
        plan = order.plan(self.plan.run, owner, self.built, self.samples, edited)
        if fixed(plan) != fixed(self.plan) or (edited is None and plan.card != self.plan.card):
            raise UserError("publishing.look_again")
        return plan


def fixed(plan: PushPlan) -> list[str]:
    """Return what must not change between preview and push: target, visibility, published commit, every file but the
    card."""
    seen = [plan.run.id, plan.kind, plan.repo_id, str(plan.to.branch), str(plan.private), str(plan.found.commit)]
    return [*seen, *(file.sha256 for file in plan.files if file.path not in _WRITTEN_LAST)]


def look(order: Order, caller: Caller, job: work.Job) -> Preview:
    """Check texts and destination, build the files, then make the plan. Nothing is sent."""
    job.report(None)
    owner = caller.owner
    subject = order.subject(owner)
    made = _made_already(order.kind, subject)
    samples = order.texts(subject, caller)
    to = destination(order.repo, owner, KINDS[order.kind].repo_type, order.branch or None, order.pull_request)
    remote.greet(to, owner)
    if made:
        return Preview(order, order.plan(subject, owner, None, samples), samples)
    _sweep(subject.folder)
    scratch = TemporaryDirectory(dir=subject.folder, prefix=_SCRATCH, ignore_cleanup_errors=True)
    files = Path(scratch.name) / "files"
    built = build(order.kind, subject, owner, files, order.options(), job.report, job.stop)
    return Preview(order, order.plan(subject, owner, built, samples), samples, built, scratch)


def _sweep(where: Path) -> None:
    """Remove what previews left that were killed more than a day ago."""
    for folder in where.glob(f"{_SCRATCH}*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


_previews: OrderedDict[tuple[str, str], Preview] = OrderedDict()
_lock = threading.Lock()


def keep(caller: Caller, preview: Preview) -> None:
    """Keep the newest preview of each browser tab, and only the newest few of those."""
    with _lock:
        _previews[caller.owner.key, caller.session] = preview
        _previews.move_to_end((caller.owner.key, caller.session))
        while len(_previews) > KEPT:
            _previews.popitem(last=False)


def kept(caller: Caller, seen: str | None = None) -> Preview | None:
    """Return the browser tab's preview; with `seen` only if it is that one."""
    preview = _previews.get((caller.owner.key, caller.session))
    return preview if preview is not None and seen in (None, preview.id) else None


def forget(caller: Caller) -> None:
    """Discard the browser tab's preview and the files built for it."""
    with _lock:
        _previews.pop((caller.owner.key, caller.session), None)
