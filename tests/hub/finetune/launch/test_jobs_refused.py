"""A job that cannot be started says why in one sentence, before anything is paid, and leaves nothing behind."""

import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.cli import jobs as job_shell
from finetune.launch.jobs import checks as job_checks
from finetune.launch.jobs import flavors
from finetune.launch.jobs import launcher as jobs
from finetune.launch.jobs.checks import PinnedBase
from finetune.runs.run import Run, list_runs
from tests.hub.standin import TOKEN, USER
from ui.train import where_to_run

pytestmark = pytest.mark.matrix

SCOPES = frozenset({"jobs", "contribute-repos", "read-repos"})


def refusal(recipe, renter, flavour="a10g-small", timeout="2h"):
    """The error of a start that is refused; no run and no job is left of it."""
    with pytest.raises(UserError) as caught:
        jobs.JobsLauncher(flavour, timeout).start(recipe, renter)
    assert list_runs(renter) == [] and not list(renter.runs.glob("r*"))
    assert TOKEN not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("status", "code"), [(402, "job.no_credit"), (403, "job.no_right"), (429, "job.busy")])
def test_what_the_hub_refuses_leaves_no_run(hub, renter, recipe, status, code):
    hub.fail("job_start", status=status, message=f"not today, {TOKEN}", headers={"Retry-After": "17"})
    error = refusal(recipe, renter)
    assert error.code == code and "not today, ***" in str(error)
    assert not hub.jobs.all


def test_a_sign_in_that_ends_before_the_job_could_is_refused(hub, renter, recipe):
    soon = Owner("local", TOKEN, expires=time.time() + 3600, scopes=SCOPES)
    error = refusal(recipe, soon)
    assert error.code == "job.token_ends" and "49 minutes" in str(error)
    assert jobs.preflight(recipe, soon, "a10g-small", "30m")
    assert "job_start" not in hub.kinds()


@pytest.mark.parametrize("missing", ["jobs", "contribute-repos"])
def test_a_missing_scope_is_named(hub, renter, recipe, missing):
    error = refusal(recipe, Owner("local", TOKEN, scopes=SCOPES - {missing}))
    assert error.code == "job.no_scope" and missing in str(error)
    assert hub.requests == []


@pytest.mark.parametrize("timeout", ["", "soon", "0", "-2h", "9d", "2 weeks", "1e3", 30])
def test_a_time_limit_that_is_none_is_refused(renter, recipe, timeout):
    assert refusal(recipe, renter, timeout=timeout).code == "job.timeout"


def test_without_a_token_and_with_one_that_may_only_read_nothing_starts(hub, renter, recipe):
    assert refusal(recipe, Owner("local")).code == "job.no_token"
    reader = Owner("local", hub.add_user(USER, role="read"))
    assert refusal(recipe, reader).code == "job.read_only_token"
    assert refusal(recipe, Owner("local", "hf_" + "unknown" * 5)).code == "job.wrong_token"


def test_an_unknown_machine_is_answered_with_the_known_ones(renter, recipe):
    error = refusal(recipe, renter, flavour="dgx")
    assert error.code == "job.no_flavour" and "a10g-small" in str(error)


def test_a_base_that_the_job_could_not_read_is_refused(hub, renter, recipe, tiny_model):
    def start_from(model):
        return refusal(recipe.model_copy(update={"model": model}), renter).code

    hub.add_repo("acme/gated", tiny_model, gated=True)
    hub.repos["models", "acme/gated"].repo_id = "else/gated"
    assert start_from("acme/gated") == "models.gated"
    assert start_from(f"{USER}/nothing") == "models.no_repository"
    assert start_from(str(tiny_model)) == "job.base_not_on_hub"


def test_whether_data_may_be_sent_is_looked_at_before_anything_is_paid_and_makes_nothing(hub, renter, recipe):
    inputs = hub.add_repo(f"{USER}/tunescope-inputs", kind="datasets", private=True)
    checks = {check.name: check for check in jobs.preflight(recipe, renter, "a10g-small", "2h")}
    assert checks["repository"].ok and inputs.repo_id in checks["repository"].sentence
    hub.fail("auth_check", status=403, times=9)
    assert refusal(recipe, renter).code == "job.no_right" and "create" not in hub.kinds()


