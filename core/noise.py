"""What libraries say at their import that nobody here can act on."""

import logging


def quiet_libraries() -> None:
    """Let bitsandbytes not warn, on CPUs with bfloat16 products, of a package that would make 4-bit weights faster.
    Call it before that is imported (peft does)."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
