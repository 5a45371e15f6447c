"""The page `docs/knobs.md`, made from the config: `python -m finetune.config.docs_page > docs/knobs.md`."""

from core.words import say
from finetune.config.mapping import FORMATS, PARTS
from finetune.config.run_config import Knob, knobs, stage_knobs

HEAD = """# Knobs

Made by `python -m finetune.config.docs_page` from `finetune/config/run_config.py`; a test holds it to that.
The basic ones are in view on the Fine-tune tab, the others are folded.

| knob | default | possible | what it does |
|---|---|---|---|
"""

STAGES = """
## Stages

`stages: [{objective: sft, data: [...]}, ...]` are done one after another, each from what the one before learned. A
stage has the settings of its objective in a block of that name, such as `dpo: {beta: 0.2}`; what its own `optim` block
names takes the place of the run's (`optim: {learning_rate: null}`: chosen for you, whatever the run says). On the
Fine-tune tab the first stage stands beside the data, two more under "Further stages".

| knob | default | possible | what it does |
|---|---|---|---|
"""

TAIL = """
## Data

`stages: [{data: [...]}]` lists where the rows come from, each one of

| source | what it is |
|---|---|
| `{path: rows.jsonl}` | a file of this machine; a relative path is seen from the YAML file |
| `{dataset: ID}` | a dataset that was imported before |
| `{hub: name/repository, config: en, split: train, revision: main}` | a repository on the Hub |

Beside `path` and `hub`, `mapping` says which column is which where that is not recognised, such as
`mapping: {prompt: question, answer: reply}`. In the shell, `check FILE --mapping prompt=question answer=reply` tries
it out.

| in a mapping | what it is |
|---|---|
"""


def table() -> str:
    """All knobs as a Markdown page, with what a source of data takes."""
    parts = {part: say(f"data.part.{part}") for part in PARTS}
    shapes = {"format": ", ".join(f"`{shape}`" for shape in FORMATS)}
    shapes["kind"] = ", ".join(
        f"`{kind}`" for kind in dict.fromkeys(kind for kinds in FORMATS.values() for kind in kinds)
    )
    rows = [f"| `{part}` | the column of {what} |" for part, what in parts.items()]
    rows += [
        f"| `{name}` | {choices}; follows from the parts where it is left out |" for name, choices in shapes.items()
    ]
    tables = ["".join(f"{_row(knob)}\n" for knob in found) for found in (knobs(), stage_knobs())]
    return HEAD + tables[0] + STAGES + tables[1] + TAIL + "".join(f"{row}\n" for row in rows)


def _row(knob: Knob) -> str:
    name = f"**`{knob.path}`**" if knob.tier == "basic" else f"`{knob.path}`"
    shown = f" (with `{knob.shown_when[0]}: {', '.join(knob.shown_when[1])}`)" if knob.shown_when else ""
    default = "chosen for you" if knob.default is None else f"`{knob.default}`"
    return f"| {name}{shown} | {default} | {_possible(knob)} | {say(knob.help)} |"


def _possible(knob: Knob) -> str:
    if knob.choices:
        return ", ".join(f"`{choice}`" for choice in knob.choices)
    if knob.minimum is not None and knob.maximum is not None:
        return f"{knob.minimum:,} to {knob.maximum:,}"
    return knob.type


if __name__ == "__main__":
    print(table(), end="")
