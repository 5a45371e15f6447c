"""The machines for rent: requested from the Hub, from a table where it does not answer."""

import re
from dataclasses import replace
from typing import Any

from core import settings
from core.errors import UserError
from core.hub import reach
from core.hub.retries import again
from core.workspace import Owner
from finetune.launch.follow.api import in_words
from finetune.plan.machines import Flavor

_AN_HOUR = {"second": 3600, "minute": 60, "hour": 1}
_KNOWN = (
    Flavor("cpu-basic", "CPU Basic", None, 0, None, 16, 2, 0.01, 50),
    Flavor("cpu-upgrade", "CPU Upgrade", None, 0, None, 32, 8, 0.03, 50),
    Flavor("t4-small", "Nvidia T4 - small", "T4", 1, 16, 15, 4, 0.40, 50),
    Flavor("t4-medium", "Nvidia T4 - medium", "T4", 1, 16, 30, 8, 0.60, 100),
    Flavor("l4x1", "1x Nvidia L4", "L4", 1, 24, 30, 8, 0.80, 400),
    Flavor("a10g-small", "Nvidia A10G - small", "A10G", 1, 24, 14, 4, 1.00, 110),
    Flavor("a10g-large", "Nvidia A10G - large", "A10G", 1, 24, 46, 12, 1.50, 200),
    Flavor("l40sx1", "1x Nvidia L40S", "L40S", 1, 48, 62, 8, 1.80, 380),
    Flavor("a100-large", "Nvidia A100 - large", "A100", 1, 80, 142, 12, 2.50, 1000),
    Flavor("rtx-pro-6000", "Nvidia RTX PRO 6000", "RTX PRO 6000", 1, 96, 128, 16, 2.75, 1000),
    Flavor("a10g-largex2", "2x Nvidia A10G - large", "A10G", 2, 24, 92, 24, 3.00, 1000),
    Flavor("h200", "Nvidia H200", "H200", 1, 141, 256, 23, 5.00, 3000),
)
FALLBACK = tuple(replace(flavor, current=False) for flavor in _KNOWN)
"""The flavors known without the Hub, with prices of August 2026. The Hub's own table is used whenever it answers."""


def known_flavors(owner: Owner) -> list[Flavor]:
    """Return every machine for rent to be shown, cheapest first: where the Hub does not answer, those of the table
    here."""
    if settings.hub_offline() or not reach.reachable():
        return list(FALLBACK)
    try:
        return for_rent(owner)
    except UserError:
        return list(FALLBACK)


def for_rent(owner: Owner) -> list[Flavor]:
    """Return every machine for rent as the Hub lists it now, cheapest first. Raises UserError without an answer."""
    from huggingface_hub import HfApi

    from core.hub import retries

    retries.limit_time()
    client = HfApi(endpoint=reach.endpoint(), token=owner.token or False)
    with in_words(owner, "hardware"):
        found = again(lambda: client.list_jobs_hardware(token=owner.token or False))
    return sorted((_flavor(hardware) for hardware in found), key=lambda flavor: flavor.usd_per_hour)


def flavor_named(name: str, owner: Owner, agreed: float | None = None) -> Flavor:
    """Return the machine of that name, at its price now; `agreed` is the price per hour that a person confirmed.

    Raises UserError with the names there are, where the Hub does not list its prices, and where the price differs from
    the confirmed one.
    """
    known = for_rent(owner)
    found = next((flavor for flavor in known if flavor.name == name.strip().lower()), None)
    if found is None:
        names = ", ".join(flavor.name for flavor in known)
        if agreed is None:
            raise UserError("job.no_flavour", value=name[:40], known=names)
        raise UserError("job.not_for_rent", value=name[:40], agreed=_dollars(agreed), known=names)
    if agreed not in (None, found.usd_per_hour):
        raise UserError(
            "job.price_changed", value=found.name, agreed=_dollars(agreed), now=_dollars(found.usd_per_hour)
        )
    return found


def _dollars(amount: float) -> str:
    """Return a price with as many digits as it takes to see a change, at least two."""
    return f"{amount:.2f}" if round(amount, 2) == amount else f"{amount:.4f}"


def _flavor(hardware: Any) -> Flavor:
    """Return a row of the Hub's table as a Flavor. The Hub's GPU memory is that of all GPUs together."""
    gpu = hardware.accelerator
    count = int(_number(gpu.quantity) or 0) if gpu else 0
    memory = _number(gpu.vram) if gpu else None
    return Flavor(
        name=hardware.name,
        title=hardware.pretty_name,
        accelerator=gpu.model if gpu else None,
        gpus=count,
        gpu_memory_gb=memory / count if memory and count else None,
        memory_gb=_number(hardware.ram) or 0,
        cpus=int(_number(hardware.cpu) or 0),
        usd_per_hour=round(float(hardware.unit_cost_usd) * _AN_HOUR.get(hardware.unit_label, 60), 4),
        storage_gb=_number(hardware.ephemeral_storage),
    )


def _number(text: str) -> float | None:
    """Return the number in "46 GB" or "1 TB", in GB."""
    match = re.search(r"([\d.]+)\s*(T?)", str(text))
    return float(match[1]) * (1000 if match[2] else 1) if match else None
