"""Long work behind a button: shown, stopped, and never overtaken by what is older."""

import threading

import pytest

from core.errors import UserError
from core.workspace import Owner
from inference.models.types import Progress
from ui.parts import job as work
from ui.web.handler import Caller, Superseded


@pytest.fixture
def caller(workspace):
    return Caller(Owner("local"), "en", "tab")


def run(caller, job, what="import"):
    return work.run(caller, what, job, lambda html: ("busy", html), lambda: ("idle", ""))


def drawn(items):
    """What was yielded, and what was returned."""
    seen = []
    while True:
        try:
            seen.append(next(items))
        except StopIteration as end:
            return seen, end.value


def test_the_result_comes_back_and_progress_is_shown_on_the_way(caller):
    go = threading.Event()

    def job(job):
        job.report(Progress("Fetching <b>", 5, 10, "steps"))
        go.wait()
        return 42

    items = run(caller, job)
    reported = next(html for state, html in items if state == "busy" and "Fetching" in html)
    go.set()
    assert "Fetching &lt;b&gt;" in reported and "5 / 10" in reported
    assert drawn(items)[1] == 42


def test_a_stop_ends_the_work_at_its_next_report(caller):
    def job(job):
        while True:
            job.report(Progress("on and on"))

    items = run(caller, job)
    next(items)
    work.stop(caller, "import")
    with pytest.raises(UserError, match="Stopped"):
        drawn(items)


def test_another_tab_cannot_stop_it(caller):
    go = threading.Event()
    items = run(caller, lambda job: go.wait() and job.stop.is_set())
    next(items)
    work.stop(Caller(caller.owner, "en", "another tab"), "import")
    go.set()
    assert drawn(items)[1] is False


def test_another_owner_cannot_stop_it_even_from_the_same_tab(caller):
    go = threading.Event()
    items = run(caller, lambda job: go.wait() and job.stop.is_set())
    next(items)
    work.stop(Caller(Owner("somebody"), "en", caller.session), "import")
    go.set()
    assert drawn(items)[1] is False


def test_a_closed_tab_stops_its_work(caller):
    stopped = threading.Event()
    items = run(caller, lambda job: job.stop.wait() and stopped.set())
    next(items)
    items.close()
    assert stopped.wait(60)


def test_older_work_does_not_overwrite_newer(caller):
    go = threading.Event()

    def failing(job):
        go.wait()
        raise UserError("page.stopped")

    older = run(caller, failing)
    next(older)
    newer = run(caller, lambda job: go.wait())
    next(newer)
    go.set()
    with pytest.raises(Superseded):
        drawn(older)
    assert drawn(newer)[1] is True
