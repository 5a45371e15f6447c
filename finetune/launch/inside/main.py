"""The program of a rented job: makes a workspace, trains, prints events, uploads checkpoints and the result.

python -m finetune.launch.inside INPUTS_FOLDER RUN_ID
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from core import settings, words
from core.errors import UserError
from core.files import read_json, write_json
from core.references import Hub, parse
from core.runtime import no_bar_monitors, quiet_libraries
from core.workspace import Owner
from finetune.launch.follow.files import bring_folder, checkpoint_steps
from finetune.launch.follow.lines import ENDINGS, ENVIRONMENT
from finetune.launch.inside.keep import Uploader
from finetune.launch.inside.tell import EventPrinter
from finetune.runs.run import Run

TICK_SECONDS = 0.3
PROJECT = Path(__file__).parents[3]
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")


class RentedJob:
    """One rented job: `record` is its job.json, `run` its run folder in a workspace of its own."""

    def __init__(self, inputs: Path, run_id: str, token: str) -> None:
        self.inputs, self.token = inputs, token
        self.record = read_json(inputs / "runs" / run_id / "job.json")
        self.owner = Owner("local", token)
        self.run = Run(self.owner.runs / run_id)
        self.stop = threading.Event()
        self.printer = EventPrinter(token)
        self.uploader = Uploader(self.run, self.record, token, self.printer)
        self.cursor = 0
        self.ending: dict[str, Any] | None = None

    def execute(self) -> int:
        """Run the job from an empty machine to the end of the run. Returns 0 where it is done or stopped, 1 where it
        failed."""
        words.speak(self.record.get("locale", "en"))
        self._make_workspace()
        self._bring_base()
        self._bring_checkpoint()
        threading.Thread(target=self._listen, daemon=True).start()
        self._train()
        return self._end()

    def _make_workspace(self) -> None:
        """Copy data and config as they were where the job was started."""
        shutil.copytree(self.inputs / "datasets", self.owner.datasets, dirs_exist_ok=True)
        self.run.folder.mkdir(parents=True)
        shutil.copyfile(self.inputs / "runs" / self.run.id / "config.yaml", self.run.folder / "config.yaml")

    def _bring_base(self) -> None:
        """Fetch the pinned base model with the job's token; training itself has no token and uses no network."""
        from inference.models import hub_files
        from inference.models.fingerprint import fingerprint

        base = parse(self.record["base"], self.owner)
        assert isinstance(base, Hub), "a job starts from a repository"
        listing = hub_files.list_files(base, self.token, self.owner)
        if listing is None:
            raise hub_files.unreachable(base)
        folder = hub_files.download(listing, hub_files.small_files(listing), self.token, None, None)
        hub_files.download(listing, hub_files.weight_names(sorted(listing.sizes), folder), self.token, None, None)
        self._record(fingerprint(folder))

    def _record(self, found: str) -> None:
        then = self.record.get("fingerprint")
        if then and then != found:
            facts = {"base": self.record["base"], "now": found[:12], "then": then[:12]}
            raise UserError("run.base_changed", value=self.run.id, **facts)
        recorded = {name: self.record[name] for name in ("base", "asked", "revision")}
        write_json(self.run.folder / "env.json", {**recorded, "fingerprint": found, "stand_in": False})

    def _bring_checkpoint(self) -> None:
        """Fetch the newest checkpoint that an earlier job of the run uploaded."""
        steps = checkpoint_steps(self.uploader.files())
        if steps:
            name = f"checkpoint-{steps[-1]}"
            self.run.checkpoints.mkdir()
            source = f"checkpoints/{name}"
            client = self.uploader.client
            bring_folder(client, self.token, self.record["results"], source, self.run.checkpoints / name)
            self.uploader.uploaded_step = steps[-1]

    def _listen(self) -> None:
        """Poll whether a stop was requested."""
        while not self.stop.is_set():
            if self.uploader.stop_requested():
                self.stop.set()
            self.stop.wait(self.record["poll_seconds"])

    def _train(self) -> None:
        """Run the training as a child process and pass on its output and events until it ends."""
        child = subprocess.Popen(
            [settings.python(), "-m", "finetune", "train", self.run.id],
            cwd=PROJECT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        relay = threading.Thread(target=self.printer.relay, args=(child.stdout,))
        relay.start()
        signaled = False
        while True:
            try:
                child.wait(TICK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                self._pass_on()
            if self.stop.is_set() and not signaled:
                signaled = True
                child.send_signal(signal.SIGTERM)
        relay.join()
        self._pass_on()

    def _pass_on(self) -> None:
        """Print new events; the last one waits until what it reports is uploaded."""
        events, self.cursor = self.run.events(self.cursor)
        for event in events:
            if event["type"] in ENDINGS:
                self.ending = event
                continue
            self.printer.tell(event)
            if event["type"] == "started":
                self.printer.tell({"t": event["t"], "type": ENVIRONMENT, "environment": self.run.environment()})
            if event["type"] == "checkpoint":
                self.uploader.wake(event["step"])

    def _end(self) -> int:
        """Upload what is left, then print the last event; a child that died without one gets "stopped" where a stop was
        requested."""
        if self.ending is None and self.stop.is_set():
            self.ending = {"t": round(time.time(), 3), "type": "stopped", "step": self.uploader.uploaded_step or 0}
        self.uploader.finish(self.ending)
        if self.ending is None:
            return 1
        self.printer.tell(self.ending)
        return int(self.ending["type"] == "failed")


def _environment() -> dict[str, str]:
    """Return the job's environment without secrets; the base model is in the cache, so the Hub is not needed."""
    kept = {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in _SECRETS)}
    return kept | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "PYTHONUNBUFFERED": "1"}


def main() -> int:
    """Run the job. The token is removed from the environment first, so that no child inherits it."""
    inputs, run_id = Path(sys.argv[1]), sys.argv[2]
    token = os.environ.pop("HF_TOKEN")
    no_bar_monitors()
    quiet_libraries()
    os.environ["TUNESCOPE_HOME"] = str(Path.cwd().parent / "tunescope-home")
    job = RentedJob(inputs, run_id, token)

    def on_signal(number: int, frame: FrameType | None) -> None:
        job.stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    try:
        return job.execute()
    except UserError as error:
        job.printer.fail(str(error))
    except Exception as error:
        job.printer.say(traceback.format_exc())
        message = " ".join(str(error).replace(token, "***").split())[:200]
        job.printer.fail(words.say("run.bug", kind=type(error).__name__, message=message))
    return 1


if __name__ == "__main__":
    sys.exit(main())
