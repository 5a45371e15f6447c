"""Reports of evaluations for tests of what is made of them: real arithmetic on losses that are given."""

import random

from finetune.evaluation.measures import PLAIN, compared
from finetune.evaluation.report import VERSION, save, weights_of

COUNTS = [random.Random(1).randint(5, 60) for _ in range(30)]


def one_set(key, change, *, rows=30, base=2.0, **facts_of_it):
    """A set of up to 30 rows: the base's loss is around `base` a token, the tuned one's `change` above it, give or take
    0.02."""
    draw, counts = random.Random(2), COUNTS[:rows]
    first = [(base + draw.gauss(0, 0.3)) * count for count in counts]
    swing = [0.02 if place % 2 else -0.02 for place in range(rows)]
    second = [loss + (change + more) * count for loss, more, count in zip(first, swing, counts, strict=True)]
    facts = {
        "key": key, "name": None, "kind": "chat", "stage": None, "objective": "sft",
        "rows": rows, "taken": rows, "measured": rows,
        "dropped": 0, "cut": 0, "tokens": sum(counts), "max_length": 512,
    }  # fmt: skip
    return facts | {"measures": [compared(PLAIN.measures[0], [first], [second], [counts])]} | facts_of_it


def make_report(run, *sets, samples=(), **more):
    """Write the report of a run with a result into its folder and return it."""
    loss = {"mean": 3.5, "low": 3.2, "high": 3.8, "count": 30}
    difference = {"mean": -1.5, "low": -1.6, "high": -1.4, "count": 30}
    ngram = {"order": 3, "discount": 0.8, "rows": 270, "of_rows": 270, "tokens": 50_000, "loss": loss}
    ngram |= {"tuned_difference": difference, "verdict": "better"}
    sets = sets or (one_set("held_out", -0.4), one_set("general", 0.1))
    for one in sets:
        one.setdefault("ngram", ngram if one["key"] == "held_out" else None)
    report = {
        "version": VERSION,
        "run": run.id,
        "created": "2026-11-26T10:00:00Z",
        "base": {"name": "a/base", "fingerprint": "ab" * 32},
        "tuned": {"method": "lora", "fingerprint": weights_of(run.model)},
        "dtype": "float32",
        "device": "cpu",
        "device_name": "a processor",
        "seed": 0,
        "versions": {"torch": "2.13"},
        "sets": list(sets),
        "samples": list(samples),
    } | more
    save(run, report)
    return report
