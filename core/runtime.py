"""How this process runs: its threads, the attention kernels of torch, and which messages of libraries are shown."""

import logging
import os

SPINS = "1000"
"""How often an idle OpenMP thread looks for work before it sleeps: some 20 microseconds (libgomp)."""


def share_the_cores() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning; call it before torch is imported. Children inherit it.

    A run, a comparison and the page often share a few cores: spinning threads of one then keep the others from working,
    and a step takes many times as long. Threads that sleep at once must be woken for every product: a column takes 1.6
    times as long. `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` in the environment takes precedence.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}


def no_bar_monitors() -> None:
    """Keep progress bars from starting tqdm's monitoring thread; call it before bars are made.

    tqdm starts that thread while it holds its lock and waits until it runs. If the garbage collector happens to run in
    the new thread and closes an old bar, that bar waits for the same lock: a deadlock.
    """
    from tqdm.std import tqdm

    tqdm.monitor_interval = 0


def no_planned_attention() -> None:
    """Disable cuDNN attention on GPUs; call it before a model runs.

    cuDNN plans a program for every new length. Each decoding step, and nearly every training batch, has another length,
    so that planning takes longer than all the rest; flash attention plans nothing.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def quiet_libraries() -> None:
    """Silence the warning of bitsandbytes, on CPUs with bfloat16 products, that another package would make 4-bit
    weights faster. Call it before bitsandbytes is imported (peft imports it)."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
