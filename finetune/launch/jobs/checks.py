"""The checks before anything is paid: token and credit, base model, time limit, memory and disk."""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.hub import reach
from core.hub.retries import again
from core.references import Hub, parse, resolve
from core.words import say
from core.workspace import Owner
from finetune.config.device import launch_line
from finetune.config.run_config import RunConfig
from finetune.launch.follow.api import api, in_words, token_of, whoami
from finetune.launch.jobs.flavors import flavor_named
from finetune.launch.jobs.spec import with_processes
from finetune.plan.machines import Flavor
from finetune.plan.prepare import check_context

NEEDED_SCOPES = ("jobs", "contribute-repos")
_INCLUDED_IN = {"contribute-repos": ("write-repos", "manage-repos")}
NEEDED_RIGHTS = ("repo.write", "job.write")
"""The permissions that a fine-grained token needs, as the Hub names them."""
INPUTS = "tunescope-inputs"
"""The caller's private dataset repository in which data and sources travel."""
MARGIN_SECONDS = 600
"""A token must stay valid this much longer than the job's time limit: the result is fetched with it."""
LONGEST_SECONDS = 7 * 24 * 3600
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_TIMEOUT = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)\s*([smhd]?)")
_SPARE_GB = 15
"""Disk space for Python packages with CUDA libraries."""


@dataclass(frozen=True)
class Check:
    """One result of a check. `ok` is False where it may go wrong and None where it could not be determined."""

    name: str
    ok: bool | None
    sentence: str


@dataclass(frozen=True)
class PinnedBase:
    """The base model of a job, pinned to a commit; `parameters` and `weights_gb` follow from its file sizes. Its small
    files are in `folder`."""

    reference: str
    revision: str
    parameters: float
    weights_gb: float
    folder: Path


def seconds_of(timeout: str | int) -> int:
    """Return a time limit as a person writes it ("2h", "90m", 5400) in seconds. Raises UserError."""
    match = _TIMEOUT.fullmatch(str(timeout).strip().lower())
    seconds = int(float(match[1]) * _UNITS[match[2] or "s"]) if match else 0
    if not 60 <= seconds <= LONGEST_SECONDS:
        raise UserError("job.timeout", value=str(timeout)[:40])
    return seconds


def preflight(config: RunConfig, owner: Owner, flavor: str, timeout: str | int) -> list[Check]:
    """Check everything that can be known before a job is paid for. Raises UserError for what forbids the start."""
    return look(config, owner, flavor, timeout)[0]


def look(
    config: RunConfig, owner: Owner, flavor: str, timeout: str | int, agreed: float | None = None
) -> tuple[list[Check], Flavor, PinnedBase]:
    """Run the checks of `preflight`; return them, the machine and the pinned base. `agreed`: see `flavor_named`."""
    token_of(owner)
    seconds = seconds_of(timeout)
    checks = [_time(owner, seconds), _scopes(owner)]
    reach.forget()
    if not reach.reachable():
        raise UserError("job.unreachable", value=flavor, endpoint=reach.endpoint(), reason=say("job.no_answer"))
    machine = flavor_named(flavor, owner, agreed)
    config = with_processes(config, machine)
    checks += _payer(owner)
    base = pinned_base(config, owner)
    checks += [
        _repository(owner),
        _model(base),
        *_launch(config),
        _processes(config, machine),
        _memory(config, machine, base),
        _disk(config, machine, base),
    ]
    return checks, machine, base


