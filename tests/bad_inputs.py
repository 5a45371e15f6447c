"""Bad inputs and the sentence each gets, as `docs/bad-input.md`: `python -m tests.bad_inputs > docs/bad-input.md`.

Every row is a command that is really run, in a folder with the files below, without a Hub and without a token.
"""

import contextlib
import gzip
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

HEAD = """# Bad input and error messages

Made by `python -m tests.bad_inputs`, which runs each command; a test keeps the page up to date. Each row has the exit
code and the message (for a readable data file, with its findings). No command stored, started or sent anything. Each
command begins with `python -m`; the content of a config or a messages file is shown below the command.
"""
ROW = b'{"prompt": "How long?", "completion": "Three minutes."}\n'
OTHER_ROW = b'{"prompt": "With milk?", "completion": "Never."}\n'
NEST = b"[" * 100_000
DATA = "stages: [{data: [{path: rows.jsonl}]}]\n"
PAIR = b'{"prompt": "How long?", "chosen": "Three minutes.", "rejected": "No."}\n'
PAIRS = "stages: [{data: [{path: pairs.jsonl}]}]\n"
STAGE = "stages: [{%s, data: [{path: rows.jsonl}]}]"
LONG = b"".join(b'{"prompt": "%s", "completion": "Yes, %d."}\n' % (b"Long " * 60, number) for number in range(4))
USER = '[{"role": "user", "content": %s}]'


TITLES = ("| problem | input | exit code | message |", "|---|---|---|---|")


class Case(NamedTuple):
    """What was wrong, the command's words, the files that it needs beside those of `prepare`, and what stands in the
    one that is wrong, where that says more than the command."""

    wrong: str
    command: str
    files: Mapping[str, bytes | str] = MappingProxyType({})
    inside: str = ""


def data(wrong: str, name: str, content: bytes | str, more: str = "") -> Case:
    return Case(wrong, f"finetune check {name}{more}", {name: content})


def config(wrong: str, text: str, more: str = "") -> Case:
    return Case(wrong, f"finetune check c.yaml{more}", {"c.yaml": f"model: ./tiny\n{text}"}, text.removeprefix(DATA))


def compare(wrong: str, words: str, **files: str) -> Case:
    """A comparison of one column on the tiny model, but for what the words say."""
    given = {f"{name}.json": content for name, content in files.items()}
    asked = "" if "--messages" in words or "--prompt" in words else " --prompt tea?"
    columns = "" if "--columns" in words else " --columns greedy"
    model = "" if "--model" in words else " --model ./tiny"
    return Case(wrong, f"inference compare{model} {words}{asked}{columns}", given, files.get("m", "")[:80])


