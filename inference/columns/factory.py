"""Which column runs a spec: a table by its kind."""

from collections.abc import Callable

from inference.columns.base import Column, ColumnContext
from inference.columns.beams import BeamColumn
from inference.columns.contrastive import ContrastColumn, ContrastiveColumn, DolaColumn
from inference.columns.diverse_beams import DiverseBeamColumn
from inference.columns.dynamic_beams import DynamicBeamColumn
from inference.columns.lookup import LookupColumn
from inference.columns.single import GreedyColumn, SampleColumn
from inference.strategies.table import ColumnSpec

KINDS: dict[str, Callable[[ColumnSpec, ColumnContext], Column]] = {
    "greedy": GreedyColumn,
    "sample": SampleColumn,
    "beam": BeamColumn,
    "diverse_beam": DiverseBeamColumn,
    "dynamic_beam": DynamicBeamColumn,
    "contrastive": ContrastiveColumn,
    "contrast": ContrastColumn,
    "dola": DolaColumn,
    "lookup": LookupColumn,
}


def make_column(spec: ColumnSpec, context: ColumnContext) -> Column:
    """Return the column that runs a spec."""
    return KINDS[spec.kind](spec, context)
