"""Where to run: this machine, or a rented one, with the checks before the start and the confirmation of the price."""

import hashlib
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from core import settings
from core.errors import UserError
from core.hub import reach
from core.words import say
from core.workspace import Owner
from finetune.config.run_config import RunConfig
from finetune.launch.follow.api import api
from finetune.launch.jobs.checks import Check, look, seconds_of
from finetune.launch.jobs.launcher import Flavor, JobEstimate, estimate, known_flavors
from finetune.plan.prepare import check_imported, import_data
from ui.parts import job as work
from ui.parts.controls import button, dropdown, textbox
from ui.parts.views import findings_table, render, view
from ui.parts.wiring import Parts
from ui.train import form
from ui.train.jobs import most, usd
from ui.web.language import words

if TYPE_CHECKING:
    from finetune.data.findings import DataFinding

HERE, RENTED = "here", "jobs"
USUAL_FLAVOR, USUAL_TIMEOUT = "a10g-small", "2h"
REMEMBERED_SECONDS = 600.0
_known: dict[str, tuple[float, list[Flavor]]] = {}


@dataclass
class WhereToRun:
    """The choice, the fields of a rented machine, and the confirmation of its price. `agreed` records the settings and
    the price that were shown."""

    where: gr.Radio
    box: gr.Column
    machine: gr.Row
    flavor: gr.Dropdown
    timeout: gr.Textbox
    table: gr.HTML
    rent: gr.Button
    agreed: gr.State

    def inputs(self) -> Parts:
        return {"where": self.where, "flavor": self.flavor, "timeout": self.timeout}

    def shown(self) -> Parts:
        """Return the components that `offer` fills."""
        return {"machine": self.machine, "flavor": self.flavor, "table": self.table, "rent": self.rent}


def draw_choice() -> gr.Radio:
    """Draw the choice between this machine and a rented one; on ZeroGPU, where nothing can be trained, only the
    latter."""
    choices = [(words("page.place_jobs"), RENTED)]
    if not settings.zero_gpu():
        choices.insert(0, (words("page.place_here"), HERE))
    return gr.Radio(choices, value=choices[0][1], label=words("page.place"), scale=3, min_width=480, elem_id="place")


def draw_machine(where: gr.Radio) -> WhereToRun:
    """Draw the rented machine: flavor, time limit and the table of prices. Empty until it is chosen."""
    with gr.Column(visible=settings.zero_gpu(), elem_id="rented") as box:
        with gr.Row(visible=False, elem_classes="ts-start") as machine:
            flavor = dropdown("page.flavour", scale=2, min_width=240, elem_id="flavour")
            timeout = textbox("page.timeout", scale=1, min_width=200, elem_id="timeout")
            timeout.value = USUAL_TIMEOUT
        table = view(elem_id="flavours")
    return WhereToRun(where, box, machine, flavor, timeout, table, rent_button("rent"), gr.State())


def rent_button(name: str) -> gr.Button:
    """Make the button that shows the price, to be rendered under the checks; hidden until they are done."""
    return button("page.rent", variant="primary", visible=False, render=False, elem_id=name)


def available(owner: Owner) -> list[Flavor]:
    """Return the machines for rent: the Hub's list, cached for ten minutes; if the Hub has none, the built-in list,
    marked as not current.

    Raises UserError if none can be rented: no token, no Hub.
    """
    client = api(owner)
    fetched, found = _known.get(client.endpoint, (-REMEMBERED_SECONDS, []))
    if time.monotonic() - fetched >= REMEMBERED_SECONDS:
        if not reach.reachable():
            raise UserError("job.unreachable", value="jobs", endpoint=reach.endpoint(), reason=say("job.no_answer"))
        found = known_flavors(owner)
        if all(flavor.current for flavor in found):
            _known[client.endpoint] = (time.monotonic(), found)
    return found


