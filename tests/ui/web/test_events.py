"""What Gradio does beside each event, which nobody asked for, costs no time."""

from gradio.queueing import Queue

from tests.app_process import call
from tests.ui.here import served
from tests.ui.people import entry_of


def test_no_table_of_all_past_events_is_made_after_each(workspace, monkeypatch):
    tables = []
    monkeypatch.setattr(Queue, "_get_df", lambda queue, records: tables.append(len(records)))
    with served() as page:
        for _ in range(3):
            assert call(page, entry_of(page, "runs_line"), [])["success"]
        assert page.demo._queue.event_analytics
    assert tables == []