def test_data_never_goes_to_a_repository_that_all_can_read(hub, renter, recipe):
    hub.add_repo(f"{USER}/tunescope-inputs", kind="datasets")
    assert refusal(recipe, renter).code == "job.repo_is_public"
    assert "commit" not in hub.kinds()


def test_more_processes_than_gpus_and_a_hub_that_is_silent_are_refused(hub, renter, recipe, monkeypatch):
    compute = recipe.compute.model_copy(update={"processes": 3})
    error = refusal(recipe.model_copy(update={"compute": compute}), renter, flavour="a10g-largex2")
    assert error.code == "job.too_many_processes"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert refusal(recipe, renter).code == "job.unreachable"


@pytest.mark.parametrize("kind", ["create", "preupload", "lfs_batch", "lfs_put", "commit"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}], ids=["503", "cut"])
def test_a_failure_on_the_way_leaves_no_run_and_the_next_start_works(hub, renter, recipe, kind, fault):
    hub.fail(kind, times=50, **fault)
    assert refusal(recipe, renter).code in ("job.hub_broken", "job.unreachable")
    assert not hub.jobs.all
    hub.heal()
    run_id = jobs.JobsLauncher("a10g-small", "2h").start(recipe, renter)
    assert [run.id for run in list_runs(renter)] == [run_id]
    assert hub.jobs.newest.spec["labels"]["tunescope"] == run_id


def test_the_checks_say_what_is_known_and_what_is_not(hub, renter, recipe):
    hub.accounts[USER].can_pay = False
    checks = {check.name: check for check in jobs.preflight(recipe, renter, "a10g-small", "2h")}
    assert checks["credit"].ok is False and "prepaid credit" in checks["credit"].sentence
    assert checks["scopes"].ok is None and checks["time"].ok is None
    assert all(checks[name].ok for name in ("token", "repository", "model", "processes", "memory", "disk"))
    assert "job_start" not in hub.kinds() and "create" not in hub.kinds()


MINE = {"type": "user", "name": USER}
ALL_RIGHTS = ["repo.content.read", "repo.write", "job.write"]


@pytest.mark.parametrize(
    ("told", "ok", "word"),
    [
        ({"role": "write"}, True, "has write access"),
        ({"role": "fineGrained", "fineGrained": {"scoped": [{"entity": MINE, "permissions": ALL_RIGHTS}]}}, True, ""),
        ({"role": "fineGrained", "fineGrained": {"global": ALL_RIGHTS, "scoped": []}}, True, "has write access"),
        ({"role": "fineGrained", "fineGrained": {"scoped": [{"entity": MINE, "permissions": []}]}}, False, "job.write"),
        (
            {
                "role": "fineGrained",
                "fineGrained": {"scoped": [{"entity": {"type": "org"}, "permissions": ALL_RIGHTS}]},
            },
            False,
            "repo.write, job.write",
        ),
        ({"role": "fineGrained"}, None, "permissions of the access token of"),
        ({"role": None}, None, "permissions of the access token of"),
    ],
)
def test_what_a_token_may_do_is_said_as_the_hub_tells_it(hub, renter, recipe, told, ok, word):
    hub.accounts[USER].told = told
    (token,) = [check for check in jobs.preflight(recipe, renter, "a10g-small", "2h") if check.name == "token"]
    assert token.ok is ok and word in token.sentence


def test_a_machine_with_several_gpus_gets_a_process_for_each(hub, renter, recipe):
    recipe = recipe.model_copy(update={"compute": type(recipe.compute)(dtype="float32")})
    checks = {check.name: check for check in jobs.preflight(recipe, renter, "a10g-largex2", "2h")}
    assert "accelerate launch --multi_gpu --num_processes 2" in checks["launch"].sentence
    assert checks["processes"].ok and checks["processes"].sentence.startswith("2 processes")
    one = recipe.model_copy(update={"compute": type(recipe.compute)(dtype="float32", processes=1)})
    checks = {check.name: check for check in jobs.preflight(one, renter, "a10g-largex2", "2h")}
    assert checks["processes"].ok is False and "idle" in checks["processes"].sentence and "launch" not in checks
    jobs.JobsLauncher("a10g-largex2", "2h").start(recipe, renter)
    (run,) = list_runs(renter)
    assert run.config().compute.processes == 2


