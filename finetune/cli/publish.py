"""`python -m finetune publish RUN REPO`: preview, progress and verification on stderr, the link on stdout."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.publish.card.facts import Sample
from finetune.publish.card.samples import samples_of
from finetune.publish.plan import PushPlan, prepare
from finetune.publish.proof.in_card import keep_in_card
from finetune.publish.proof.proof import Proof, prove, read_proof
from finetune.publish.push import push
from finetune.publish.repo.records import PushResult
from finetune.runs.run import Run, find
from inference.compare.record import read_record
from inference.models.types import Progress

if TYPE_CHECKING:
    from finetune.data.store import Dataset
    from finetune.publish.kinds import BuiltKind

_BAD_INPUT = 2
_FAILED = 1
_NOT_THE_INPUT = (
    "publish.unreachable",
    "publish.offline",
    "publish.hub_broken",
    "publish.slow_down",
    "publish.strange",
)
_FOLDER = "publish"


@dataclass(frozen=True)
class PublishArguments:
    """The arguments of the command: what to publish of `which` (a run, or a dataset), and where to.

    `yes` confirms a push to a repository that holds something else, or was changed by somebody. `what` None is a run's
    own result.
    """

    which: str
    repo_id: str
    public: bool = False
    yes: bool = False
    what: str | None = None
    branch: str | None = None
    pull_request: bool = False
    license: str | None = None
    card: Path | None = None
    model_repo: str | None = None
    presets: tuple[str, ...] = ()
    samples: Path | None = None


def publish_command(run_text: str, repo_id: str, public: bool, yes: bool, owner: Owner, **more: Any) -> int:
    """Publish a run, or what is made from it. `more` are fields of `PublishArguments`.

    Returns the exit code: 0 published and proved, 1 the push or the proof failed, 2 bad input or a yes is missing.
    """
    arguments, line = PublishArguments(run_text, repo_id, public, yes, **more), _ProgressLine()
    _quiet()
    try:
        subject = _subject(arguments, owner)
        samples = _samples(arguments, subject)
        built = _build(arguments, subject, owner, line)
        plan = _plan(arguments, subject, built, owner, samples)
    except UserError as error:
        line.end()
        return _complain(error, _FAILED if error.code in _NOT_THE_INPUT else _BAD_INPUT)
    _preview(plan)
    if plan.needs_yes and not arguments.yes:
        return _complain(UserError("publish.needs_yes", repo=plan.repo_id), _BAD_INPUT)
    try:
        pushed = push(plan, owner, confirmed=arguments.yes, progress=line)
        line.end()
        print(pushed.url, flush=True)
        proof = _prove(plan, pushed, built, owner, line)
    except UserError as error:
        line.end()
        return _complain(error, _BAD_INPUT if error.code == "publish.licence_needed" else _FAILED)
    line.end()
    print(proof.sentence(), file=sys.stderr)
    if proof.ok and built is not None:
        shutil.rmtree(built.folder, ignore_errors=True)
    return 0 if proof.ok else _FAILED


def _subject(arguments: PublishArguments, owner: Owner) -> "Run | Dataset":
    if arguments.what != "dataset":
        return find(arguments.which, owner)
    from finetune.data.store import open_dataset

    return open_dataset(dataset_folder(owner, arguments.which))


def _samples(arguments: PublishArguments, subject: "Run | Dataset") -> tuple[Sample, ...]:
    """Read the card's samples from the record of a comparison. Raises UserError for a record that does not fit."""
    if arguments.samples is None:
        return ()
    if arguments.card is not None:
        raise UserError("publish.samples_card")
    from finetune.publish.kinds import KINDS

    kind = KINDS[arguments.what or "adapter"]
    if not kind.samples or not isinstance(subject, Run):
        raise UserError("publish.samples_kind", kind=say(kind.title_key))
    record = read_record(arguments.samples)
    samples = samples_of(record, subject, str(arguments.samples)[:200])
    print(say("publish.samples_taken", count=len(samples), all=len(record["columns"])), file=sys.stderr)
    return samples


def _build(
    arguments: PublishArguments, subject: "Run | Dataset", owner: Owner, line: "_ProgressLine"
) -> "BuiltKind | None":
    """Build the files of the requested kind; None for a run's own result."""
    if arguments.what is None:
        return None
    from finetune.publish.kinds import Options, build

    options = Options(
        license=arguments.license,
        repo_id=arguments.model_repo,
        columns=arguments.presets,
        name=_file_name(arguments.repo_id),
    )
    folder = subject.folder / _FOLDER / arguments.what
    try:
        return build(arguments.what, subject, owner, folder, options, line, None)
    finally:
        line.end()


def _file_name(repo_id: str) -> str | None:
    """Return the name of files that carry one, as GGUF files do: that of their repository."""
    return repo_id.strip().rpartition("/")[2] or None


def _plan(
    arguments: PublishArguments,
    subject: "Run | Dataset",
    built: "BuiltKind | None",
    owner: Owner,
    samples: tuple[Sample, ...],
) -> PushPlan:
    card = None
    if arguments.card is not None:
        try:
            card = arguments.card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError("publish.no_card", value=arguments.card) from None
    return prepare(
        subject,
        arguments.repo_id,
        owner,
        private=not arguments.public,
        built=built,
        branch=arguments.branch,
        pull_request=arguments.pull_request,
        license=arguments.license,
        card=card,
        samples=samples,
    )


def _prove(plan: PushPlan, pushed: PushResult, built: "BuiltKind | None", owner: Owner, line: "_ProgressLine") -> Proof:
    """Verify the push and put the result into its card. Where nothing was pushed, return the earlier verification."""
    kept = read_proof(plan.run, plan.kind)
    if not pushed.changed and kept is not None and kept.ok and kept.revision == pushed.commit:
        return kept
    local = built.folder if built else None
    proof = prove(plan.run, pushed.repo_id, pushed.commit, owner, line, kind=plan.kind, local=local)
    if proof.ok:
        try:
            keep_in_card(plan.run, proof, owner, line, kind=plan.kind)
        except UserError as error:
            line.end()
            print(say("publish.proof_not_in_card", reason=str(error)), file=sys.stderr)
    return proof


def _quiet() -> None:
    """Turn the Hub client's progress bars and warnings off."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()


def _complain(error: UserError, code: int) -> int:
    print(error, file=sys.stderr)
    return code


def _preview(plan: PushPlan) -> None:
    visibility = say("publish.private" if plan.private else "publish.public")
    print(say("publish.preview", run=plan.run.id, repo=plan.repo_id, visibility=visibility), file=sys.stderr)
    for file in plan.files:
        print(f"  {file.sha256[:12]}  {file.size:>12,}  {file.path}", file=sys.stderr)
    for warning in plan.warnings:
        print(warning, file=sys.stderr)


class _ProgressLine:
    """Progress on one line of a terminal, overwritten each time; elsewhere one line for each new sentence."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, progress: Progress) -> None:
        share = f" {100 * progress.done // progress.total} %" if progress.total else ""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{progress.text}{share}", end="", file=sys.stderr, flush=True)
        elif progress.text != self.text:
            print(progress.text, file=sys.stderr, flush=True)
        self.text = progress.text

    def end(self) -> None:
        if self.text and sys.stderr.isatty():
            print(file=sys.stderr)
        self.text = ""
