"""How the threads of the arithmetic behave towards other processes on the machine."""

import os


def share_the_cores() -> None:
    """Let idle OpenMP threads sleep rather than spin; call it before torch is imported. Children inherit it.

    A run, a comparison and the page often share a few cores: spinning threads of one then keep the others from
    working, and a step takes many times its time. Whoever sets `OMP_WAIT_POLICY` has the last word.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
