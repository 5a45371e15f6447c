"""Send a plan: large files first, then one commit, so that nothing is visible in part and a rerun completes it."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.hub import retries
from core.hub.errors import in_words, uncertain
from core.words import say
from core.workspace import Owner
from finetune.publish.plan import PushPlan
from finetune.publish.repo import remote
from finetune.publish.repo.differences import since_the_preview, tree
from finetune.publish.repo.files import git_blob_id, sha256_of
from finetune.publish.repo.records import PushResult, read_push, write_push
from finetune.publish.repo.remote import MANIFEST, DestinationState
from finetune.publish.repo.scan import PlannedFile
from finetune.publish.repo.upload import PushProgress, additions, send_large
from inference.models.types import Report

_SDK = "gradio"
_LARGEST_READ = 50 * 2**20


def push(
    plan: PushPlan,
    owner: Owner,
    *,
    confirmed: bool = False,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> PushResult:
    """Create the repository and the branch where needed, upload, commit; the result is stored beside the run.

    Checks the destination again first: what is foreign, or changed by somebody since our last push, needs `confirmed`;
    what changed after the preview needs another preview. Raises UserError; after one that says so, running it again
    continues where it ended (uploaded files are not sent again).
    """
    tell = PushProgress(plan.size, progress, stop)
    tell(say("publish.looking", repo=plan.repo_id))
    found = remote.look(plan.to, plan.mark, owner, stop)
    _check_confirmed(plan, found, owner, confirmed)
    _check_unchanged(plan)
    with in_words(plan.repo_id, owner, lost="publish.lost"):
        if found.target == "new":
            found = _create(plan, owner, tell)
            _check_confirmed(plan, found, owner, confirmed)
        if found.make_branch:
            found = _branch(plan, found, owner, tell)
        commit, number, changed = _commit(plan, found, owner, tell)
    kept = read_push(plan.run, plan.kind)
    if not changed and kept is not None and commit == (kept.card_commit or kept.commit) and _same(kept, plan):
        tell.done(say("publish.no_change", repo=plan.repo_id))
        return replace(kept, changed=False)
    tell.done(say("publish.pushed" if changed else "publish.no_change", repo=plan.repo_id))
    result = PushResult(
        plan.repo_id,
        _url(plan, number),
        commit,
        bool(found.private),
        {file.path: file.sha256 for file in plan.files},
        plan.size,
        plan.to.repo_type,
        plan.kind,
        f"refs/pr/{number}" if number else plan.to.branch,
        number,
        changed,
    )
    with in_words(plan.repo_id, owner):
        write_push(plan.run, result)
    return result


def _same(kept: PushResult, plan: PushPlan) -> bool:
    return (kept.repo_id, kept.repo_type) == (plan.repo_id, plan.to.repo_type)


def _url(plan: PushPlan, number: int | None) -> str:
    if number:
        return f"{plan.to.url}/discussions/{number}"
    return f"{plan.to.url}/tree/{plan.to.branch}" if plan.to.branch else plan.to.url


def _check_confirmed(plan: PushPlan, found: DestinationState, owner: Owner, confirmed: bool) -> None:
    """Raise UserError where the person has not confirmed what a push would do now."""
    if found.target == "foreign" and not plan.to.pull_request and not confirmed:
        raise UserError("publish.foreign", repo=plan.repo_id, count=len(found.files))
    if plan.private and found.private is False:
        raise UserError("publish.is_public", repo=plan.repo_id)
    visible = found.private is False or (found.private is None and not plan.private)
    if visible and not plan.license.key and plan.to.repo_type != "space":
        raise UserError("publish.licence_needed", repo=plan.repo_id)
    seen = plan.found
    moved = found.commit is not None and found.commit != seen.commit and found.target != "empty"
    if moved and not _complete(plan, found, owner):
        difference = since_the_preview(plan.to, seen, found, owner)
        raise UserError("publish.changed_since", repo=plan.repo_id, what=difference.sentence(plan.repo_id))
    if plan.needs_yes and not confirmed:
        assert plan.difference is not None, "what is foreign was refused above"
        raise UserError("publish.changed_by", repo=plan.repo_id, what=plan.difference.sentence(plan.repo_id))


def _complete(plan: PushPlan, found: DestinationState, owner: Owner) -> bool:
    """Return whether the destination holds every file of the plan and no new one, as after a push whose answer was
    lost."""
    if found.manifest.get("files") != {file.path: file.sha256 for file in plan.files if file.path != MANIFEST}:
        return False
    with in_words(plan.repo_id, owner):
        there = tree(plan.to, str(found.commit), owner)
    known = {file.path for file in plan.files} | set(plan.found.files) | {".gitattributes"}
    return there.keys() <= known and all(_has_content(file, there.get(file.path)) for file in plan.files)


def _has_content(file: PlannedFile, name: str | None) -> bool:
    """Return whether the Hub's id of a content (SHA-256 of a large file, git's id of a small one) is this file's."""
    return name == file.sha256 or (file.size <= _LARGEST_READ and name == git_blob_id(file.content()))


