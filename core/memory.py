"""How a process treats memory that it has freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE, _NEVER = 2**30, 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the allocator keep large blocks that were freed, for the next ones of their kind; before torch is imported.

    glibc gives them back to the system at once and gets them again with every page faulted in anew: in training, where
    each step asks for the same blocks, that is a good part of the time (mallopt(3)). Returns whether it could be set:
    not where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE) and mallopt(_TRIM_THRESHOLD, _NEVER))