def offer(
    owner: Owner, chosen: str | None, datasets: Sequence[str] | None, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the choice of machines with their prices for this run; in their place one sentence where there are
    none."""
    hidden = gr.update(visible=False)
    try:
        found = available(owner)
    except UserError as error:
        return {
            "machine": hidden,
            "table": render("note", kind="ts-warn", title="", text=str(error)),
            "rent": hidden,
        }
    name = usual(found, chosen)
    choices = [(f"{flavor.title} · {price(flavor.usd_per_hour)}", flavor.name) for flavor in found]
    table = flavor_table(found, name, *guesses(owner, found, datasets, values))
    machines = gr.update(choices=choices, value=name)
    return {"machine": gr.update(visible=True), "flavor": machines, "table": table, "rent": hidden}


def usual(found: list[Flavor], chosen: str | None) -> str | None:
    """Return the chosen machine, else the usual one, else the cheapest with a GPU."""
    names = [flavor.name for flavor in found]
    gpus = [flavor.name for flavor in found if flavor.gpus]
    return next((name for name in (chosen, USUAL_FLAVOR, *gpus, *names) if name in names), None)


def guesses(
    owner: Owner, found: list[Flavor], datasets: Sequence[str] | None, values: Mapping[str, Any]
) -> tuple[dict[str, JobEstimate], str]:
    """Return rough time and price of this run by machine; if the form is incomplete, no estimates and the reason."""
    try:
        config = form.read(datasets, values)
        return {flavor.name: estimate(config, owner, flavor) for flavor in found}, ""
    except UserError as error:
        return {}, str(error)


def flavor_table(found: list[Flavor], chosen: str | None, rough: dict[str, JobEstimate], why: str) -> str:
    """Return the table of machines: name, GPU, memory, price, and rough time and price of this run."""
    return render("flavours", machines=found, chosen=chosen, rough=rough, why=why, price=price, usd=usd)


@dataclass(frozen=True)
class Agreed:
    """What a person is asked to confirm: the fingerprint of the settings, and the price per hour."""

    fingerprint: str
    usd_per_hour: float


@dataclass(frozen=True)
class Offer:
    """The result of the checks before a start that costs money: checks, maximum and rough price."""

    checks: list[Check]
    flavor: Flavor
    seconds: int
    rough: JobEstimate
    findings: list["DataFinding"]

    @property
    def most(self) -> float:
        return most(self.flavor.usd_per_hour, self.seconds)


def preflight(owner: Owner, config: RunConfig, flavor: str | None, timeout: str, job: work.Job) -> Offer:
    """Check everything that can be known before anything is paid. Raises UserError for what forbids the start."""
    job.report(None)
    config = import_data(config, owner, job.report, job.stop)
    checks, machine, base = look(config, owner, flavor or "", timeout)
    rough = estimate(config, owner, machine, base.parameters)
    findings = check_imported(config, owner, base.reference, base.folder).findings
    return Offer(checks, machine, seconds_of(timeout), rough, findings)


def offer_html(found: Offer, why: str = "") -> str:
    """Return the checks as a list, the maximum cost, what the token is used for, and the findings in the data; above it
    `why` the price is asked again."""
    again = render("note", kind="ts-warn", title="", text=why) if why else ""
    offer = render("offer", offer=found, usd=usd, price=price)
    return again + offer + findings_table(found.findings, say("page.no_findings_model"))


def confirmation(found: Offer) -> dict:
    """Return the button that shows the price."""
    return gr.update(visible=True, value=say("page.rent_for", usd=usd(found.most), flavour=found.flavor.title))


def options(where: str, flavor: str | None, timeout: str) -> str:
    """Return the machine as options of the shell's `start`; empty for this machine."""
    if where != RENTED:
        return ""
    return " " + shlex.join(["--on", "jobs", "--flavor", flavor or USUAL_FLAVOR, "--timeout", timeout.strip()])


def fingerprint(*values: Any) -> str:
    """Return the fingerprint of every field."""
    return hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()


def agreed_price(agreed: Any, *values: Any) -> float:
    """Return the confirmed price per hour. Raises UserError if it was confirmed for other values than these."""
    if not isinstance(agreed, Agreed) or agreed.fingerprint != fingerprint(*values):
        raise UserError("page.changed_wish")
    return agreed.usd_per_hour


def price_changed(error: UserError) -> bool:
    """Return whether a job was refused because its price is not the confirmed one. Changed prices are removed from the
    cache."""
    if error.code in ("job.price_changed", "job.not_for_rent"):
        _known.clear()
    return error.code == "job.price_changed"


def price(usd_per_hour: float) -> str:
    """Format a price per hour."""
    return say("page.an_hour", usd=usd(usd_per_hour))
