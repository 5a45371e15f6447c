"""What `python -m finetune` offers. Results go to stdout, all else to stderr; nothing heavy is imported early."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import cli
from core.errors import UserError
from core.words import counted, say
from core.workspace import RUN_ID, local_owner
from finetune.cli import check as check_shell
from finetune.cli import evaluate as evaluate_shell
from finetune.cli import models as models_shell
from finetune.cli.check import config_of
from finetune.cli.jobs import (
    flavor_lines,
    job_flags,
    job_json,
    job_line,
    rented,
    resume_job,
    start_job,
    stop_job,
    sync_all,
)
from finetune.cli.terminal import print_json, show_progress
from finetune.runs.job_record import job_of


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return cli.run(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("python -m finetune", description=say("run.help.program"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = _command(commands, "check", check_shell.check)
    check.add_argument("file", type=Path, help=say("run.help.file"))
    _json_flag(check)
    _set_flag(check)
    check_shell.mapping_flag(check)
    job_flags(check, place=True)
    check_shell.plan_flag(check)
    for name, run in (("train", _train), ("start", _start)):
        command = _command(commands, name, run)
        command.add_argument("file", type=Path, metavar="CONFIG", help=say("run.help.config"))
        _set_flag(command)
    job_flags(commands.choices["start"], place=True)
    _json_flag(_command(commands, "list", _list))
    _json_flag(_command(commands, "flavors", _flavors))
    models = _command(commands, "models", models_shell.run)
    models_shell.add_arguments(models)
    _json_flag(models)
    _command(commands, "attach", _attach)
    preset = _command(commands, "preset", _preset)
    preset.add_argument("name", nargs="?", metavar="NAME", help=say("presets.help_name"))
    preset.add_argument("files", nargs="*", metavar="FILE", help=say("presets.help_files"))
    for name, run in (
        ("status", _status),
        ("stop", _stop),
        ("resume", _resume),
        ("keep", _keep),
        ("publish", _publish),
    ):
        _command(commands, name, run).add_argument("which", metavar="RUN", help=say("run.help.run"))
    _command(commands, "delete", _delete).add_argument("which", metavar="ID", help=say("run.help.delete_id"))
    _json_flag(commands.choices["status"])
    evaluate = _command(commands, "evaluate", evaluate_shell.run)
    evaluate.add_argument("which", metavar="RUN", help=say("run.help.run"))
    evaluate_shell.add_arguments(evaluate)
    _json_flag(evaluate)
    job_flags(commands.choices["resume"], place=False)
    publish = commands.choices["publish"]
    publish.add_argument("repo", metavar="REPO", help=say("run.help.repo"))
    publish.add_argument("--public", action="store_true", help=say("run.help.public"))
    publish.add_argument("--yes", action="store_true", help=say("run.help.yes"))
    _publish_flags(publish)
    return parser


def _publish_flags(command: argparse.ArgumentParser) -> None:
    kinds = ("adapter", "merged", "gguf", "presets", "dataset", "space")
    command.add_argument("--what", choices=kinds, help=say("publish.help.what"))
    command.add_argument("--branch", metavar="NAME", help=say("publish.help.branch"))
    command.add_argument("--pull-request", action="store_true", help=say("publish.help.pull_request"))
    command.add_argument("--licence", "--license", dest="license", metavar="KEY", help=say("publish.help.licence"))
    command.add_argument("--card", type=Path, metavar="FILE", help=say("publish.help.card"))
    command.add_argument("--samples", type=Path, metavar="FILE", help=say("publish.help.samples"))
    command.add_argument("--model-repo", metavar="REPO", help=say("publish.help.model_repo"))
    command.add_argument("--preset", action="append", default=[], metavar="COLUMN", help=say("publish.help.preset"))


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=say(f"run.help.{name}"), description=say(f"run.help.{name}"))
    command.set_defaults(run=run)
    return command


def _json_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help=say("run.help.json"))


def _set_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--set", action="append", default=[], metavar="optim.epochs=2", help=say("run.help.set"))


def _train(arguments: argparse.Namespace) -> int:
    """Start a run from a config in the foreground. Given the id of a run, resume that run: this is how a rented job
    trains."""
    from finetune.launch.local.launcher import LocalLauncher
    from finetune.runs.run import find

    owner = local_owner()
    if RUN_ID.fullmatch(str(arguments.file)) and not os.path.isfile(arguments.file):
        LocalLauncher().resume_in_process(find(str(arguments.file), owner), owner, progress=show_progress)
    LocalLauncher().train(config_of(arguments), owner, progress=show_progress)


def _start(arguments: argparse.Namespace) -> int:
    from finetune.launch.local.launcher import LocalLauncher

    if rented(arguments):
        print(start_job(config_of(arguments), local_owner(), arguments.flavor, arguments.timeout, show_progress))
        return 0
    print(LocalLauncher().start(config_of(arguments), local_owner(), progress=show_progress))
    return 0


def _flavors(arguments: argparse.Namespace) -> int:
    from finetune.launch.jobs.flavors import known_flavors

    if arguments.json:
        print_json([vars(flavor) for flavor in known_flavors(local_owner())])
    else:
        print("\n".join(flavor_lines(local_owner())))
    return 0


def _attach(arguments: argparse.Namespace) -> int:
    from finetune.launch.jobs.launcher import attach

    for run in attach(local_owner()):
        print(run.id, _line(run.status()))
    return 0


def _preset(arguments: argparse.Namespace) -> int:
    """Print a preset as YAML on stdout, which `> c.yaml` makes a config; without a name, list the presets."""
    from finetune.config.presets import PRESETS, preset_named

    if arguments.name is None:
        width = max(map(len, PRESETS))
        print(
            "\n".join(
                f"{name:{width}}  {say(preset.title_key)}. {say(preset.about_key)}." for name, preset in PRESETS.items()
            )
        )
        return 0
    print(preset_named(arguments.name).to_yaml(arguments.files), end="")
    if not arguments.files:
        print(say("presets.written"), file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from finetune.runs.run import list_runs

    runs = list_runs(local_owner())
    sync_all(runs, local_owner())
    found = [run.status() for run in runs]
    if arguments.json:
        print_json([run.status().to_json() | job_json(run) for run in runs])
        return 0
    for status in found:
        print(status.id, _line(status))
    if not found:
        print(say("run.none"), file=sys.stderr)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from finetune.plan.record import plan_json
    from finetune.runs.run import find
    from finetune.runs.stage_report import reports

    run = find(arguments.which, local_owner())
    sync_all([run], local_owner())
    status, record, stages = run.status(), job_of(run), reports(run.progress())
    if arguments.json:
        more = {"stages": [vars(stage) for stage in stages]}
        print_json(status.to_json() | more | job_json(run) | plan_json(run))
    else:
        print(status.id, _line(status))
        for stage in stages:
            print(_stage_line(stage))
        if record:
            print(job_line(record))
        print(status.error or status.folder)
    return 0


def _line(status: Any) -> str:
    """Return a run's status in one line: word, steps, loss."""
    word = say(f"run.status.{status.status}")
    if status.loss is None:
        return word
    return f"{word}  {status.step}/{status.steps}  " + say("run.shell.loss", loss=status.loss)


