"""The page served by this process, where its own process is not what a test is about: its environment is the test's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr

from ui import page, server
from ui.web.address import Address, choose


@dataclass
class Here:
    """A page that this process serves: its address, and the page itself, to look into."""

    url: str
    demo: gr.Blocks


@contextmanager
def served(address: Address | None = None) -> Iterator[Here]:
    """Build the page and serve it at a free port until the block ends. Nothing heavy is loaded in the background."""
    address = address or choose(["--port", "0"])
    demo = page.build()
    server.launch(demo, address)
    try:
        yield Here(address.url, demo)
    finally:
        demo.close(verbose=False)
