"""The jobs of the Hub stand-in: each really runs its command as a child process in a session of its own."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import settings
from tests.warm.start import VARIABLES

if TYPE_CHECKING:
    from tests.hub.standin import HubStandIn

ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
KIND_OF_VOLUME = {"dataset": "datasets", "model": "models", "space": "spaces"}


@dataclass
class Job:
    """A job as it was asked for (`spec`), who asked, what its process printed (with the time) and how it stands."""

    id: str
    namespace: str
    token: str
    spec: dict[str, Any]
    folder: Path
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    def say(self, line: str) -> None:
        with self.news:
            self.lines.append((time.time(), line))
            self.news.notify_all()

    def end(self, stage: str, message: str | None = None) -> None:
        """The first ending counts."""
        with self.news:
            if not self.ended:
                self.stage, self.message, self.finished = stage, message, time.time()
            self.news.notify_all()

    def signal(self, number: int) -> None:
        """To every process of the job, while it is at work."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def wait(self) -> None:
        """Until the job has ended and its process is gone."""
        with self.news:
            self.news.wait_for(lambda: self.ended)
        if self.process is not None:
            self.process.wait()


class Jobs:
    """What the stand-in runs. `hold` keeps new jobs in the stage SCHEDULING until it is set; while `mute` is set, jobs
    start, but whoever asks for them gets no answer."""

    def __init__(self, hub: "HubStandIn", folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.all: dict[str, Job] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.mute = False
        self._threads: list[threading.Thread] = []

    def start(self, namespace: str, token: str, spec: dict[str, Any]) -> Job:
        job_id = secrets.token_hex(12)
        return self.take_up(Job(job_id, namespace, token, spec, self.folder / job_id))

    def take_up(self, job: Job) -> Job:
        """Run a job that is described already."""
        self.all[job.id] = job
        thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return job

    @property
    def newest(self) -> Job:
        return list(self.all.values())[-1]

    def kill(self, job: Job) -> None:
        """The machine under the job dies, as soon as it works."""
        with job.news:
            job.news.wait_for(lambda: job.started or job.ended)
        job.signal(signal.SIGKILL)
        job.wait()

    def cancel(self, job: Job) -> None:
        """Somebody ends the job: from the Hub's page, or through the API."""
        job.end("CANCELED")
        job.signal(signal.SIGKILL)

    def time_out(self, job: Job) -> None:
        """The job's time is up."""
        job.end("ERROR", "Job timeout")
        job.signal(signal.SIGKILL)

    def lose(self, job: Job) -> None:
        """The Hub forgets that there was such a job."""
        job.end("DELETED")
        job.signal(signal.SIGKILL)
        del self.all[job.id]

    def close(self) -> None:
        self.hold.set()
        for job in list(self.all.values()):
            job.end("DELETED")
            job.signal(signal.SIGKILL)
        for thread in self._threads:
            thread.join()

    def _run(self, job: Job) -> None:
        self.hold.wait()
        if job.ended:
            return
        job.folder.mkdir(parents=True)
        mounts = {volume["mountPath"]: self._mount(job, volume) for volume in job.spec.get("volumes", [])}
        job.say("===== Job started at " + time.strftime("%Y-%m-%d %H:%M:%S") + " =====")
        job.process = subprocess.Popen(
            [_inside(word, mounts) for word in job.spec["command"] + job.spec["arguments"]],
            cwd=job.folder,
            env=self._environment(job, mounts),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with job.news:
            job.started = time.time()
            job.stage = job.stage if job.ended else "RUNNING"
            job.news.notify_all()
        if job.ended:
            job.signal(signal.SIGKILL)
        self._watch(job)

    def _watch(self, job: Job) -> None:
        """Read what the job prints until it ends, in time or not."""
        assert job.process is not None and job.process.stdout is not None
        timer = threading.Timer(job.spec.get("timeoutSeconds", 1800), self.time_out, (job,))
        timer.daemon = True
        timer.start()
        for line in job.process.stdout:
            job.say(line.decode(errors="replace").rstrip("\n"))
        status = job.process.wait()
        timer.cancel()
        job.end(
            "COMPLETED" if status == 0 else "ERROR", None if status == 0 else f"Job failed with exit code: {status}"
        )

    def _mount(self, job: Job, volume: dict[str, Any]) -> Path:
        """The files of a repository at a revision, as read-only files of this machine."""
        folder = job.folder / "mounted" / volume["mountPath"].strip("/")
        repo = self.hub.repos[KIND_OF_VOLUME[volume["type"]], volume["source"]]
        commit = repo.at(volume.get("revision") or "main")
        assert commit is not None, volume
        for path, entry in commit.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.hub.blobs.path(entry.sha256), target)
            target.chmod(0o444)
        return folder

    def _environment(self, job: Job, mounts: dict[str, Path]) -> dict[str, str]:
        """As in a container: nothing of the machine's own but the Python of these tests, and no other packages."""
        given = {name: _inside(str(value), mounts) for name, value in job.spec["environment"].items()}
        return {
            "PATH": f"{Path(settings.python()).parent}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            **{name: os.environ[name] for name in VARIABLES if name in os.environ},
            "HOME": str(job.folder / "home"),
            "TMPDIR": str(job.folder),
            "LANG": "C.UTF-8",
            "JOB_ID": job.id,
            "ACCELERATOR": "",
            "CPU_CORES": "2",
            "MEMORY": "16Gi",
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **given,
            **job.spec.get("secrets", {}),
        }


def _inside(text: str, mounts: dict[str, Path]) -> str:
    """A text of the job with its mounted folders where they lie on this machine."""
    for mount_path, folder in mounts.items():
        text = re.sub(rf"(?<![\w/.]){re.escape(mount_path)}(?![\w.-])", str(folder), text)
    return text
