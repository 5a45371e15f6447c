"""The page `docs/knobs.md`, made from the config: `python -m finetune.knobs > docs/knobs.md`."""

from core.words import say
from finetune.config import Knob, knobs

HEAD = """# Knobs

Made by `python -m finetune.knobs` from `finetune/config.py`; a test holds it to that.
The basic ones are in view on the Fine-tune tab, the others are folded.

| knob | default | possible | what it does |
|---|---|---|---|
"""


def table() -> str:
    """All knobs as a Markdown page."""
    return HEAD + "".join(f"{_row(knob)}\n" for knob in knobs())


def _row(knob: Knob) -> str:
    name = f"**`{knob.path}`**" if knob.tier == "basic" else f"`{knob.path}`"
    shown = f" (with `{knob.shown_when[0]}: {knob.shown_when[1]}`)" if knob.shown_when else ""
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