def _time(owner: Owner, seconds: int) -> Check:
    if owner.expires is None:
        return Check("time", None, say("job.check.time_unknown", minutes=seconds // 60))
    left = int(owner.expires - time.time() - MARGIN_SECONDS)
    if seconds > left:
        raise UserError("job.token_ends", value=f"{seconds // 60}m", minutes=max(left // 60, 0))
    return Check("time", True, say("job.check.time", minutes=seconds // 60))


def _scopes(owner: Owner) -> Check:
    if owner.scopes is None:
        return Check("scopes", None, say("job.check.scopes_unknown", scopes=", ".join(NEEDED_SCOPES)))
    missing = [scope for scope in NEEDED_SCOPES if not owner.scopes & {scope, *_INCLUDED_IN.get(scope, ())}]
    if missing:
        raise UserError("job.no_scope", value=", ".join(missing))
    return Check("scopes", True, say("job.check.scopes", scopes=", ".join(NEEDED_SCOPES)))


def _payer(owner: Owner) -> list[Check]:
    """Check whether the token may write, and whether the Hub knows how its owner pays."""
    me = whoami(owner)
    write = _token(me)
    if me.get("canPay") is None:
        return [write, Check("credit", None, say("job.check.credit_unknown", endpoint=reach.endpoint()))]
    pays = bool(me["canPay"] or me.get("isPro"))
    sentence = "job.check.credit" if pays else "job.check.no_credit"
    return [write, Check("credit", pays, say(sentence, user=me.get("name"), endpoint=reach.endpoint()))]


def _token(me: dict[str, Any]) -> Check:
    """Check what the token may do, as far as the Hub says: a fine-grained one lists its permissions, for everything or
    for one account or repository."""
    name = str(me["name"])
    token = (me.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")
    if role == "read":
        raise UserError("job.read_only_token", value=name, endpoint=reach.endpoint())
    rights = _rights(token.get("fineGrained"), name) if role == "fineGrained" else None
    if role != "write" and rights is None:
        return Check("token", None, say("job.check.token_unknown", user=name, rights=", ".join(NEEDED_RIGHTS)))
    missing = [right for right in NEEDED_RIGHTS if rights is not None and right not in rights]
    if missing:
        facts = {"user": name, "rights": ", ".join(missing), "endpoint": reach.endpoint()}
        return Check("token", False, say("job.check.token_lacks", **facts))
    return Check("token", True, say("job.check.token", user=name))


def _rights(scopes: Any, user: str) -> set[str] | None:
    """Return the permissions of a fine-grained token over everything of `user`; None where they are not listed."""
    if not isinstance(scopes, dict) or not isinstance(scopes.get("scoped"), list):
        return None
    rights = {str(right) for right in scopes.get("global") or []}
    for scope in scopes["scoped"]:
        entity = scope.get("entity") or {}
        if entity.get("type") == "user" and entity.get("name") == user:
            rights |= {str(right) for right in scope.get("permissions") or []}
    return rights


def pinned_base(config: RunConfig, owner: Owner) -> PinnedBase:
    """Return the base model at its newest commit on the Hub, once the caller may read it and it can be trained here.

    Only its small files are fetched. Raises UserError, also for a model that is not on the Hub: a job cannot reach it.
    """
    from inference.models import hub_files
    from inference.models.model_config import check_config, context_length, read_config

    resolved = resolve(parse(config.model, owner), owner)
    if resolved.adapter is not None:
        raise UserError("run.base_is_adapter", value=config.model)
    if not isinstance(resolved.base, Hub):
        raise UserError("job.base_not_on_hub", value=config.model)
    listing = hub_files.list_files(resolved.base, owner.token, owner)
    if listing is None or not listing.online:
        raise hub_files.unreachable(resolved.base)
    if "adapter_config.json" in listing.sizes:
        raise UserError("run.base_is_adapter", value=config.model)
    if "config.json" not in listing.sizes:
        raise UserError("models.no_config", value=config.model)
    folder = hub_files.download(listing, hub_files.small_files(listing), owner.token, None, None)
    check_config(folder, config.model)
    weights = hub_files.weight_names(sorted(listing.sizes), folder)
    if not weights:
        hub_files.refuse_pickles(sorted(listing.sizes), config.model)
    described = read_config(folder, config.model)
    check_context(config, config.model, context_length(described))
    size = sum(listing.sizes[name] for name in weights)
    wide = 4 if "32" in str(getattr(described, "dtype", None)) else 2
    return PinnedBase(f"{resolved.base.repo_id}@{listing.commit}", listing.commit, size / wide, size / 1e9, folder)


def _model(base: PinnedBase) -> Check:
    return Check("model", True, say("job.check.model", value=base.reference, gigabytes=f"{base.weights_gb:.2f}"))


def _repository(owner: Owner) -> Check:
    """Check whether data may be sent to the caller's own repository, which is not created yet. Raises UserError."""
    from huggingface_hub.errors import RepositoryNotFoundError

    repo_id = f"{whoami(owner)['name']}/{INPUTS}"
    client = api(owner)
    named: Any = {"repo_id": repo_id, "repo_type": "dataset", "token": token_of(owner)}
    with in_words(owner, repo_id):
        try:
            info: Any = again(lambda: client.repo_info(**named))
        except RepositoryNotFoundError:
            return Check("repository", True, say("job.check.repository_new", repo=repo_id))
        _refuse_public(repo_id, info)
        again(lambda: client.auth_check(write=True, **named))
    return Check("repository", True, say("job.check.repository", repo=repo_id))


def _refuse_public(repo_id: str, info: Any) -> None:
    if not info.private:
        raise UserError("job.repo_is_public", value=repo_id, endpoint=reach.endpoint())


def _launch(config: RunConfig) -> list[Check]:
    """Return how several processes are started; nothing for one process."""
    count = config.compute.processes
    return [Check("launch", True, say("run.launched", command=launch_line(count)))] if count > 1 else []


def _processes(config: RunConfig, machine: Flavor) -> Check:
    """Check that there is one process per GPU: fewer leave GPUs idle, more are refused."""
    processes, available = config.compute.processes, machine.gpus or config.compute.processes
    if machine.gpus and processes > machine.gpus:
        raise UserError("job.too_many_processes", value=processes, flavour=machine.name, gpus=machine.gpus)
    sentence = "job.check.processes" if processes == available else "job.check.idle_gpus"
    return Check(
        "processes", processes == available, say(sentence, processes=processes, gpus=machine.gpus, flavour=machine.name)
    )


def _memory(config: RunConfig, machine: Flavor, base: PinnedBase) -> Check:
    """Check that the model fits: the weights and, for full training, float32 masters, two moments and gradients.

    Activations come on top. Each GPU holds all of it, unless the processes shard it.
    """
    shares = config.compute.processes if config.compute.sharding == "fsdp" and machine.gpus else 1
    available = (machine.gpu_memory_gb or machine.memory_gb) * shares
    bytes_per_weight = 2 if machine.gpus else 4
    needed = base.parameters * (bytes_per_weight + (16 if config.method == "full" else 0)) / 1e9 * 1.2 + 1
    facts = {"needed": f"{needed:.0f}", "there": f"{available:.0f}", "flavour": machine.name}
    if base.parameters * bytes_per_weight / 1e9 > available:
        raise UserError("job.too_small", value=machine.name, needed=facts["needed"], there=facts["there"])
    return Check(
        "memory", needed <= available, say("job.check.memory" if needed <= available else "job.check.tight", **facts)
    )


def _disk(config: RunConfig, machine: Flavor, base: PinnedBase) -> Check:
    """Check that packages, the base model and three checkpoints with optimizer state fit on the disk."""
    a_checkpoint = base.weights_gb + base.parameters * 12 / 1e9 if config.method == "full" else 0.3
    needed = math.ceil(_SPARE_GB + base.weights_gb + 4 * a_checkpoint)
    if machine.storage_gb is None:
        return Check("disk", None, say("job.check.disk_unknown", needed=needed))
    if needed > machine.storage_gb:
        raise UserError("job.no_disk", value=machine.name, needed=needed, there=f"{machine.storage_gb:.0f}")
    return Check("disk", True, say("job.check.disk", needed=needed, there=f"{machine.storage_gb:.0f}"))


def write_access(owner: Owner, repo_id: str, kind: str) -> None:
    """Create a private repository of the caller, or check that the existing one is private and may be written to.

    Raises UserError, also where it is public.
    """
    client = api(owner)
    with in_words(owner, repo_id):
        named: Any = {"repo_id": repo_id, "repo_type": kind, "token": token_of(owner)}
        again(lambda: client.create_repo(private=True, exist_ok=True, **named))
        info: Any = again(lambda: client.repo_info(**named))
    _refuse_public(repo_id, info)
