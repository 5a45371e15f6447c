"""Communication of the processes that train one run together. For a single process it costs nothing."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import UserError

PATIENCE = timedelta(hours=6)
"""How long one process waits for the others: samples and checkpoints are written by the first alone."""
_BUCKET = 16 * 2**20


@dataclass(frozen=True)
class Team:
    """This process among `size`. Every process must call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes events, samples, checkpoints and the result."""
        return self.rank == 0

    def any(self, requested: bool) -> bool:
        """Return whether `requested` is true in any process."""
        return self._reduced(float(requested), dist.ReduceOp.MAX) > 0 if self.size > 1 else requested

    def sum(self, value: float) -> float:
        """Return the sum over all processes, in float64."""
        return self._reduced(value, dist.ReduceOp.SUM) if self.size > 1 else value

    def sum_all(self, values: Tensor) -> Tensor:
        """Sum a CPU tensor over all processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """Return the largest value of all processes."""
        return self._reduced(value, dist.ReduceOp.MAX) if self.size > 1 else value

    def wait(self) -> None:
        """Wait until every process calls this."""
        self.any(False)

    def average(self, gradients: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, some megabytes at a time."""
        for bucket in _buckets(gradients) if self.size > 1 else ():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            flat /= self.size
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def _reduced(self, value: float, operation: dist.ReduceOp.RedOpType) -> float:
        tensor = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        return tensor.item()


ALONE = Team()


def join(processes: int, device: str) -> Team:
    """Join the other processes of the run, over gloo on a CPU and NCCL on GPUs.

    Raises UserError where their number differs from `processes`: a launcher that started one process alone, or several
    that are not connected, would train something else.
    """
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != processes:
        raise UserError("run.processes_alone", value=processes, found=found)
    gpus = device == "cuda"
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    team = Team(dist.get_rank(), dist.get_world_size())
    met = round(team.sum(1))
    if (team.size, met) != (processes, processes):
        raise UserError("run.processes_alone", value=processes, found=met)
    return team


def lost_another(error: BaseException) -> bool:
    """Return whether a process failed only because another one was gone."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(name in text for name in ("gloo", "nccl", "connection reset"))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield lists of tensors of one dtype and device, up to the size of a bucket."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        alike = not bucket or (bucket[0].dtype, bucket[0].device) == (tensor.dtype, tensor.device)
        if bucket and (not alike or sum(held.numel() for held in bucket) + tensor.numel() > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