AREAS: dict[str, list[Case]] = {
    "Data files": [
        Case("no such file", "finetune check nowhere.jsonl"),
        data("an empty file", "empty.jsonl", b""),
        data("another kind of file", "rows.docx", b"PK"),
        data("a zip named .csv", "rows.csv", b"PK\x03\x04" + b"\0" * 60),
        data("text named .parquet", "rows.parquet", b"a,b\n1,2\n"),
        data("text named .gz", "rows.jsonl.gz", ROW),
        data("a truncated .gz file", "rows.jsonl.gz", gzip.compress(ROW * 500, mtime=0)[:-20]),
        data("truncated JSON", "rows.json", b'[{"prompt": "a", "completion": "b"}, {"pro'),
        data("endless nesting", "deep.json", NEST),
        data("two tables in one file", "both.json", b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}'),
        data("a number", "rows.json", b"42"),
        data("two columns with the same name", "rows.csv", b"text,text\na,b\n"),
        data("zero bytes", "rows.txt", b"tea\0coffee"),
        data("unknown column names", "rows.csv", b"foo,bar\nHow?,So.\n"),
        data("a missing column", "rows.csv", b"foo,bar\nHow?,So.\n", " --mapping prompt=foo answer=baz"),
        data("an unknown part of the mapping", "rows.csv", b"foo,bar\nHow?,So.\n", " --mapping promt=foo answer=bar"),
        data("a setting for a data file", "rows.jsonl", ROW, " --set optim.epochs=2"),
        data("only empty answers", "rows.jsonl", b'{"prompt": "How?", "completion": ""}\n'),
        data("a row in Latin-1", "rows.jsonl", ROW + b'{"prompt": "caf\xe9", "completion": "yes"}\n'),
        data("a duplicate row", "rows.jsonl", ROW * 2),
    ],
    "Configs": [
        config("not YAML", DATA + "optim: {epochs: 1"),
        Case("a list", "finetune check c.yaml", {"c.yaml": "- 1\n- 2\n"}, "- 1\n- 2"),
        config("no data", "method: lora"),
        config("a misspelled setting", DATA + "optim: {epocs: 1}"),
        config("a number out of range", DATA + "lora: {rank: 0}"),
        config("a learning rate of 0", DATA + "optim: {learning_rate: 0}"),
        config("a learning rate of 10", DATA + "optim: {learning_rate: 10}"),
        config("a rank above the layer's width", DATA + "limits: {max_length: 128}\nlora: {rank: 512}"),
        config("an unknown module name", DATA + "limits: {max_length: 128}\nlora: {target_modules: [q_prj]}"),
        config("one row", DATA + "limits: {max_rows: 1}"),
        config("keep_best without a validation split", DATA + "limits: {validation: 0}\noptim: {keep_best: true}"),
        config("only rows that are too long", DATA + "limits: {max_length: 16}")._replace(
            files={"c.yaml": f"model: ./tiny\n{DATA}limits: {{max_length: 16}}\n", "rows.jsonl": LONG}
        ),
        config("a config of a newer version", DATA + "version: 99"),
        config("text instead of a number", DATA + "optim: {epochs: two}"),
        config("a setting twice", DATA + "seed: 1\nseed: 2"),
        config("a block of another method", DATA + "method: full\nlora: {rank: 4}"),
        config("an unknown method", DATA + "method: lowrank"),
        config("an unknown objective", DATA.replace("[{data", "[{objective: dop, data")),
        config("SFT data for DPO", DATA.replace("[{data", "[{objective: dpo, data")),
        config("preference data for SFT", PAIRS)._replace(
            inside=PAIRS.strip(), files={"c.yaml": f"model: ./tiny\n{PAIRS}", "pairs.jsonl": PAIR}
        ),
        config("a misspelled setting of an objective", DATA.replace("[{data", "[{sft: {lern: answers}, data")),
        config("a setting of an objective out of range", STAGE % "objective: dpo, dpo: {beta: 0}"),
        config("a block of another objective", STAGE % "objective: dpo, sft: {learn: answers}"),
        config("a misspelled setting of a stage", STAGE % "objectiv: dpo"),
        config("a stage without data", "stages: [{data: [{path: rows.jsonl}]}, {objective: dpo}]"),
        Case("a misspelled preset", "finetune preset stagd"),
        Case("an unknown preset", "finetune preset xyzzy"),
        Case("too few files for a preset", "finetune preset staged rows.jsonl"),
        config("an unpaired surrogate", DATA + 'watch: {samples: ["tea \\uD800"]}'),
        config("an access token", DATA + "hub_token: hf_" + "a" * 34)._replace(inside="hub_token: hf_..."),
        config("YAML references", DATA + "optim: &x {epochs: 1}\nwatch: *x"),
        config("a missing data file", "stages: [{data: [{path: nowhere.jsonl}]}]"),
        config("a split of a file", "stages: [{data: [{path: rows.jsonl, split: train}]}]"),
        config("a mapping to a missing column", DATA.replace("l}", "l, mapping: {prompt: nix, answer: b}}")),
        config("a missing dataset", "stages: [{data: [{dataset: abababababab}]}]"),
        config("max length above the context length", DATA + "limits: {max_length: 4096}"),
        config("an unknown device", DATA + "compute: {device: gpu}"),
        config("an invalid --set", DATA, " --set epochs"),
        Case("a data file as config", "finetune train rows.jsonl"),
    ],
    "Compare": [
        compare("a misspelled strategy", "--columns nucleos"),
        compare("a misspelled setting", "--columns 'nucleus topp=0.9'"),
        compare("a value out of range", "--columns 'nucleus top_p=1.5'"),
        compare("a fraction of a beam", "--columns 'beam num_beams=2.5'"),
        compare("a setting twice", "--columns 'top_k top_k=5 top_k=6'"),
        compare("no tuned model", "--columns 'greedy model=tuned'"),
        compare("an empty prompt", "--prompt ''"),
        compare("invalid UTF-8", r"--prompt $'caf\xe9'"),
        compare("no new tokens", "--max-new-tokens 0"),
        compare("a seed out of range", "--seed -1"),
        compare("more tokens than the context length", "--max-new-tokens 600"),
        compare("a missing messages file", "--messages nowhere.json"),
        compare("messages that are not a list", "--messages m.json", m="{}"),
        compare("an unknown role", "--messages m.json", m='[{"role": "bot", "content": "tea?"}]'),
        compare("an unpaired surrogate", "--messages m.json", m=USER % r'"\ud800"'),
        compare("endless nesting", "--messages m.json", m=USER % NEST.decode()),
    ],
    "Evaluate": [
        Case("a missing run", "finetune evaluate r20261123-181502-3fa9"),
        Case("an unfinished run", "finetune evaluate ./unfinished"),
        Case("max rows of 0", "finetune evaluate ./run --rows 0"),
        Case("a missing general-text dataset", "finetune evaluate ./run --general abababababac"),
        Case("an invalid general-text dataset", "finetune evaluate ./run --general tea"),
        Case("a run with deleted data", "finetune evaluate ./run"),
    ],
    "References": [
        compare("an invalid reference", "--model 'my model'"),
        compare("a parent folder", "--model ../secret"),
        compare("a folder without a model", "--model /etc"),
        compare("a missing run", "--model r20261123-181502-3fa9"),
        compare("a run without a result", "--model ./unfinished"),
        compare("a dataset as model", "--model abababababab"),
        compare("a model with pickled weights", "--model ./pickled"),
        compare("a model as adapter", "--adapter ./tiny"),
        compare("an unreachable Hub", "--model name/model"),
        Case("a missing run", "finetune status r20261123-181502-3fa9"),
        Case("nothing to delete", "finetune delete name/model"),
        Case("a missing run", "finetune keep r20261123-181502-3fa9"),
        Case("a missing argument", "finetune resume"),
    ],
    "Publish": [
        Case("a missing run", "finetune publish r20261123-181502-3fa9 ada/tea"),
        Case("an invalid run id", "finetune publish tea ada/tea"),
        Case("a name without an owner", "finetune publish ./run tea"),
        Case("a name with spaces", "finetune publish ./run 'ada/my tea'"),
        Case("a folder as name", "finetune publish ./run ../tea"),
        Case("no token", "finetune publish ./run ada/tea"),
        Case("a missing dataset", "finetune publish abababababab ada/tea --what dataset"),
        Case("an invalid preset", "finetune publish ./run ada/tea --what presets --preset 'nucleus top_p=7'"),
    ],
}


