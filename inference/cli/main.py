"""The commands of `python -m inference`. The result goes to stdout, all else to stderr; nothing heavy is imported
early."""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from core import cli, settings
from core.errors import UserError
from core.words import say
from inference.cli import prompts as shell_prompts
from inference.events import Board, Done, Event, Finished, Loading, Result, Started, Step
from inference.strategies.table import STRATEGIES

if TYPE_CHECKING:
    from core.workspace import Owner
    from inference.compare.replay import Verdict
    from inference.compare.request import CompareRequest
    from inference.models.cache import Shelf

DTYPES = ("float32", "bfloat16", "float16")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns 0, 3 if single columns failed, or an exit code that every command may return (see
    `core.cli`)."""
    return cli.run(_parser, argv)


class _Parser(cli.Parser):
    def error(self, message: str) -> NoReturn:
        raise UserError("decode.shell", reason=message[:1].upper() + message[1:] + ".", program=self.prog)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m inference", description="Compare decoding strategies side by side.")
    commands = parser.add_subparsers(required=True, metavar="compare|prompts")
    command = _command(commands, "compare", "run 1 to 12 columns on one prompt in one batch", _compare)
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("--prompt", metavar="TEXT", help="prompt, as one user message")
    group.add_argument("--messages", metavar="FILE", type=Path, help="conversation, as a JSON list of {role, content}")
    group.add_argument("--record", metavar="FILE", type=Path, help="repeat the comparison of a --json output")
    command.add_argument("--check", action="store_true", help="repeat each column with generate and compare the tokens")
    many = _command(commands, "prompts", "run 1 to 12 columns on a file of prompts: means with intervals", _prompts)
    shell_prompts.add_arguments(many)
    return parser


def _command(commands: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """Return a command with the options that all commands share."""
    how = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _strategies()}
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, **how)
    command.set_defaults(run=run)
    add = command.add_argument
    add(
        "--model",
        default=settings.DEFAULT_MODEL,
        metavar="REF",
        help="base model, run or adapter (default: %(default)s)",
    )
    add("--adapter", metavar="REF", help="adapter or run to apply to the model")
    add("--columns", nargs="+", default=[], metavar="COLUMN", help='columns such as "nucleus top_p=0.9 model=base"')
    add("--seed", type=int, default=0, help="seed of all columns (default: %(default)s)")
    add("--max-new-tokens", type=int, default=100, metavar="N", help="max new tokens per column (default: %(default)s)")
    add("--dtype", choices=DTYPES, help="precision (default on a CPU: float32)")
    add("--exact", action="store_true", help="exact mode: bit-identical to generate, also in 16-bit; slower")
    add("--raw", action="store_true", help="continue the prompt as plain text, without the chat template")
    add("--json", action="store_true", help="print JSON only, when all columns have finished")
    return command


def _strategies() -> str:
    lines = ["strategies and their settings:"]
    for strategy in STRATEGIES.values():
        knobs = " ".join(f"{knob.name}={str(knob.default).lower()}" for knob in strategy.knobs)
        lines.append(f"  {strategy.key:8} {knobs:60} {say(strategy.help_key)}")
    return "\n".join([*lines, "every column also takes model=base, model=tuned or model=REF"])


def _compare(options: argparse.Namespace) -> int:
    from core.workspace import local_owner
    from inference.compare.record import read_record, record_of, request_of_record, rerun_sentences
    from inference.compare.request import check_request
    from inference.compare.service import run_comparison

    record = read_record(options.record) if options.record else None
    request = _request(options) if record is None else request_of_record(record)
    check_request(request)
    with _own_stdout() as out, _stopping() as stop:
        from inference.models.cache import Shelf

        show, owner, shelf = _Printer(out, quiet=options.json), local_owner(), Shelf()
        for event in run_comparison(request, owner, shelf, stop):
            show.take(event)
        result = show.board.result
        assert result is not None
        checks = _checks(request, result, owner, shelf, stop) if options.check else []
        if options.json:
            checked = {"checks": [check.to_json() for check in checks]} if options.check else {}
            print(json.dumps(record_of(request, result) | checked, ensure_ascii=False), file=out, flush=True)
    for sentence in rerun_sentences(record, result) if record is not None else []:
        print(sentence, file=sys.stderr)
    for column in result.columns:
        if column.error:
            print(f"{column.name}: {column.error}", file=sys.stderr)
    failed = any(column.finish == "error" for column in result.columns)
    return 3 if failed or any(check.kind == "wrong" for check in checks) else 0


def _request(options: argparse.Namespace) -> "CompareRequest":
    from inference.compare.request import CompareRequest
    from inference.engine.prompts import read_messages

    return CompareRequest(
        model=options.model,
        columns=options.columns,
        prompt=options.prompt,
        messages=read_messages(options.messages) if options.messages else None,
        adapter=options.adapter,
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
        raw=options.raw,
        exact=options.exact,
    )


def _checks(
    request: "CompareRequest", result: Result, owner: "Owner", shelf: "Shelf", stop: threading.Event
) -> list["Verdict"]:
    """Replay every column and print one line per verdict to stderr."""
    from inference.compare.service import replay

    verdicts = []
    for verdict in replay(request, result, owner, shelf, stop):
        verdicts.append(verdict)
        print(f"{result.columns[verdict.column].name}: {verdict.sentence}", file=sys.stderr, flush=True)
    return verdicts


def _prompts(options: argparse.Namespace) -> int:
    with _own_stdout() as out, _stopping() as stop:
        return shell_prompts.run(options, out, stop)


@contextlib.contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Reserve the real stdout for the result: what libraries print, from C too, goes to stderr or nowhere."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    import warnings

    warnings.filterwarnings("ignore")
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(kept, "w", encoding="utf-8", closefd=False) as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Make Ctrl-C request a stop; a second one ends the process as usual."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Printer:
    """Prints a comparison as it runs: the columns one after the other, each streaming once it is its turn."""

    def __init__(self, out: TextIO, quiet: bool) -> None:
        self.board = Board()
        self._out = out
        self._quiet = quiet
        self._column = 0
        self._given = 0
        self._said = ""

    def take(self, event: Event) -> None:
        self.board.take(event)
        if self._quiet:
            return
        match event:
            case Loading():
                self._say_loading(event.text)
            case Started():
                self._open()
            case Step() if event.column == self._column:
                self._write(event.text_firm)
                self._given += len(event.text_firm)
            case Finished() if event.column == self._column:
                self._close()
            case Done():
                self._write(_summary(event))

    def _say_loading(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(text, file=sys.stderr, flush=True)

    def _open(self) -> None:
        column = self.board.columns[self._column]
        self._write(f"--- {column.name} ({column.model})\n{column.firm}")
        self._given = len(column.firm)

    def _close(self) -> None:
        """End the current column and go on with the next ones, as far as they have results."""
        while self._column < len(self.board.columns):
            column = self.board.columns[self._column]
            if column.result is None:
                return
            self._write(
                column.result.text[self._given :] + "\n" + _figures(column.result.metrics, column.result.finish)
            )
            self._column += 1
            if self._column < len(self.board.columns):
                self._open()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _figures(metrics: dict[str, float | int | None], finish: str) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None)
    return f"[{say(f'decode.finish.{finish}')}; {shown}]\n\n"


def _summary(event: Done) -> str:
    result = event.result
    facts = f"{result.prompt_tokens} prompt tokens, {result.forwards} forward passes, {result.wall_s:.2f} s"
    return f"{result.model}, {result.dtype}: {facts}\n"
