"""What the app writes about itself while runs are started, followed, stopped, gone on with and found elsewhere."""

import json
import re
import time
from dataclasses import dataclass

import httpx
import pytest

from finetune.runs.run import Run
from tests.ui.hub_models import HubHere
from tests.ui.people import Visitor, entry_of, file_data, filled

pytestmark = pytest.mark.ci

MARKER = "goldenrod-along-the-fence"
ROWS = [{"prompt": f"{MARKER} {number}", "response": f"{MARKER} {number}."} for number in range(12)]


@dataclass
class Written:
    """What the Space wrote, the Hub with this person on it, and the runs: here, rented, and as it was found again."""

    text: str
    hub: HubHere
    here: Run
    rented: Run
    found: Run

    def told(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def written(space, hub_process):
    """Somebody, with jobs of their own at the Hub, trains in the Space and rents; the rest of what it wrote is of
    others.

    Slow: a training and a rented run, whose job trains, too.
    """
    hub = hub_process.person("diarist")
    ada = Visitor(space, "80dd44ee55", token=hub.token)
    path = ada.upload("diary.jsonl", "\n".join(map(json.dumps, ROWS)).encode()).json()[0]
    assert ada.call(entry_of(space, "bring_file"), [file_data(path)])["success"]
    home = space.log.parent / "home" / ada.sub
    known = fields(home, space.model)
    here = train_here(ada, known, home)
    rented = rent(ada, known, home)
    found = find_again(hub, space, rented.id)
    return Written(space.log.read_text(), hub, here, rented, found)


def fields(home, model):
    dataset = next(item.name for item in (home / "datasets").iterdir() if item.name[0] != ".")
    quick = {"knob-limits-max_length": 64, "knob-optim-epochs": 400, "knob-watch-sample_tokens": 4}
    seen = {"knob-watch-samples": f"{MARKER}?", "knob-watch-evaluate_every": "2"}
    return {"place": "here", "train-on": [dataset], "knob-model": model, **quick, **seen}


def do(ada, name, known):
    """One entry in Ada's session; what it answered at last."""
    entry = entry_of(ada.app, name)
    assert ada.join(entry, filled(ada.app, entry, known)).status_code == 200
    said = [message for message in ada.read() if message["msg"] == "process_completed"]
    assert said[-1]["success"], said
    return json.dumps(said[-1]["output"])


def wait_for(look):
    while not (found := look()):
        time.sleep(0.1)
    return found


def run_in(said, home):
    return Run(home / "runs" / re.search(r"r\d+-\d+-\w+", said).group())


def samples(run):
    return [event for event in run.events()[0] if event["type"] == "sample"]


def train_here(ada, known, home):
    run = run_in(do(ada, "start", known), home)
    wait_for(lambda: samples(run) or not run.alive())
    assert MARKER in json.dumps(samples(run)), run.log_tail()
    named = {**known, "runs": run.id}
    assert MARKER in do(ada, "show_17", named)
    do(ada, "stop_run", named)
    run.wait()
    assert run.status().status == "stopped"
    do(ada, "resume_run", named)
    do(ada, "stop_run", named)
    run.wait()
    return run


def rent(ada, known, home):
    """The price, the yes, the job followed until it has written a sample, then stopped."""
    wish = {**known, "place": "jobs", "flavour": "cpu-basic", "timeout": "30m"}
    do(ada, "start", wish)
    run = run_in(do(ada, "rent", wish), home)
    wait_for(lambda: samples(run) or not run.alive())
    assert MARKER in json.dumps(samples(run)), run.status().error
    do(ada, "stop_run", {**wish, "runs": run.id})
    wait_for(lambda: run.progress().ending)
    return run


LOST = "r20260101-000000-abcd"
"""A run of which the Hub lists a job, with everybody's words in its labels, and no config."""


def find_again(hub, space, run_id):
    """The same person at the Hub with nothing yet in the Space: their job comes to them, and one does not that cannot
    be read. Returns the run as they have it there."""
    headers, place = {"Authorization": f"Bearer {hub.token}"}, f"{hub.url}/api/jobs/{hub.user}"
    (job,) = httpx.get(place, headers=headers).json()
    labels = {"made-by": "tunescope", "note": MARKER}
    spec = {**job, "command": ["echo", MARKER], "arguments": []}
    for run in (LOST, MARKER):
        httpx.post(place, headers=headers, json={**spec, "labels": {**labels, "tunescope": run}}).raise_for_status()
    again = Visitor(space, "80dd44ee66", token=hub.token)
    run = Run(space.log.parent / "home" / again.sub / "runs" / run_id)
    while not (run.folder / "job.json").is_file() or LOST not in space.log.read_text():
        assert again.call(entry_of(space, "refresh_1"), [None])["success"]
        time.sleep(0.1)
    wait_for(lambda: run.progress().ending)
    assert MARKER in json.dumps(again.call(entry_of(space, "show_17"), [run_id]))
    return run


def test_nothing_of_a_job_that_was_found_again_stands_in_what_the_app_wrote(written):
    assert MARKER in written.found.folder.joinpath("events.jsonl").read_text()
    assert list(written.found.datasets.glob("*/rows.parquet"))
    left = [line["run"] for line in written.told() if line["event"] == "job not attached"]
    assert left and set(left) == {LOST} and written.found.id == written.rented.id
    said = [line for line in written.text.splitlines() if "80dd44ee66" in line or MARKER in line]
    assert said == []


def test_nothing_of_data_prompts_or_samples_stands_in_it(written):
    for secret in (MARKER, written.hub.token, "80dd44ee55"):
        assert secret not in written.text, [line for line in written.text.splitlines() if secret in line][:3]
    calls = {line["handler"] for line in written.told() if line["event"] == "call"}
    assert {"start", "rent", "stop_run", "resume_run"} <= calls
    assert MARKER in written.here.folder.joinpath("events.jsonl").read_text()
    assert MARKER in written.rented.folder.joinpath("events.jsonl").read_text()
