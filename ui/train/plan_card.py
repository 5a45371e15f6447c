"""The plan of a run as a card: a rough estimate with each check, a measured one after a trial of its first steps."""

from typing import TYPE_CHECKING

from core.words import counted, say
from core.workspace import Owner
from finetune.config.run_config import RunConfig
from finetune.launch.jobs.flavors import known_flavors
from finetune.launch.local.launcher import check_here
from finetune.plan.card import data_facts, dollars, weight_facts
from finetune.plan.planner import plan_of
from finetune.plan.prepare import check_stages, run_inputs
from ui.parts import job as work
from ui.parts.views import findings_table, render

if TYPE_CHECKING:
    from finetune.plan.card import RunPlan
    from finetune.plan.prepare import CheckResult


def look(owner: Owner, config: RunConfig, job: work.Job, *, trial: bool) -> tuple["CheckResult", "RunPlan"]:
    """Check data, model and settings, and plan the run; with a `trial` its first steps are tried out. Raises
    UserError where it could not start."""
    if trial:
        check_here(owner)
    with run_inputs(config, owner, job.report, job.stop) as looked:
        found = check_stages(looked.config, looked.datasets, looked.base.name, looked.base.folder)
        rented = known_flavors(owner)
        plan = plan_of(looked, owner, calibrate=trial, flavors=rented, progress=job.report, stop=job.stop)
    return found, plan


def plan_html(found: "CheckResult", plan: "RunPlan") -> str:
    """Return the verdict on whether the run can start, the card, and the findings in the data."""
    rows, steps = counted("core.rows", found.rows), counted("core.steps", plan.steps)
    refused = any(advice.refused for advice in plan.advice)
    fine = say("page.checked", model=found.model, rows=rows, steps=steps)
    note = "" if refused else render("note", kind="ts-good", title="", text=fine)
    if found.launch:
        note += render("note", kind="", title="", text=say("run.launched", command=found.launch))
    return note + card(plan) + findings_table(found.findings, say("page.no_findings_model"))


def card(plan: "RunPlan") -> str:
    """Return the plan as a card with a line for each machine."""
    return render("plan_card", plan=plan, weights=weight_facts(plan), data=data_facts(plan), dollars=dollars)
