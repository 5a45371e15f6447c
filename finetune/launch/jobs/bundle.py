"""What travels to a job: the sources, pinned requirements, the datasets and the config, in a private dataset repo."""

import hashlib
import importlib.metadata
import io
import json
import re
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from core import words
from core.hub.retries import again
from core.workspace import Owner, dataset_folder
from finetune.config.run_config import RunConfig, to_yaml
from finetune.launch.follow.api import api, in_words, token_of

PROJECT = Path(__file__).parents[3]
PACKAGES = ("core", "finetune", "inference")
_SUFFIXES = {".py", ".json", ".jsonl", ".jinja", ".txt"}
_ROOTS = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "huggingface-hub",
    "safetensors",
    "tokenizers",
    "gguf",
    "pydantic",
    "pyarrow",
    "pandas",
    "pyyaml",
    "jinja2",
    "psutil",
    "numpy",
)
_NOT_PINNED = re.compile(r"gradio.*|nvidia-.*|triton|cuda-.*")
"""Left to the job: the page is not needed there, and GPU libraries are chosen by torch for the machine."""
_A_DAY_IN_1980 = (1980, 1, 1, 0, 0, 0)


def source_files(project: Path = PROJECT) -> list[Path]:
    """The program's own files, relative to `project`: those git tracks or, where there is no git, those of the packages
    by their suffix. What nobody added to git stays here."""
    command = ["git", "-C", str(project), "ls-files", "-z", "--cached", *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
        found = [Path(name) for name in done.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = []
    found = found or [path.relative_to(project) for name in PACKAGES for path in (project / name).rglob("*")]
    return sorted(
        path
        for path in found
        if path.suffix in _SUFFIXES and "__pycache__" not in path.parts and (project / path).is_file()
    )


def bundle(project: Path = PROJECT) -> tuple[bytes, str]:
    """The sources as a zip file, the same bytes for the same files, and its SHA-256."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in source_files(project):
            archive.writestr(zipfile.ZipInfo(path.as_posix(), _A_DAY_IN_1980), (project / path).read_bytes())
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()


@cache
def requirements() -> str:
    """Return the exact versions of this process's packages and of all that they need, as a requirements file."""
    from packaging.requirements import Requirement

    pinned: dict[str, str] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in pinned or _NOT_PINNED.fullmatch(name):
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        pinned[name] = found.version.partition("+")[0]
        needs = [Requirement(text) for text in found.requires or []]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return "".join(f"{name}=={version}\n" for name, version in sorted(pinned.items()))


def push_inputs(run_id: str, config: RunConfig, owner: Owner, repo_id: str, record: dict[str, Any]) -> tuple[str, str]:
    """Bring everything that the job of a run reads into the private dataset repo `repo_id`, in one commit.

    `record` goes into the run's `job.json` there. Returns the commit and the SHA-256 of the sources. Large files that
    are there already (the same sources, the same data) are not sent again. Raises UserError.
    """
    content, digest = bundle()
    files: dict[str, bytes | Path] = {f"sources/{digest}.zip": content}
    for source in config.sources:
        folder = dataset_folder(owner, str(source.dataset))
        files |= {f"datasets/{folder.name}/{path.name}": path for path in folder.iterdir() if path.is_file()}
    mine = f"runs/{run_id}"
    files[f"{mine}/config.yaml"] = to_yaml(config).encode()
    files[f"{mine}/requirements.txt"] = requirements().encode()
    record = {**record, "run": run_id, "source": digest, "locale": words.current()}
    files[f"{mine}/job.json"] = json.dumps(record, indent=2).encode()
    with in_words(owner, repo_id):
        made = again(lambda: _commit(owner, repo_id, f"Inputs of {run_id}", files))
    return made, digest


def _commit(owner: Owner, repo_id: str, message: str, files: dict[str, bytes | Path]) -> str:
    """Send the files; done twice it gives the same. Returns the commit."""
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    options: Any = {"repo_type": "dataset", "token": token_of(owner)}
    return str(api(owner).create_commit(repo_id, operations, commit_message=message, **options).oid)
