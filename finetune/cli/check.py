"""`python -m finetune check`: a data file, or a config with its data, model and settings; nothing starts."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import counted, say
from core.workspace import Owner, local_owner
from finetune.cli.jobs import check_job, rented
from finetune.cli.terminal import print_json, show_progress

if TYPE_CHECKING:
    from finetune.config.run_config import RunConfig
    from finetune.data.report import Report
    from finetune.plan.card import RunPlan
    from finetune.plan.prepare import RunInputs

USABLE, WITH_FINDINGS, NOT_USABLE = 0, 1, 2
YAML = (".yaml", ".yml")
DATA = (".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".gz")


def mapping_flag(command: argparse.ArgumentParser) -> None:
    """Add the option that maps the columns of a data file."""
    command.add_argument("--mapping", nargs="+", metavar="prompt=COLUMN", help=say("run.help.mapping"))


def plan_flag(command: argparse.ArgumentParser) -> None:
    """Add the option that prints time, memory and price of the run."""
    command.add_argument("--plan", action="store_true", help=say("run.help.plan"))


def config_of(arguments: argparse.Namespace) -> "RunConfig":
    """Read the config that the command names, with the changes of `--set`. Raises UserError, also for a data file."""
    from finetune.config.run_config import load_yaml

    path: Path = arguments.file
    if not os.path.isfile(path):
        raise UserError("run.shell.no_input", value=path)
    if path.suffix.lower() in DATA:
        raise UserError("run.shell.data_file", value=path, name=path.name)
    return load_yaml(path.read_bytes(), path.absolute().parent, tuple(arguments.set))


def check(arguments: argparse.Namespace) -> int:
    """Check the file and return 0 (usable), 1 (usable, with findings) or 2 (not usable)."""
    if arguments.file.suffix.lower() in YAML:
        return _check_config(arguments)
    if rented(arguments):
        raise UserError("job.shell.only_configs", name=arguments.file.name)
    if arguments.plan:
        raise UserError("run.shell.plan_with_data", name=arguments.file.name)
    if arguments.set:
        raise UserError("run.shell.set_with_data", value=arguments.set[0][:80], name=arguments.file.name)
    if not os.path.isfile(arguments.file):
        raise UserError("run.shell.no_input", value=arguments.file)
    from finetune.config.mapping import read_mapping_words
    from finetune.data.importing.importer import check_file

    mapping = read_mapping_words(arguments.mapping) if arguments.mapping else None
    report = check_file(arguments.file, mapping)
    _show_report(report, arguments)
    if not report.rows_kept:
        return NOT_USABLE
    return WITH_FINDINGS if report.findings else USABLE


def _show_report(report: "Report", arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(report.to_json())
        return
    facts = {"kind": report.kind, "format": report.format, "kept": report.rows_kept}
    print(say("run.shell.usable", name=arguments.file.name, rows=counted("core.rows", report.rows_in), **facts))
    _show_findings(report.findings)


def _check_config(arguments: argparse.Namespace) -> int:
    from finetune.plan.prepare import check_stages, run_inputs

    if arguments.mapping:
        raise UserError("run.shell.mapping_with_config", value=arguments.mapping[0][:80], name=arguments.file.name)
    config, owner = config_of(arguments), local_owner()
    plan = None
    if rented(arguments):
        if arguments.plan:
            raise UserError("run.shell.plan_with_job")
        found = check_job(config, owner, arguments.flavor, arguments.timeout, show_progress)
    else:
        with run_inputs(config, owner, show_progress) as looked:
            found = check_stages(looked.config, looked.datasets, looked.base.name, looked.base.folder)
            plan = _plan(looked, owner) if arguments.plan else None
    if arguments.json:
        print_json(found.to_json() | ({"plan": plan.to_json()} if plan else {}))
    else:
        facts = {"rows": counted("core.rows", found.rows), "steps": counted("core.steps", found.steps)}
        print(say("run.shell.config_fine", model=found.model, method=found.config.method, **facts))
        if found.launch:
            print("  " + say("run.launched", command=found.launch))
        _show_findings(found.findings)
        if plan:
            from finetune.cli.plan_lines import card_lines

            print("\n".join(card_lines(plan)))
    if plan and any(entry.refused for entry in plan.advice):
        return NOT_USABLE
    return WITH_FINDINGS if found.findings or (plan and plan.advice) else USABLE


def _plan(looked: "RunInputs", owner: Owner) -> "RunPlan":
    """Make the plan of the run; the first steps are measured on this machine."""
    from finetune.launch.jobs.flavors import known_flavors
    from finetune.plan.planner import plan_of

    return plan_of(looked, owner, calibrate=True, flavors=known_flavors(owner), progress=show_progress)


def _show_findings(findings: list[Any]) -> None:
    from finetune.data.findings import placed

    for finding in findings:
        severity = say(f"data.severity.{finding.severity}")
        print("  " + say("run.shell.finding", severity=severity, title=placed(finding), remedy=finding.remedy))
