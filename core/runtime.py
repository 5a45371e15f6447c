"""How this process runs: its threads, the kernels of torch that it uses, and what libraries may say."""

import logging
import os

SPINS = "1000"
"""How often an idle OpenMP thread looks for work before it sleeps: some 20 microseconds (libgomp)."""


def share_the_cores() -> None:
    """Let idle OpenMP threads sleep soon rather than spin; call it before torch is imported. Children inherit it.

    A run, a comparison and the page often share a few cores: spinning threads of one then keep the others from
    working, and a step takes many times its time. Those that sleep at once must be woken for every product: a column
    takes 1.6 times its time. Whoever sets `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` has the last word.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}


def no_bar_monitors() -> None:
    """Let no progress bar start tqdm's monitoring thread; call it before bars are made.

    tqdm starts that thread while it holds its lock and waits until it runs. Where the garbage collector happens to run
    in the new thread and ends an old bar, that bar wants the same lock, and neither goes on ever again.
    """
    from tqdm.std import tqdm

    tqdm.monitor_interval = 0


def no_planned_attention() -> None:
    """Let no attention on a GPU go through cuDNN; call it before a model runs.

    cuDNN plans a program for every length it has not met. A step of decoding has another length each time, and so has
    nearly every batch of a training, so that planning takes longer than all the rest; flash attention plans nothing.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def quiet_libraries() -> None:
    """Let bitsandbytes not warn, on CPUs with bfloat16 products, of a package that would make 4-bit weights faster.
    Call it before that is imported (peft does)."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
