"""Serving the page: launch settings, the reader's language, and loading heavy libraries once the page is up."""

import os
import tempfile
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from core import limits, logs
from core.errors import UserError
from core.words import say
from finetune.backup import keeper
from finetune.backup.place import BackupPlace
from ui import page
from ui.parts import preload
from ui.parts.theme import THEME
from ui.web import sessions
from ui.web.address import USER, Address
from ui.web.gate import Gate
from ui.web.language import ReadersLanguage
from ui.web.ownership import Bindings, Uploads

STATIC = Path(__file__).parent / "static"
SESSIONS = 1_000
"""The number of browser tabs whose state is kept, about 1 MB each; Gradio's default is ten times as many."""
EVENTS_A_SUMMARY = 10**9
"""Gradio groups all its past events in a table after each event, for a monitoring page that is not served here. By
the number of events between two summaries this never happens. At 100 events it took 0.15 s of CPU for each."""
THREADS = 120
"""Each running or waiting comparison needs a thread at times; with Gradio's 40 the rest of the page would wait, too."""


def serve(address: Address, copies: BackupPlace | None = None) -> int:
    """Serve until interrupted; print exactly one line, with the address. Return the exit code.

    `copies` is the backup of the workspace: it is copied there, and restored from there.
    """
    keeper.start(copies)
    demo = page.build()
    try:
        launch(demo, address)
    except OSError as error:
        raise UserError("page.port_taken", host=address.host, port=address.port, reason=str(error)) from None
    print(say("page.open", url=address.url), flush=True)
    logs.adopt()
    logs.event("open", threads=THREADS)
    threading.Thread(target=preload.warm_up, name="warm-up", daemon=True).start()
    demo.block_thread()
    return 0


def _uploads() -> Path:
    """Return the folder for uploaded files (`GRADIO_TEMP_DIR`); if it is not set, set it to Gradio's default."""
    usual = (Path(tempfile.gettempdir()) / "gradio").resolve()
    return Path(os.environ.setdefault("GRADIO_TEMP_DIR", str(usual)))


def launch(demo: gr.Blocks, address: Address) -> None:
    """Start the server in the background, with nothing recorded, counted, shared or said."""
    sessions.use()
    most, bindings = limits.bound("upload"), Bindings()
    uploads = Uploads(_uploads(), bindings)
    uploads.publish(demo.get_config_file())
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(EVENTS_A_SUMMARY))
    demo.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    demo.launch(
        server_name=address.host,
        server_port=address.port,
        auth=(USER, address.password) if address.password else None,
        auth_message=say("page.password") if address.password else None,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=True,
        run_history=False,
        enable_monitoring=False,
        max_file_size=None if most is None else most * limits.MB,
        max_threads=THREADS,
        state_session_capacity=SESSIONS,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=THEME,
        css_paths=sorted(STATIC.parent.rglob("static/*.css"), key=lambda path: Path(path).name),
        favicon_path=STATIC / "icon.svg",
        strict_cors=True,
        app_kwargs={"middleware": [Middleware(ReadersLanguage), Middleware(Gate, uploads=uploads, bindings=bindings)]},
    )
