"""Whether the client of the current request is still connected."""

from collections.abc import Callable

from gradio.context import LocalContext


def presence() -> Callable[[], bool]:
    """Return a function, for any thread, that tells whether the client of the current event is still connected.

    Gradio ends a generator whose client has disconnected; a plain function is not notified, so it asks here. Gradio
    marks the events of a session whose stream was cut.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return lambda: True

    def here() -> bool:
        at_work = [event for events in blocks._queue.active_jobs for event in events or ()]
        return all(event.alive for event in at_work if event._id == event_id)

    return here
