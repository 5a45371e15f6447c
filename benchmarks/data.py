"""Import and tokenise instruction data, against what peers do for each row.

    python -m benchmarks.data FILE [--model REF] [--repeat 3]

FILE is any data file (an Alpaca one, say). Prints rows a second for the import, and for tokenising with the loss mask
against two `apply_chat_template` calls a row (prompt, and prompt with answer), which is how peers find the answer of a
single-turn row; how many rows agree with them in ids and mask; and the peak memory of this process.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from core import settings
from core.rows import ChatRow, Row
from core.workspace import Owner, local_owner
from finetune.data.importing.importer import import_file
from finetune.data.tokenizing.tokenize import IGNORED, Encoded, encode_all, ensure_template
from inference.models.locate import load_tokenizer, locate_tokenizer

LENGTH = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=settings.DEFAULT_MODEL, help="model reference, for its tokenizer")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side; the median is printed")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(locate_tokenizer(arguments.model, local_owner()))
    ensure_template(tokenizer)
    rows, seconds = imported(arguments.file)
    print(f"import: {len(rows)} rows in {seconds:.2f} s, {len(rows) / seconds:,.0f} rows/s")
    single = [row for row in rows if isinstance(row, ChatRow) and len(row.messages) == 2]
    ours, our_seconds = measured(lambda: encode_all(single, tokenizer, LENGTH), arguments.repeat)
    theirs, their_seconds = measured(lambda: [two_calls(row, tokenizer) for row in single], arguments.repeat)
    same = sum(agrees(encoded, *pair) for encoded, pair in zip(ours, theirs, strict=True))
    print(f"tokenise: {len(single)} rows in {our_seconds:.2f} s; two calls a row {their_seconds:.2f} s", end="; ")
    print(f"{their_seconds / our_seconds:.1f} times as fast; {same} of {len(single)} rows agree")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


def imported(path: Path) -> tuple[list[Row], float]:
    """The rows of a file, imported into a workspace of its own, and the seconds the import took."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["TUNESCOPE_HOME"] = home
        start = time.perf_counter()
        dataset = import_file(path, Owner("local"))
        seconds = time.perf_counter() - start
        return dataset.rows(), seconds


def measured(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """What the work gives, and the median of its seconds."""
    times, result = [], None
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return result, median(times)


def two_calls(row: ChatRow, tokenizer: Any) -> tuple[list[int], int]:
    """The ids of a single-turn row, and how many of them are the prompt."""
    messages = [message.model_dump() for message in row.messages]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    return tokenizer.apply_chat_template(messages, return_dict=False), len(prompt)


def agrees(encoded: Encoded, ids: list[int], prompt: int) -> bool:
    """Whether ids are the same and the loss begins right behind the prompt."""
    first = next((place for place, label in enumerate(encoded.labels) if label != IGNORED), -1)
    return encoded.input_ids == ids and first == prompt


if __name__ == "__main__":
    main()