def _stage_line(stage: Any) -> str:
    """Return a stage in one line: its steps, its validation loss before and after, its rows."""
    losses = {"before": stage.before, "after": stage.after}
    written = {name: "-" if loss is None else f"{loss:.4f}" for name, loss in losses.items()}
    rows = counted("core.rows", stage.rows)
    return say("run.shell.stage", **{**vars(stage), **written, "rows": rows})


def _stop(arguments: argparse.Namespace) -> int:
    from finetune.launch.local.launcher import LocalLauncher
    from finetune.runs.run import find

    run = find(arguments.which, local_owner())
    if job_of(run):
        stop_job(run, local_owner())
    else:
        LocalLauncher().stop(run)
        run.wait()
    print(run.id, _line(run.status()))
    return 0


def _resume(arguments: argparse.Namespace) -> int:
    from finetune.launch.local.launcher import LocalLauncher
    from finetune.runs.run import find

    owner = local_owner()
    run = find(arguments.which, owner)
    if job_of(run):
        resume_job(run, owner, arguments.flavor, arguments.timeout, show_progress)
    elif arguments.flavor or arguments.timeout:
        raise UserError("job.shell.only_jobs")
    else:
        LocalLauncher().resume(run, owner, progress=show_progress)
    print(run.id)
    return 0


def _keep(arguments: argparse.Namespace) -> int:
    from finetune.launch.keep_checkpoint import keep
    from finetune.runs.run import find

    owner = local_owner()
    run = find(arguments.which, owner)
    step = keep(run, owner, show_progress)
    print(say("run.kept", run=run.id, step=step, folder=run.model))
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    from finetune.launch.delete import remove

    print(say("run.removed", value=remove(arguments.which, local_owner())))
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from finetune.cli.publish import publish_command

    names = ("what", "branch", "pull_request", "license", "card", "model_repo", "samples")
    more = {name: getattr(arguments, name) for name in names} | {"presets": tuple(arguments.preset)}
    return publish_command(arguments.which, arguments.repo, arguments.public, arguments.yes, local_owner(), **more)
