"""The data sources of a stage in a config."""

from pydantic import BaseModel, ConfigDict, model_validator

from finetune.config.mapping import Mapping
from finetune.config.problems import ONE_SOURCE, SOURCE_DETAIL, SOURCE_MAPPING, typed_problem


class Block(BaseModel):
    """A part of a config: frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSource(Block):
    """The source of a stage's rows: a local file, an imported dataset, or a dataset repository on the Hub.

    `mapping` says which column is which where that is not recognized. The config of a run names datasets only: files
    and repositories are imported when the run starts.
    """

    path: str | None = None
    dataset: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    mapping: Mapping | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "DataSource":
        if [self.path, self.dataset, self.hub].count(None) != 2:
            raise typed_problem(ONE_SOURCE)
        detail = [name for name in ("config", "split", "revision") if getattr(self, name) is not None]
        if detail and self.hub is None:
            raise typed_problem(SOURCE_DETAIL, detail=", ".join(detail))
        if self.mapping is not None and self.dataset is not None:
            raise typed_problem(SOURCE_MAPPING)
        return self
