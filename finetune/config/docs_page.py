"""The page `docs/knobs.md`, made from the config: `python -m finetune.config.docs_page > docs/knobs.md`."""

from core.words import say
from finetune.config.mapping import FORMATS, PARTS
from finetune.config.run_config import ConfigKnob, knobs, stage_knobs

HEAD = """# Knobs

Made by `python -m finetune.config.docs_page` from `finetune/config/run_config.py`; a test keeps the page up to date.
The Fine-tune tab always shows the knobs in **bold**; the others are under "More settings".

| knob | default | values | description |
|---|---|---|---|
"""

STAGES = """
## Stages

A run trains its `stages: [{objective: sft, data: [...]}, ...]` one after another; each stage continues from the result
of the previous stage. A stage sets the options of its objective in a block with the name of the objective, such as
`dpo: {beta: 0.2}`. The `optim` block of a stage overrides the `optim` block of the run (`optim: {learning_rate: null}`
means auto). The Fine-tune tab shows the first stage next to its data, and two more under "Further stages".

| knob | default | values | description |
|---|---|---|---|
"""

TAIL = """
## Data

`stages: [{data: [...]}]` lists the sources of the rows:

| source | description |
|---|---|
| `{path: rows.jsonl}` | a local file; a relative path is relative to the folder of the YAML file |
| `{dataset: ID}` | an imported dataset |
| `{hub: owner/name, config: en, split: train, revision: main}` | a repository on the Hub |

If the columns are not recognized, set `mapping` next to `path` or `hub`, for example
`mapping: {prompt: question, answer: reply}`. To try a mapping in the shell, run
`check FILE --mapping prompt=question answer=reply`.

| in a mapping | description |
|---|---|
"""


def table() -> str:
    """Return all knobs as a Markdown page, with the fields of a data source."""
    parts = {part: say(f"data.part.{part}") for part in PARTS}
    shapes = {"format": ", ".join(f"`{shape}`" for shape in FORMATS)}
    shapes["kind"] = ", ".join(
        f"`{kind}`" for kind in dict.fromkeys(kind for kinds in FORMATS.values() for kind in kinds)
    )
    rows = [f"| `{part}` | the column of {what} |" for part, what in parts.items()]
    rows += [f"| `{name}` | {choices}; derived from the parts if omitted |" for name, choices in shapes.items()]
    tables = ["".join(f"{_row(knob)}\n" for knob in found) for found in (knobs(), stage_knobs())]
    return HEAD + tables[0] + STAGES + tables[1] + TAIL + "".join(f"{row}\n" for row in rows)


def _row(knob: ConfigKnob) -> str:
    name = f"**`{knob.path}`**" if knob.tier == "basic" else f"`{knob.path}`"
    shown = f" (with `{knob.shown_when[0]}: {', '.join(knob.shown_when[1])}`)" if knob.shown_when else ""
    written = str(knob.default).lower() if knob.type == "boolean" else knob.default
    default = f"`{written}`" if knob.default is not None else "auto" if knob.auto else "none"
    return f"| {name}{shown} | {default} | {_possible(knob)} | {say(knob.help)} |"


def _possible(knob: ConfigKnob) -> str:
    if knob.choices:
        return ", ".join(f"`{choice}`" for choice in knob.choices)
    if knob.minimum is not None and knob.maximum is not None:
        return f"{knob.minimum:,} to {knob.maximum:,}"
    return knob.type


if __name__ == "__main__":
    print(table(), end="")
