"""The plan of a run as the shell prints it."""

from collections.abc import Iterator

from core.words import say
from finetune.plan.card import PlaceEstimate, RunPlan, data_facts, dollars, weight_facts


def card_lines(plan: RunPlan) -> Iterator[str]:
    """Yield the lines of a plan: model, data, and a row for each place to run."""
    yield say("plan.weights", **weight_facts(plan))
    yield say("plan.data", **data_facts(plan))
    yield from _table(plan)
    for place in plan.places[:1]:
        yield say(f"plan.basis.{place.basis}")
    if plan.rented:
        yield say("plan.basis.published")
    yield from plan.notes
    yield from map(str, plan.advice)


def _table(plan: RunPlan) -> Iterator[str]:
    head = [say(f"plan.column.{name}") for name in ("place", "memory", "free", "time", "training", "disk", "price")]
    rows = [head, *map(_row, plan.places)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(head))]
    for row in rows:
        rest = zip(row[1:], widths[1:], strict=True)
        yield "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in rest)])


def _row(place: PlaceEstimate) -> list[str]:
    room = place.room if place.free is None else place.free
    title = say("plan.here", title=place.title) if place.name == "here" else place.name
    return [
        title if place.fits else say("plan.too_small", title=title),
        gigabytes(place.memory),
        gigabytes(room),
        clock(place.seconds),
        clock(place.training),
        gigabytes(place.disk),
        dollars(place.usd),
    ]


def gigabytes(count: float | None) -> str:
    """Return bytes as GB; a dash where they are not known."""
    return "-" if count is None else f"{count / 1e9:.1f} GB"


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