def _check_unchanged(plan: PushPlan) -> None:
    """Raise UserError where a file is no longer what the preview showed."""
    for file in plan.files:
        if isinstance(file.source, Path) and (not file.source.is_file() or sha256_of(file.source) != file.sha256):
            raise UserError("publish.file_changed", file=file.path)


def _create(plan: PushPlan, owner: Owner, tell: PushProgress) -> DestinationState:
    """Create the repository. Where the answer was lost, check whether it exists."""
    tell(say("publish.creating", repo=plan.repo_id))
    to, sdk = plan.to, _SDK if plan.to.repo_type == "space" else None
    try:
        remote.api(owner).create_repo(
            to.repo_id, private=plan.private, repo_type=to.repo_type, token=remote.token_of(owner), space_sdk=sdk
        )
    except Exception as error:
        if not uncertain(error):
            raise
        if (found := _look_after_error(plan, owner, error)).target == "new":
            raise
        return found
    return remote.look(to, plan.mark, owner, tell.stop)


def _branch(plan: PushPlan, found: DestinationState, owner: Owner, tell: PushProgress) -> DestinationState:
    """Create the branch from the commit that was checked; one created meanwhile is as good."""
    tell(say("publish.branching", repo=plan.repo_id, branch=plan.to.branch))
    assert plan.to.branch is not None, "only a branch is missing"
    try:
        remote.api(owner).create_branch(
            plan.repo_id,
            branch=plan.to.branch,
            revision=found.commit,
            repo_type=plan.to.repo_type,
            token=remote.token_of(owner),
        )
    except Exception as error:
        if not uncertain(error) or _look_after_error(plan, owner, error).make_branch:
            raise
    return remote.look(plan.to, plan.mark, owner, tell.stop)


def _commit(plan: PushPlan, found: DestinationState, owner: Owner, tell: PushProgress) -> tuple[str, int | None, bool]:
    """Upload large files, then put everything into one commit on top of the commit that was checked.

    Returns the commit, the number of the pull request, and whether anything changed.
    """
    from huggingface_hub import CommitOperationDelete

    api, to = remote.api(owner), plan.to
    opens = to.pull_request and not found.pull_request
    remote.check_card(plan.card, to, owner, tell.stop)
    added = additions(_files_to_send(found, plan, owner), tell)
    left = sorted(set(found.pushed_before) - {file.path for file in plan.files})
    if not added and not left:
        return str(found.commit), found.pull_request, False
    send_large(added, to, found.revision, opens, owner, tell)
    tell(say("publish.committing", repo=plan.repo_id))
    operations: list[Any] = [*added, *(CommitOperationDelete(path) for path in left)]
    try:
        made = api.create_commit(
            plan.repo_id,
            operations,
            commit_message=remote.title(plan.mark),
            token=remote.token_of(owner),
            repo_type=to.repo_type,
            revision=found.revision,
            create_pr=opens,
            parent_commit=found.commit,
        )
    except Exception as error:
        return _committed_anyway(plan, owner, error)
    return made.oid, made.pr_num if opens else found.pull_request, True


def _files_to_send(found: DestinationState, plan: PushPlan, owner: Owner) -> list[PlannedFile]:
    """Return the files of a plan that the destination does not hold with the same content."""
    if not {file.path for file in plan.files} & set(found.files):
        return plan.files
    there = retries.again(lambda: tree(plan.to, str(found.commit), owner))
    return [file for file in plan.files if not _has_content(file, there.get(file.path))]


def _committed_anyway(plan: PushPlan, owner: Owner, error: Exception) -> tuple[str, int | None, bool]:
    """Return the commit, where it was made although its answer was lost. Raises the error where it was not made, and
    another where that cannot be determined."""
    if uncertain(error):
        found = _look_after_error(plan, owner, error)
        if _complete(plan, found, owner) and (found.pull_request or not plan.to.pull_request):
            return str(found.commit), found.pull_request, True
    raise error


def _look_after_error(plan: PushPlan, owner: Owner, error: Exception) -> DestinationState:
    """Return the state of the destination after a call whose answer was lost."""
    try:
        return remote.look(plan.to, plan.mark, owner)
    except UserError as blind:
        raise UserError("publish.not_known", repo=plan.repo_id, url=plan.to.url, reason=str(blind)) from error
