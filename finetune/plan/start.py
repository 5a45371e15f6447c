"""The plan that a start makes: quickly, from what is known, and the start is refused where it cannot fit."""

from typing import TYPE_CHECKING

from core.workspace import Owner, dataset_folder
from finetune.config.run_config import RunConfig
from finetune.plan.card import Plan

if TYPE_CHECKING:
    from inference.models.types import Fetched

LOOKED_AT = 300
"""Rows of a stage that are read as tokens: a start does not wait for more."""


def plan_for_start(config: RunConfig, owner: Owner, base: "Fetched") -> Plan:
    """What the run will take, by what was measured before where that was done. Raises UserError where nothing is left
    to learn from, or it surely does not fit into this machine's memory or disk."""
    from finetune.data.store import open_dataset
    from finetune.plan.planner import Planner
    from finetune.plan.prepare import Looked

    datasets = [
        [open_dataset(dataset_folder(owner, source.dataset or "")) for source in stage.data] for stage in config.stages
    ]
    plan = Planner.read(Looked(config, datasets, base), owner, LOOKED_AT).plan()
    refused = next((one for one in plan.advice if one.refused), None)
    if refused is not None:
        raise refused.error()
    return plan
