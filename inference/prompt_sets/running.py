"""A set of prompts under every column: one comparison per prompt, each with its own turn, folded into one report."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from inference.compare.fair_queue import Turn, wait_for_place
from inference.compare.request import CompareRequest, check_request
from inference.compare.service import run_comparison
from inference.events import Done, Loading, Result
from inference.measures.summary import Row, summarize
from inference.prompt_sets.reading import MOST_PROMPTS, PromptItem
from inference.strategies.table import MAX_SEED

if TYPE_CHECKING:
    from inference.models.cache import Shelf

Join = Callable[[], Turn]
_OF_THE_PROMPT = (
    "decode.prompt_empty",
    "decode.message",
    "decode.raw_messages",
    "decode.no_template",
    "decode.template_refuses",
    "decode.context",
    "decode.memory",
    "sets.",
)


@dataclass(frozen=True)
class PromptSet:
    """The prompts, and the comparison that each of them is run through.

    The request's own prompt is ignored; its `messages` go before every prompt that is a text. The seed of the n-th
    prompt is the request's + n - 1, so that draws for different prompts are independent.
    """

    prompts: tuple[PromptItem, ...]
    request: CompareRequest
    name: str = ""

    def seed(self, index: int) -> int:
        """Return the seed of the prompt at `index` (0-based)."""
        return (self.request.seed + index) % (MAX_SEED + 1)

    def comparison(self, index: int) -> CompareRequest:
        """Return the comparison of the prompt at `index` (0-based). Raises the error of that prompt, if it has one."""
        item, before = self.prompts[index], self.request.messages
        if item.problem is not None:
            raise item.problem
        given: dict[str, Any] = {"prompt": None, "messages": item.prompt}
        if isinstance(item.prompt, str):
            given = {"prompt": item.prompt, "messages": None}
            if before and item.prompt.strip():
                given = {"prompt": None, "messages": [*before, {"role": "user", "content": item.prompt}]}
        return replace(self.request, seed=self.seed(index), **given)


@dataclass(frozen=True)
class Answer:
    """One prompt's rows of the summary, each with the column's `text` and `finish`; None for a column that failed."""

    number: int
    prompt: str
    seed: int
    rows: list[Row | None]


@dataclass(frozen=True)
class PromptProblem:
    """A prompt, or one column of it, that could not be answered, and why."""

    number: int
    prompt: str
    error: str
    column: str | None = None


@dataclass
class Outcome:
    """The result of a set, as far as it got. `status` is "done", "stopped" or "failed" (with an `error`)."""

    answers: list[Answer] = field(default_factory=list)
    problems: list[PromptProblem] = field(default_factory=list)
    status: str = "done"
    error: str | None = None
    model: str = ""
    dtype: str = ""


def check_set(prompt_set: PromptSet) -> None:
    """Raise UserError for what is wrong with the whole set before it runs."""
    if not 1 <= len(prompt_set.prompts) <= MOST_PROMPTS:
        raise UserError("sets.too_many", value=prompt_set.name, count=len(prompt_set.prompts), most=MOST_PROMPTS)
    check_request(replace(prompt_set.request, prompt="-", messages=None))


def run_set(
    prompt_set: PromptSet, owner: Owner, shelf: "Shelf", stop: threading.Event, join: Join | None = None
) -> Generator[Loading, None, Outcome]:
    """Answer one prompt after the other; yield the progress and return the outcome.

    `join` returns a place in the queue for each prompt; if there is none now, it is tried again. A stop ends the set
    within one step and drops the prompt that was being answered. An error of one prompt is recorded; an error that
    would affect all of them ends the set, and is raised if nothing was answered before.
    """
    check_set(prompt_set)
    outcome = Outcome()
    for index, item in enumerate(prompt_set.prompts):
        try:
            result = yield from _compared(prompt_set, index, owner, shelf, stop, join)
        except UserError as error:
            if stop.is_set():
                break
            if error.code.startswith(_OF_THE_PROMPT):
                outcome.problems.append(PromptProblem(item.number, item.shown, str(error)))
                continue
            if not outcome.answers:
                raise
            outcome.status, outcome.error = "failed", str(error)
            return outcome
        if any(column.finish == "cancelled" for column in result.columns):
            break
        _fold(outcome, item, prompt_set.seed(index), result)
    else:
        return outcome
    outcome.status = "stopped"
    return outcome


def _compared(
    prompt_set: PromptSet, index: int, owner: Owner, shelf: "Shelf", stop: threading.Event, join: Join | None
) -> Generator[Loading, None, Result]:
    total = len(prompt_set.prompts)
    yield Loading(say("sets.at", number=index + 1, total=total), index, total)
    request, result = prompt_set.comparison(index), None
    check_request(request)
    turn = wait_for_place(join, stop) if join else nullcontext()
    with turn as mine:
        for event in run_comparison(request, owner, shelf, stop, mine):
            if isinstance(event, Loading):
                yield Loading(event.text, index, total)
            elif isinstance(event, Done):
                result = event.result
    assert result is not None, "a comparison ends with its result"
    return result


def _fold(outcome: Outcome, item: PromptItem, seed: int, result: Result) -> None:
    rows: list[Row | None] = []
    for column, row in zip(result.columns, summarize(result), strict=True):
        if column.finish == "error":
            outcome.problems.append(PromptProblem(item.number, item.shown, column.error or "", column.name))
        written = row | {"text": column.text, "finish": column.finish}
        rows.append(None if column.finish == "error" else written)
    outcome.answers.append(Answer(item.number, item.shown, seed, rows))
    outcome.model, outcome.dtype = result.model, result.dtype


def finish(steps: Generator[Loading, None, Outcome], report: Callable[[Loading], None]) -> Outcome:
    """Run a set to its end and call `report` with its progress."""
    outcome: list[Outcome] = []

    def progress_of_steps() -> Iterator[Loading]:
        outcome.append((yield from steps))

    for progress in progress_of_steps():
        report(progress)
    return outcome[0]
