"""The parent's side of the fresh process: send the order, read its answers, end it when a stop is requested."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from inference.models.types import Progress, Report

MARK = "@proof "
"""The prefix of lines meant for the parent: progress and, at the end, the answer."""
_ROOT = Path(__file__).parents[3]
_LEFT_OUT = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_XET_CACHE",
)


def ask(order: dict[str, Any], progress: Report | None, stop: threading.Event | None) -> dict[str, Any]:
    """Run the child on an order; pass its progress on, return its answer."""
    environment = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    environment |= {"HF_HOME": f"{order['folder']}/home", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    with tempfile.TemporaryFile("w+", dir=order["folder"]) as complaints:
        child = subprocess.Popen(
            [settings.python(), "-m", "finetune.publish.proof.prover"],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        ended = threading.Event()
        watcher = threading.Thread(target=_end_when_stopped, args=(child, stop, ended), daemon=True)
        watcher.start()
        try:
            answer = _listen(child, order, progress)
        finally:
            ended.set()
            child.kill()
            child.wait()
            watcher.join()
        if stop is not None and stop.is_set():
            raise UserError("publish.stopped")
        complaints.seek(0)
        return _checked(answer, order, complaints.read())


def _end_when_stopped(child: subprocess.Popen, stop: threading.Event | None, ended: threading.Event) -> None:
    while stop is not None and not ended.wait(0.2):
        if stop.is_set():
            child.kill()
            return


def _listen(child: subprocess.Popen, order: dict[str, Any], progress: Report | None) -> dict[str, Any]:
    """Send the order and read until the child has answered or ended."""
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps(order))
        child.stdin.close()
    except BrokenPipeError:
        return {}
    answer: dict[str, Any] = {}
    for line in child.stdout:
        if not line.startswith(MARK):
            continue
        answer = json.loads(line.removeprefix(MARK))
        if "progress" in answer and progress is not None:
            progress(Progress(answer["progress"], answer["done"], answer["total"]))
    return answer


def _checked(answer: dict[str, Any], order: dict[str, Any], complaints: str) -> dict[str, Any]:
    """Return the child's result. Raises the UserError it reported, or one where it ended without an answer."""
    if "code" in answer:
        raise UserError(answer["code"], **answer["facts"])
    if "files" not in answer:
        lines = complaints.replace(order["token"], "***").strip().splitlines()
        raise UserError("publish.proof_broke", repo=order["repo_id"], reason=(lines or ["-"])[-1][:200])
    return answer
