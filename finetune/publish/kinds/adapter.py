"""The adapter as training saved it: small, and only useful with its base model, named as others find it."""

import shutil
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_json
from core.words import say
from finetune.publish.card.facts import base_of
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.trained_run import ADAPTER_CONFIG, adapter, done
from finetune.publish.kinds.request import Cost, PreparedBuild, Request


def prepare(request: Request) -> PreparedBuild:
    """Prepare the adapter's files. Raises UserError for a run without an adapter. What may go is checked by the
    plan."""
    run = request.run
    done(run)
    if not adapter(run):
        raise UserError("kinds.no_adapter", run=run.id)
    base = base_of(run, request.owner)
    files = {
        path.relative_to(run.model).as_posix(): path.stat().st_size
        for path in sorted(run.model.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "README.md"
    }

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        for name, size in files.items():
            progress.step(say("kinds.copying", file=name))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.model / name, folder / name)
            progress.add(size)
        settings = {**read_json(folder / ADAPTER_CONFIG), "revision": base.revision}
        settings["base_model_name_or_path"] = base.hub_id or base.name
        write_json(folder / ADAPTER_CONFIG, settings)
        return {"base": base.hub_id or base.name, "rank": settings.get("r"), "targets": settings.get("target_modules")}

    return PreparedBuild(Cost(files), write)
