"""The peak memory of a run, from what it trains and how large its batches are.

Weights and optimizer state are constant; what backward needs grows with the tokens of a batch. The same formulas hold
on a CPU, where the process itself is added, and on a GPU.
"""

from dataclasses import dataclass

from finetune.base_models.network import Network

CHUNK = 512
"""Positions whose logits exist at the same time."""
SHORT = 320
"""Rows up to this length keep their attention on a CPU."""
PROCESS = 600_000_000
"""Bytes of a process that has loaded torch and transformers, before any weight."""
CONTEXT = 500_000_000
"""Bytes that a GPU's driver takes for a process."""
FOUR_BIT = 0.53
"""Bytes of an NF4 weight with its double-quantized constants (Dettmers et al. 2023)."""
LOOSE = 1.1
"""The allocator's overhead: memory that it holds but cannot use."""


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how a run computes: `width` is the number of bytes of a number in the forward pass (2 or 4)."""

    width: int
    cpu: bool
    accumulation: int = 1
    recompute: bool = False
    processes: int = 1
    sharded: bool = False
    four_bit: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes that do not depend on the batch, and bytes that the largest batch takes."""

    standing: float
    moving: float

    @property
    def peak(self) -> float:
        return self.standing + self.moving


def memory(network: Network, batch: tuple[int, int], learned: float, settings: ComputeSettings) -> Memory:
    """Return the peak memory of a run whose largest batch is `batch` (sequences, tokens of each), of whose tokens the
    share `learned` carries loss.

    On a CPU it is that of all processes together, on GPUs that of each.
    """
    shares = settings.processes
    mine = (-(-batch[0] // shares), batch[1])
    standing = _standing(network, settings) + (PROCESS if settings.cpu else CONTEXT)
    moving = LOOSE * _moving(network, mine, learned, settings)
    return Memory(standing * (shares if settings.cpu else 1), moving * (shares if settings.cpu else 1))


def _standing(network: Network, settings: ComputeSettings) -> float:
    """Return the bytes of the weights, of the float32 masters where the arithmetic is 16-bit, and of Adam's two
    moments."""
    bytes_each = FOUR_BIT if settings.four_bit else settings.width
    weights = network.total * bytes_each
    masters = 4 if settings.width < 4 else 0
    state = network.trainable * (masters + 8)
    return (weights + state) / (settings.processes if settings.sharded else 1)


def _moving(network: Network, batch: tuple[int, int], learned: float, settings: ComputeSettings) -> float:
    """Return the bytes of the activations at the end of forward, or of the gradients at the end of backward, whichever
    is more; plus the logits."""
    exact = 4 if settings.width == 4 else settings.width + 4
    gradients = network.trainable * exact / (settings.processes if settings.sharded else 1)
    gathered = network.trainable * 4 if settings.accumulation > 1 else 0
    return max(activations(network, batch, settings) + gathered, gradients) + _logits(network, batch, learned, settings)


def activations(network: Network, batch: tuple[int, int], settings: ComputeSettings) -> float:
    """Return the bytes that backward needs of a batch's forward."""
    tokens = batch[0] * batch[1]
    norms = network.kept_exact * (4 if settings.width < 4 else 2 * settings.width)
    scores = network.heads * batch[1] * network.layers * settings.width if settings.cpu and batch[1] <= SHORT else 0
    whole = tokens * (network.kept * settings.width + norms + scores)
    if not settings.recompute:
        return whole
    return tokens * network.layers * network.width * settings.width + whole / network.layers


def _logits(network: Network, batch: tuple[int, int], learned: float, settings: ComputeSettings) -> float:
    """Return the bytes of the logits, their float32 copy, its softmax and their gradients, a chunk at a time where the
    head allows it."""
    tokens = batch[0] * batch[1]
    positions = min(CHUNK, max(tokens * learned, 1)) if network.gathers else tokens
    return positions * network.vocabulary * (2 * settings.width + 8)
