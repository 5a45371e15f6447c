"""What each method and each objective comes to on rows held out, beside the untuned model.

    python -m benchmarks.methods CHATS.json PREFERENCES.json [--rows 240] [--only NAME ...]

Each case is a preset (`finetune/config/presets.py`) or one with a setting more, trained by the shell's own command for
one epoch on real rows, a fifth of them held out, and measured by `finetune evaluate`: the same rows, tokens and labels
for both models, in float32, with 95 % bootstrap intervals over rows; the difference is paired.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commands import finetune, trained
from finetune.config.presets import PRESETS

HELD_OUT, LENGTH = 0.2, 512


@dataclass(frozen=True)
class Case:
    """A preset, and what its first stage says beside it."""

    name: str
    preset: str
    first_stage: dict[str, Any] = field(default_factory=dict)


CASES = (
    *(Case(name, name) for name in ("lora", "rslora", "dora", "loraplus", "qlora", "freeze", "full")),
    Case("sft, the last answer", "lora", {"sft": {"learn": "last-answer"}}),
    Case("sft, every token", "lora", {"sft": {"learn": "everything"}}),
    Case("pretrain", "text"),
    Case("dpo", "preferences"),
    Case("ipo", "preferences-ipo"),
    Case("staged", "staged"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__.split("\n")[0])
    parser.add_argument("chats", type=Path, help="an Alpaca file")
    parser.add_argument("preferences", type=Path, help="a file of conversations with a chosen and a rejected answer")
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], metavar="NAME")
    options = parser.parse_args()
    print("| case | rows held out | measure | base | tuned | tuned - base, paired | |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TUNESCOPE_HOME": f"{folder}/home"}
        files = _files(Path(folder), options.chats, options.preferences)
        for case in CASES:
            if not options.only or case.name in options.only:
                for line in _measured(case, files, options.rows, Path(folder)):
                    print(line, flush=True)


def _files(folder: Path, chats: Path, preferences: Path) -> dict[str, str]:
    """The file of each objective: plain texts are the answers of the chats."""
    texts = folder / "texts.jsonl"
    with texts.open("w", encoding="utf-8") as out:
        for row in json.loads(chats.read_text(encoding="utf-8")):
            out.write(json.dumps({"text": row["output"]}, ensure_ascii=False) + "\n")
    return {"sft": str(chats.absolute()), "dpo": str(preferences.absolute()), "pretrain": str(texts)}


def _measured(case: Case, files: dict[str, str], rows: int, folder: Path) -> Iterator[str]:
    preset = PRESETS[case.preset]
    raw = yaml.safe_load(preset.to_yaml([files[objective] for objective in preset.objectives]))
    raw["stages"][0] |= case.first_stage
    raw["optim"] = {**raw.get("optim", {}), "epochs": 1}
    raw["limits"] = {"max_rows": rows, "max_length": LENGTH, "validation": HELD_OUT}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(raw))
    run = trained(path)
    report = json.loads(finetune("evaluate", run.id, "--json", "--rows", str(rows)))
    for one in report["sets"]:
        for measure in one["measures"]:
            figures = " | ".join(_shown(measure[name]) for name in ("base", "tuned", "difference"))
            about = f"{one['measured']}, {one['objective'] or 'general text'}"
            yield f"| {case.name} | {about} | {measure['key']} | {figures} | {measure['verdict']} |"


def _shown(found: dict[str, Any]) -> str:
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


if __name__ == "__main__":
    main()