def prepare(place: Path, model: Path) -> None:
    """The files that all commands find: rows, the tiny model, a pickled one, a finished run and an unfinished one."""
    from core.workspace import Owner
    from tests.hub.finished_run import make_finished_run

    (place / "rows.jsonl").write_bytes(ROW + OTHER_ROW)
    shutil.copytree(model, place / "tiny")
    shutil.copytree(model, place / "pickled")
    (place / "pickled" / "model.safetensors").rename(place / "pickled" / "pytorch_model.bin")
    run = make_finished_run(Owner("local"), model)
    (place / "run").symlink_to(run.folder)
    shutil.copytree(run.folder, place / "unfinished", ignore=shutil.ignore_patterns("model"))
    (place / "unfinished" / "events.jsonl").write_text("")


def said(case: Case, place: Path) -> tuple[int, str]:
    """Run one command in the folder; its exit code and what it said, without the folder's own path."""
    kept = {name: (place / name).read_bytes() for name in case.files if (place / name).is_file()}
    for name, content in case.files.items():
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    program, *words = _words(case.command)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _main(program)(words)
    for name in case.files:
        (place / name).unlink()
    for name, content in kept.items():
        (place / name).write_bytes(content)
    lines = [line for line in (err.getvalue() + out.getvalue()).splitlines() if not line.startswith("reading ")]
    text = " ".join(line.strip() for line in lines).replace(f"{place}/", "")
    return code, re.sub(r"local cache \([^)]*\)", "local cache (...)", text)


def _words(command: str) -> list[str]:
    return [word.replace(r"$caf\xe9", "caf\udce9") for word in shlex.split(command)]


def _main(program: str) -> Callable[[list[str]], int]:
    import finetune.cli.main
    import inference.cli.main

    return {"finetune": finetune.cli.main.main, "inference": inference.cli.main.main}[program]


def table(place: Path, model: Path) -> str:
    """The page, from running every command in an empty folder."""
    prepare(place, model)
    before = Path.cwd()
    os.chdir(place)
    try:
        parts = [HEAD]
        for area, cases in AREAS.items():
            rows = [_row(case, *said(case, place)) for case in cases]
            parts.append("\n".join([f"\n## {area}\n", *TITLES, *rows, ""]))
        return "".join(parts)
    finally:
        os.chdir(before)


def _row(case: Case, code: int, sentence: str) -> str:
    safe = sentence.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    lines = [case.command, *case.inside.splitlines()]
    given = "<br>".join(f"`{line}`" for line in lines if line)
    return f"| {case.wrong} | {given} | {code} | {safe} |"


def _print() -> None:
    from tests.tiny_model import make_tiny_model

    for name in ("HF_TOKEN", "LANG", "LC_ALL"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve() / "here"
        place.mkdir()
        own = {"TUNESCOPE_HOME": f"{folder}/home", "TUNESCOPE_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
        os.environ.update(own | {"HF_HUB_OFFLINE": "1"})
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
            os.dup2(2, 1)  # the tokenizer's maker prints empty lines
            out.write(table(place, make_tiny_model(Path(folder) / "tiny")))


if __name__ == "__main__":
    _print()
