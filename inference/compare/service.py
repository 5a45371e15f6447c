"""The entry points for the page and the shell: a comparison from what a person typed, and its check by `generate`.

    for verdict in replay(request, result, owner, shelf):
        print(verdict.column, verdict.sentence)

Both run where the models can: in this process, or on the GPU that a ZeroGPU Space lends.
"""

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.errors import UserError
from core.workspace import Owner
from inference.compare import zerogpu
from inference.compare.fair_queue import Turn
from inference.compare.request import CompareRequest, check_request
from inference.compare.work import PreparedComparison, locate_models, run_columns, with_progress
from inference.events import Event, Result

if TYPE_CHECKING:
    from inference.compare.replay import Verdict
    from inference.models.cache import Shelf


def run_comparison(
    request: CompareRequest,
    owner: Owner,
    shelf: "Shelf",
    stop: threading.Event | None = None,
    turn: Turn | None = None,
) -> Iterator[Event]:
    """Check, fetch, load and run a comparison; yield everything as events, of which `Done` is the last.

    With a `turn`, it waits for it between fetching and loading. Raises UserError for what a person can fix, before
    anything is loaded if possible.
    """
    specs = check_request(request)
    began = time.perf_counter()
    groups = yield from with_progress(lambda report: locate_models(request, specs, owner, report, stop))
    if turn is not None and not turn.take(stop or threading.Event()):
        raise UserError("models.stopped")
    prepared = PreparedComparison(request, groups, began)
    yield from zerogpu.run_columns(prepared, stop) if zerogpu.ready() else run_columns(prepared, shelf, stop)


def replay(
    request: CompareRequest, result: Result, owner: Owner, shelf: "Shelf", stop: threading.Event | None = None
) -> Iterator["Verdict"]:
    """Run each column of a finished comparison again with plain `generate` on plain modules, and yield the verdicts.

    `stop` ends it between two columns. Raises UserError if a model can no longer be found or loaded.
    """
    from inference.compare.work import prepare_comparison

    prepared = prepare_comparison(request, owner, stop)
    if zerogpu.ready():
        yield from zerogpu.check(prepared, result, stop)
    else:
        from inference.compare.replay import check_columns

        yield from check_columns(prepared, result, range(len(result.columns)), shelf, stop)
