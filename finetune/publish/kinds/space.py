"""A demo Space: a small Gradio app in which visitors chat with the published model, streaming its answers."""

from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import write_file
from core.references import Hub, parse
from core.words import say, speaking
from finetune.publish.card.facts import base_of, known_license
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.trained_run import adapter, done
from finetune.publish.kinds import presets
from finetune.publish.kinds.request import Cost, PreparedBuild, Request
from finetune.publish.kinds.templates import program, rendered
from finetune.publish.repo.records import read_push

PYTHON = "3.12"
SDK = "6.31.0"
_SIZE = 8 * 1024
_PREFIX = {"app.py": "space/app.py.jinja", "requirements.txt": "space/requirements.txt.jinja"}


def prepare(request: Request) -> PreparedBuild:
    """Prepare the Space. Raises UserError where no model was published yet, its base model is not on the Hub, or the
    name is not a repository's."""
    run = request.run
    done(run)
    column = presets.first(request.options.columns)
    decoding = presets.generation_config(column) if column else {"do_sample": False}
    repo_id, revision = _published(request)
    with speaking("en"):
        base = base_of(run, request.owner)
    if adapter(run) and not request.options.repo_id and not base.hub_id:
        raise UserError("kinds.base_elsewhere", base=base.name)
    values = {
        "repo_id": repo_id,
        "revision": revision,
        "decoding": decoding,
        "title": repo_id.split("/")[1],
        "base": base.hub_id or base.name,
    }
    license_key = known_license(base, request.owner).key

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        for name, template in _PREFIX.items():
            progress.step(say("kinds.writing", file=name))
            write_file(folder / name, program(template, **values))
            progress.add(_SIZE)
        head = _head(values, license_key)
        write_file(folder / "README.md", rendered("space/README.md.jinja", head, ("repo_id", "base"), **values))
        return {**values, "python": PYTHON, "sdk": SDK, "license": license_key}

    return PreparedBuild(Cost(dict.fromkeys((*_PREFIX, "README.md"), _SIZE)), write)


def _published(request: Request) -> tuple[str, str | None]:
    """Return the repository to show: the one named, or that of the run's last push."""
    if request.options.repo_id:
        reference = parse(request.options.repo_id, request.owner)
        if not isinstance(reference, Hub):
            raise UserError("publish.repo_name", value=request.options.repo_id[:120])
        return reference.repo_id, reference.revision
    pushed = read_push(request.run)
    if pushed is None:
        raise UserError("kinds.not_published", run=request.run.id)
    return pushed.repo_id, pushed.commit


def _head(values: dict[str, Any], license_key: str | None) -> str:
    import yaml

    head = {
        "title": values["title"][:60],
        "emoji": "🔭",
        "colorFrom": "indigo",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": SDK,
        "python_version": PYTHON,
        "app_file": "app.py",
        "short_description": "Chat with a model fine-tuned with Tunescope",
        "models": [values["repo_id"]],
        **({"license": license_key} if license_key else {}),
    }
    return yaml.safe_dump(head, allow_unicode=True, sort_keys=False)
