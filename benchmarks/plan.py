"""The plan against the run: peak memory and training time of six configs, estimated before and measured after.

    python -m benchmarks.plan ROWS.json [MODEL] [--only NAME ...]

The six were fixed before anything was measured. Each is planned with its calibration, then trained by the shell's own
command in a process of its own. The goal: each figure within 25 % of what came.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One config: its method, length limit, batch, and how many rows it takes (a tenth of them held out)."""

    name: str
    method: str
    length: int
    batch: int
    rows: int


CASES = (
    Case("lora-128x1", "lora", 128, 1, 128),
    Case("lora-512x8", "lora", 512, 8, 96),
    Case("lora-1024x4", "lora", 1024, 4, 64),
    Case("full-128x16", "full", 128, 16, 256),
    Case("full-512x2", "full", 512, 2, 48),
    Case("full-1024x16", "full", 1024, 16, 128),
)
