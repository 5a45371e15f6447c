"""The specification of a job: its command, labels, volumes and time limit, and a process for each of its GPUs."""

import sys
from typing import TYPE_CHECKING, Any

from core.workspace import Owner
from finetune.config.run_config import RunConfig, load_yaml, to_yaml
from finetune.launch.follow.api import LABEL, token_of
from finetune.plan.machines import Flavor
from finetune.runs.job_record import JobRecord

if TYPE_CHECKING:
    from finetune.runs.run import Run


def specification(run: "Run", record: JobRecord, owner: Owner) -> dict[str, Any]:
    """Return the arguments of `run_job`. The caller's token goes into the job's secrets and nowhere else."""
    from huggingface_hub import Volume

    mine = f"/inputs/runs/{run.id}"
    source = f"/inputs/sources/{record.source}.zip"
    script = (
        "set -e\n"
        f'echo "{record.source}  {source}" | sha256sum --check --status\n'
        f"python -m pip install --quiet --no-cache-dir --root-user-action=ignore -r {mine}/requirements.txt\n"
        'cd "${TMPDIR:-/tmp}"\n'
        f"python -m zipfile -e {source} tunescope\n"
        "cd tunescope\n"
        f"exec python -m finetune.launch.inside /inputs {run.id}\n"
    )
    volume = Volume(type="dataset", source=record.inputs, mount_path="/inputs", revision=record.commit, read_only=True)
    return {
        "image": f"python:{sys.version_info.major}.{sys.version_info.minor}",
        "command": ["bash", "-c", script],
        "env": {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"},
        "secrets": {"HF_TOKEN": token_of(owner)},
        "flavor": record.flavour,
        "timeout": record.timeout,
        "name": f"tunescope-{run.id}",
        "labels": {"made-by": LABEL, LABEL: run.id, f"{LABEL}-attempt": str(record.attempt)},
        "volumes": [volume],
        "namespace": record.namespace,
        "token": token_of(owner),
    }


def with_processes(config: RunConfig, machine: Flavor) -> RunConfig:
    """Return the config with a process for each GPU, where it does not set how many."""
    if machine.gpus < 2 or "processes" in config.compute.model_fields_set:
        return config
    compute = config.compute.model_copy(update={"processes": machine.gpus})
    return load_yaml(to_yaml(config.model_copy(update={"compute": compute})))
