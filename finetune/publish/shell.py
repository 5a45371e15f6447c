"""`python -m finetune publish RUN REPO`: the preview, progress and the proof on stderr, the link on stdout."""

import sys

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.publish.plan import Plan, prepare
from finetune.publish.proof import prove
from finetune.publish.push import push
from finetune.run import find
from inference.sources import Progress

_BAD_INPUT = 2
_FAILED = 1
_NOT_THE_INPUT = ("publish.unreachable", "publish.offline", "publish.hub_broken", "publish.slow_down")


def publish_command(run_text: str, repo_id: str, public: bool, yes: bool, owner: Owner) -> int:
    """Publish a run. `yes` is the explicit yes to a repository that holds something else.

    Returns the exit code: 0 published and proved, 1 the push or the proof failed, 2 bad input or a yes is missing.
    """
    try:
        plan = prepare(find(run_text, owner), repo_id, owner, private=not public)
    except UserError as error:
        return _complain(error, _FAILED if error.code in _NOT_THE_INPUT else _BAD_INPUT)
    _quiet()
    _preview(plan)
    if plan.target == "foreign" and not yes:
        return _complain(UserError("publish.needs_yes", repo=plan.repo_id), _BAD_INPUT)
    line = _Line()
    try:
        pushed = push(plan, owner, confirmed=yes, progress=line)
        line.end()
        print(pushed.url, flush=True)
        proof = prove(plan.run, pushed.repo_id, pushed.commit, owner, line)
    except UserError as error:
        line.end()
        return _complain(error, _FAILED)
    line.end()
    print(proof.sentence(), file=sys.stderr)
    return 0 if proof.ok else _FAILED


def _quiet() -> None:
    """Leave the terminal to our own lines."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()


def _complain(error: UserError, code: int) -> int:
    print(error, file=sys.stderr)
    return code


def _preview(plan: Plan) -> None:
    visibility = say("publish.private" if plan.private else "publish.public")
    print(say("publish.preview", run=plan.run.id, repo=plan.repo_id, visibility=visibility), file=sys.stderr)
    for file in plan.files:
        print(f"  {file.sha256[:12]}  {file.size:>12,}  {file.path}", file=sys.stderr)
    for warning in plan.warnings:
        print(warning, file=sys.stderr)


class _Line:
    """Progress on one line of a terminal, which is written over; elsewhere one line for each new sentence."""

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