@pytest.mark.parametrize(("sharding", "fits"), [("fsdp", True), ("none", False)])
def test_a_model_that_one_gpu_cannot_hold_fits_where_its_weights_are_shared_out(renter, recipe, sharding, fits):
    compute = type(recipe.compute)(dtype="bfloat16", sharding=sharding, processes=2)
    (pair,) = [one for one in jobs.known_flavors(renter) if one.name == "a10g-largex2"]
    base = PinnedBase("acme/large", "ab" * 20, parameters=15e9, weights_gb=30, folder=Path())
    config = recipe.model_copy(update={"compute": compute})
    if fits:
        assert job_checks._memory(config, pair, base).ok
    else:
        with pytest.raises(UserError) as caught:
            job_checks._memory(config, pair, base)
        assert caught.value.code == "job.too_small"


def test_the_machines_have_prices_with_the_hub_and_without(hub, renter, monkeypatch):
    there = {one.name: one for one in jobs.known_flavors(renter)}
    assert there["a10g-largex2"].gpus == 2 and there["a10g-largex2"].gpu_memory_gb == 24
    assert there["a10g-small"].usd_per_hour == pytest.approx(1, rel=0.01)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert jobs.known_flavors(renter) == list(flavors.FALLBACK)


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 403}, {"status": 503}, {"cut": True}])
def test_nothing_is_rented_at_prices_that_the_hub_did_not_tell(hub, renter, recipe, fault):
    hub.fail("hardware", times=99, **fault)
    assert refusal(recipe, renter).code in ("job.wrong_token", "job.no_right", "job.hub_broken", "job.unreachable")
    with pytest.raises(UserError):
        jobs.preflight(recipe, renter, "a10g-small", "2h")
    assert "job_start" not in hub.kinds() and "create" not in hub.kinds()
    offer = where_to_run.offer(renter, None, [], {})
    assert offer["machine"]["visible"] and say("job.not_current") in offer["table"]
    assert offer["rent"]["visible"] is False
    assert job_shell.flavor_lines(renter)[0] == say("job.not_current")
    hub.heal()
    assert say("job.not_current") not in where_to_run.offer(renter, None, [], {})["table"], (
        "remembered only where it was told"
    )
    assert jobs.JobsLauncher("a10g-small", "2h").start(recipe, renter)


def test_a_larger_machine_is_estimated_to_be_quicker_and_more_rows_to_take_longer(renter, recipe):
    big = recipe.model_copy(update={"model": "acme/llama-7b"})
    slow, quick = (jobs.estimate(big, 20_000, flavour) for flavour in ("t4-small", "a10g-small"))
    assert slow.seconds > quick.seconds > 240
    assert jobs.estimate(big, 40_000, "a10g-small").usd > quick.usd
    assert jobs.estimate(recipe, renter, "cpu-basic").seconds >= 240


def test_more_runs_than_one_person_may_have_are_refused_also_at_the_same_moment(hub, renter, recipe, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_RUNS", "1")
    launcher, others = jobs.JobsLauncher("a10g-small", "2h"), []

    def meanwhile(progress):
        if progress.done == 1 and not others:
            others.append(None)
            others[0] = launcher.start(recipe, renter)

    with pytest.raises(UserError) as caught:
        launcher.start(recipe, renter, progress=meanwhile)
    assert caught.value.code == "limits.runs" and others[0] in str(caught.value)
    assert [run.id for run in list_runs(renter)] == others and len(hub.jobs.all) == 1
    assert len(list(renter.runs.glob("r*"))) == 1


def test_a_resume_counts_as_a_run_at_work(hub, renter, recipe, monkeypatch):
    launcher = jobs.JobsLauncher("a10g-small", "2h")
    ended = Run(renter.runs / launcher.start(recipe, renter))
    hub.jobs.newest.end("ERROR", "Job timeout")
    jobs.sync(ended, renter)
    launcher.start(recipe, renter)
    monkeypatch.setenv("TUNESCOPE_LIMIT_RUNS", "1")
    with pytest.raises(UserError) as caught:
        launcher.resume(ended, renter)
    assert caught.value.code == "limits.runs" and len(hub.jobs.all) == 2
    assert ended.status().status == "failed" and jobs.job_of(ended).attempt == 1
