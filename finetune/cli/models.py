"""`python -m finetune models`: suggested models, or a search of the Hub, with what fits into this machine."""

import argparse
from typing import Any

from core.words import say
from core.workspace import local_owner
from finetune.base_models.suggested import SIZE_BOUNDS, SUGGESTED, TASKS, Model, matching
from finetune.cli.terminal import print_json
from finetune.plan.card import weights_in_words


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `models`."""
    command.add_argument("text", nargs="?", metavar="TEXT", help=say("picker.help.text"))
    command.add_argument("--task", choices=TASKS, help=say("picker.help.task"))
    command.add_argument("--size", choices=tuple(SIZE_BOUNDS), help=say("picker.help.size"))
    command.add_argument("--language", metavar="CODE", help=say("picker.help.language"))


def run(arguments: argparse.Namespace) -> int:
    """Print a line, or a JSON object, for each model."""
    from finetune.base_models.search import search
    from finetune.plan.fit import facts, inspect_machine

    found: Any = SUGGESTED if arguments.text is None else search(arguments.text, local_owner())
    models = matching(found, arguments.task, arguments.size, arguments.language)
    here = inspect_machine()
    described = [facts(model, here) for model in models]
    if arguments.json:
        print_json([entry | {"obstacle": entry["obstacle"] and say(entry["obstacle"])} for entry in described])
        return 0
    for line in _table([_row(model, entry["here"]) for model, entry in zip(models, described, strict=True)]):
        print(line)
    return 0


def _row(model: Model, here: dict[str, dict[str, Any]]) -> list[str]:
    ways = [say(model.obstacle)] if model.obstacle else [_fit(fit) for fit in here.values()]
    gate = say("picker.gated") if model.gated else ""
    return [
        model.name,
        weights_in_words(model.parameters),
        model.licence or "-",
        f"{model.context or '-'}",
        gate,
        *ways,
    ]


def _fit(fit: dict[str, Any]) -> str:
    word = say(f"picker.{fit['fits']}")
    return word if fit["gb"] is None else f"{word} {fit['gb']:.1f} GB"


def _table(rows: list[list[str]]) -> list[str]:
    names = ("model", "weights", "licence", "context")
    ways = ("compare", "lora", "qlora", "full")
    head = [*(say(f"picker.{name}") for name in names), "", *(say(f"picker.way_{way}") for way in ways)]
    if not rows:
        return [say("picker.none")]
    lines = [head, *rows]
    widths = [
        max(len(row[index]) for row in lines if index < len(row) - (len(row) < len(head))) for index in range(len(head))
    ]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in lines]
