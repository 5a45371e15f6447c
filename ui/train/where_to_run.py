"""Where a run shall run: this machine, or a rented one with its price, what is checked first, and an explicit yes."""

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
from finetune.launch.jobs.launcher import Estimate, Flavor, estimate, flavours
from finetune.plan.prepare import import_data, look_at
from ui.parts import job as work
from ui.parts.controls import button, dropdown, textbox
from ui.parts.views import findings_table, render, view
from ui.parts.wiring import Parts
from ui.train import form
from ui.train.jobs import most, usd
from ui.web.language import words

if TYPE_CHECKING:
    from finetune.data.findings import Finding

HERE, RENTED = "here", "jobs"
USUAL_FLAVOR, USUAL_TIMEOUT = "a10g-small", "2h"
REMEMBERED_SECONDS = 600.0
_known: dict[str, tuple[float, list[Flavor]]] = {}


@dataclass
class WhereToRun:
    """The choice, what a rented machine needs, and the yes to its price. `agreed` is what the price was told for."""

    where: gr.Radio
    box: gr.Column
    machine: gr.Row
    flavour: gr.Dropdown
    timeout: gr.Textbox
    table: gr.HTML
    rent: gr.Button
    agreed: gr.State

    def inputs(self) -> Parts:
        return {"where": self.where, "flavour": self.flavour, "timeout": self.timeout}

    def shown(self) -> Parts:
        """What `offer` fills."""
        return {"machine": self.machine, "flavour": self.flavour, "table": self.table, "rent": self.rent}


def draw_choice() -> gr.Radio:
    """Here or rented; on ZeroGPU, where nothing can be trained, rented alone."""
    choices = [(words("page.place_jobs"), RENTED)]
    if not settings.zero_gpu():
        choices.insert(0, (words("page.place_here"), HERE))
    return gr.Radio(choices, value=choices[0][1], label=words("page.place"), scale=3, min_width=480, elem_id="place")


def draw_machine(where: gr.Radio) -> WhereToRun:
    """The rented machine: flavour, time limit and the table of prices. Empty until somebody asks for one."""
    with gr.Column(visible=settings.zero_gpu(), elem_id="rented") as box:
        with gr.Row(visible=False, elem_classes="ts-start") as machine:
            flavour = dropdown("page.flavour", scale=2, min_width=240, elem_id="flavour")
            timeout = textbox("page.timeout", scale=1, min_width=200, elem_id="timeout")
            timeout.value = USUAL_TIMEOUT
        table = view(elem_id="flavours")
    return WhereToRun(where, box, machine, flavour, timeout, table, rent_button("rent"), gr.State())


def rent_button(name: str) -> gr.Button:
    """The button that says the price, to be rendered under the checks; it is there only after them."""
    return button("page.rent", variant="primary", visible=False, render=False, elem_id=name)


def available(owner: Owner) -> list[Flavor]:
    """The machines for rent, remembered for ten minutes where the Hub tells them; else those known, not current.

    Raises UserError where none can be rented: no token, no Hub.
    """
    client = api(owner)
    asked, found = _known.get(client.endpoint, (-REMEMBERED_SECONDS, []))
    if time.monotonic() - asked >= REMEMBERED_SECONDS:
        if not reach.reachable():
            raise UserError("job.unreachable", value="jobs", endpoint=reach.endpoint(), reason=say("job.no_answer"))
        found = flavours(owner)
        if all(one.current for one in found):
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
    choices = [(f"{one.title} · {price(one.usd_per_hour)}", one.name) for one in found]
    table = flavor_table(found, name, *guesses(owner, found, datasets, values))
    machines = gr.update(choices=choices, value=name)
    return {"machine": gr.update(visible=True), "flavour": machines, "table": table, "rent": hidden}


def usual(found: list[Flavor], chosen: str | None) -> str | None:
    """The machine that was chosen, else the usual one, else the cheapest with a GPU."""
    names = [one.name for one in found]
    gpus = [one.name for one in found if one.gpus]
    return next((name for name in (chosen, USUAL_FLAVOR, *gpus, *names) if name in names), None)


def guesses(
    owner: Owner, found: list[Flavor], datasets: Sequence[str] | None, values: Mapping[str, Any]
) -> tuple[dict[str, Estimate], str]:
    """Rough time and price of this run by machine; where the form does not say enough yet, none, and why."""
    try:
        config = form.read(datasets, values)
        return {one.name: estimate(config, owner, one) for one in found}, ""
    except UserError as error:
        return {}, str(error)


def flavor_table(found: list[Flavor], chosen: str | None, rough: dict[str, Estimate], why: str) -> str:
    """Name, GPU, memory, price, and rough time and price of this run."""
    return render("flavours", flavours=found, chosen=chosen, rough=rough, why=why, price=price, usd=usd)


@dataclass(frozen=True)
class Agreed:
    """What a person has been asked to say yes to: the fingerprint of what shall run, and the price an hour."""

    wish: str
    usd_per_hour: float


@dataclass(frozen=True)
class Offer:
    """What was looked at before a start that costs money: the checks, the bound and a guess of the price."""

    checks: list[Check]
    flavour: Flavor
    seconds: int
    rough: Estimate
    findings: list["Finding"]

    @property
    def most(self) -> float:
        return most(self.flavour.usd_per_hour, self.seconds)


def preflight(owner: Owner, config: RunConfig, flavour: str | None, timeout: str, job: work.Job) -> Offer:
    """Look at all that can be known before anything is paid. Raises UserError for what forbids the start."""
    job.report(None)
    config = import_data(config, owner, job.report, job.stop)
    checks, machine, base = look(config, owner, flavour or "", timeout)
    rough = estimate(config, owner, machine, base.parameters)
    findings = look_at(config, owner, base.reference, base.folder).findings
    return Offer(checks, machine, seconds_of(timeout), rough, findings)


def told(found: Offer, why: str = "") -> str:
    """The checks as a list, the most it can cost, what the token is used for, and what was found in the data; before
    it `why` this is asked again."""
    again = render("note", kind="ts-warn", title="", text=why) if why else ""
    offer = render("offer", offer=found, usd=usd, price=price)
    return again + offer + findings_table(found.findings, say("page.no_findings_model"))


def yes_to(found: Offer) -> dict:
    """The button that says the price."""
    return gr.update(visible=True, value=say("page.rent_for", usd=usd(found.most), flavour=found.flavour.title))


def options(where: str, flavour: str | None, timeout: str) -> str:
    """The place as options of the shell's `start`; nothing for this machine."""
    if where != RENTED:
        return ""
    return " " + shlex.join(["--on", "jobs", "--flavor", flavour or USUAL_FLAVOR, "--timeout", timeout.strip()])


def same_wish(*values: Any) -> str:
    """Return the fingerprint of every field."""
    return hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()


def agreed_price(agreed: Any, *values: Any) -> float:
    """The price an hour that a person said yes to. Raises UserError where that was for other values than these."""
    if not isinstance(agreed, Agreed) or agreed.wish != same_wish(*values):
        raise UserError("page.changed_wish")
    return agreed.usd_per_hour


def to_be_asked_again(error: UserError) -> bool:
    """Whether a job was refused since its price is not the one agreed to. Prices that moved are not remembered."""
    if error.code in ("job.price_changed", "job.not_for_rent"):
        _known.clear()
    return error.code == "job.price_changed"


def price(usd_per_hour: float) -> str:
    """A price an hour."""
    return say("page.an_hour", usd=usd(usd_per_hour))
