"""The shell's compare: one JSON on stdout, sentences on stderr, exit codes, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys

import pytest

from core import settings
from inference.cli.main import main
from tests.rules.source import ROOT

FIELDS = ["model", "dtype", "prompt_tokens", "forwards", "wall_s", "load_s", "columns"]
ORIGIN = ["seed", "max_new_tokens", "exact", "prompt_ids", "fingerprint", "revision", "adapter", "models", "versions"]
METRICS = ["tokens", "perplexity", "distinct_2", "repetition", "first_token_s", "tokens_per_s"]


def _child(*arguments):
    command = [settings.python(), "-m", "inference", "compare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_json_prints_one_object_and_nothing_else(tiny_model):
    columns = ["beam num_beams=3", "greedy", "nucleus  top_p=0.9 model=base"]
    done = _child("--model", tiny_model, "--prompt", "tea?", "--columns", *columns, "--max-new-tokens", 9, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert list(result) == [*FIELDS, *ORIGIN, "request"]
    assert [column["name"] for column in result["columns"]] == columns
    assert list(result["columns"][0]) == [
        "name", "model", "token_ids", "text", "finish", "metrics", "row_forwards",
    ]  # fmt: skip
    assert list(result["columns"][0]["metrics"]) == METRICS
    assert result["forwards"] <= max(len(column["token_ids"]) for column in result["columns"]) <= 9


@pytest.mark.ci
def test_a_python_that_imports_everything_itself_prints_the_same(tiny_model, cold):
    arguments = ["--model", tiny_model, "--prompt", "tea?", "--columns", "greedy", "--max-new-tokens", 5, "--json"]
    done = _child(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["columns"][0]["token_ids"]) <= 5


def test_text_streams_one_column_under_the_other(tiny_model, capfd):
    arguments = ["--model", str(tiny_model), "--prompt", "tea?", "--columns", "greedy", "beam", "--max-new-tokens", "9"]
    assert main(["compare", *arguments]) == 0
    out = capfd.readouterr().out
    assert main(["compare", *arguments, "--json"]) == 0
    for column in json.loads(capfd.readouterr().out)["columns"]:
        assert f"--- {column['name']} (base)\n{column['text']}\n[" in out


def test_help_is_instant_and_names_every_strategy():
    program = (
        "import sys; from inference.cli.main import main\ntry: main(['compare', '--help'])\nexcept SystemExit: pass\n"
    )
    program += "print([name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(key in done.stdout for key in ("greedy", "num_beams=4", "typical_p=0.9", "model=REF"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--columns", "nucleos"], ['"nucleos" is not a decoding strategy', "nucleus"]),
        (["--columns", "top_k top_k=0"], ["top_k", "0", "1 to 1000"]),
        (["--columns", *["greedy"] * 13], ["has 13 columns", "1 to 12"]),
        (["--max-new-tokens", "0"], ["(max_new_tokens) is 0", "1 to 8192"]),
        (["--max-new-tokens", "many"], ["max-new-tokens", "many"]),
        (["--seed", "-3"], ["Seed is -3"]),
        (["--dtype", "int8"], ["int8", "float32"]),
        (["--messages", "/no/such.json"], ["not allowed with"]),
        (["--colour", "red"], ["--colour"]),
        (["--model", "../secret"], ['"../secret"']),
        (["--prompt", ""], ["prompt is empty"]),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(tiny_model, capfd, arguments, parts):
    given = ["--model", str(tiny_model), "--prompt", "tea?", "--columns", "greedy"]
    assert main(["compare", *given, *arguments]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert [part for part in parts if part not in shown.err] == [], shown.err


@pytest.mark.parametrize(
    ("arguments", "helps"),
    [(["compare", "--colour"], "compare --help"), (["prompts"], "prompts --help"), (["nothing"], "--help")],
)
def test_a_usage_error_names_the_help_of_its_own_command(capfd, arguments, helps):
    assert main(arguments) == 2
    assert f'Run "python -m inference {helps}" for usage.' in capfd.readouterr().err


@pytest.mark.parametrize("argument", ["--prompt", "--columns", "--model", "--adapter", "--messages", "--seed"])
def test_bytes_that_are_no_utf8_get_one_sentence_and_exit_2(tiny_model, argument):
    given = {"--model": str(tiny_model), "--columns": "greedy", "--prompt": "tea?"} | {argument: b"caf\xe9"}
    if argument == "--messages":
        del given["--prompt"]
    command = [settings.python(), "-m", "inference", "compare", *(part for pair in given.items() for part in pair)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == 2 and done.stdout == b""
    assert len(done.stderr.splitlines()) == 1 and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "Cannot read the messages file"),
        ("[{", "not valid JSON"),
        ("{}", "not a list"),
        ('[{"role": "bot", "content": "x"}]', 'role "bot"'),
        ('[{"role": "user", "content": 3}]', "message 1 is not text"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not valid JSON"),
        ('[{"role": "user", "content": "tea \\ud800"}]', "message 1 is not valid UTF-8"),
        ('[{"role": "\\ud800", "content": "tea"}]', "Message 1 has the role"),
        ("[" * 200_000, "nested too deeply"),
        ('[{"role": "user", "content": ' + "[" * 200_000 + "]" * 200_000 + "}]", "nested too deeply"),
    ],
)
def test_a_wrong_messages_file_gets_a_sentence(tiny_model, tmp_path, capfd, content, part):
    path = tmp_path / "messages.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = ["--model", str(tiny_model), "--messages", str(path), "--columns", "greedy"]
    assert main(["compare", *arguments]) == 2
    shown = capfd.readouterr()
    assert part in shown.err and len(shown.err.splitlines()) == 1 and shown.out == ""


def test_messages_are_answered(tiny_model, tmp_path, capfd):
    path = tmp_path / "messages.json"
    turns = [("system", "Be brief."), ("user", "tea?"), ("assistant", "Yes."), ("user", "how?")]
    path.write_text(json.dumps([{"role": role, "content": content} for role, content in turns]))
    arguments = ["--model", str(tiny_model), "--messages", str(path), "--columns", "greedy", "--max-new-tokens", "3"]
    assert main(["compare", *arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["prompt_tokens"] > 25


def test_failed_columns_are_told_with_exit_3(tiny_model, tmp_path, capfd):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("inf"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    arguments = ["--model", str(broken), "--prompt", "tea?", "--columns", "greedy", "beam", "--json"]
    assert main(["compare", *arguments]) == 3
    shown = capfd.readouterr()
    assert [column["finish"] for column in json.loads(shown.out)["columns"]] == ["error", "error"]
    assert "no longer finite numbers" in shown.err


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(tiny_model, capfd, form):
    arguments = ["--model", str(tiny_model), "--prompt", "tea?", "--columns", "greedy", "--max-new-tokens", "4", *form]
    read, write = os.pipe()
    os.close(read)
    with capfd.disabled():
        stdout = os.dup(1)
        os.dup2(write, 1)
        try:
            code = main(["compare", *arguments])
        finally:
            os.dup2(stdout, 1)
    assert code == 0


def test_ctrl_c_stops_and_prints_what_there_is(tmp_path):
    from tests.tiny_model import make_tiny_model

    slow = make_tiny_model(tmp_path / "slow", context=8192, layers=8)
    command = [settings.python(), "-u", "-m", "inference", "compare", "--model", str(slow), "--prompt", "tea?"]
    command += ["--columns", *["typical"] * 12, "--max-new-tokens", "8000"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline().startswith("--- typical")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate()
    assert child.returncode == 0
    assert out.count("[stopped;") == 12


def test_check_replays_every_column_and_puts_the_verdicts_into_the_json(tiny_model, capfd):
    given = ["--model", str(tiny_model), "--prompt", "tea?", "--max-new-tokens", "9", "--check", "--json"]
    assert main(["compare", *given, "--columns", "greedy", "beam", "mirostat"]) == 0
    shown = capfd.readouterr()
    checks = json.loads(shown.out)["checks"]
    assert [check["kind"] for check in checks] == ["identical", "identical", "none"]
    assert shown.err.splitlines() == [
        f"{name}: {check['sentence']}" for name, check in zip(("greedy", "beam", "mirostat"), checks, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_json_is_run_again_and_the_same_tokens_are_told(tiny_model, tmp_path, capfd, dtype):
    columns = ["nucleus seed=5", "beam num_beams=3", 'greedy stop="q"']
    given = ["--model", str(tiny_model), "--prompt", "tea?", "--max-new-tokens", "12", "--seed", "4", "--dtype", dtype]
    assert main(["compare", *given, "--columns", *columns, "--exact", "--json"]) == 0
    first = capfd.readouterr().out
    (tmp_path / "record.json").write_text(first)
    assert main(["compare", "--record", str(tmp_path / "record.json"), "--check", "--json"]) == 0
    shown = capfd.readouterr()
    before, again = json.loads(first), json.loads(shown.out)
    assert again["exact"] is True and again["dtype"] == dtype
    assert [check["kind"] for check in again["checks"]] == ["identical"] * 3
    assert [column["token_ids"] for column in again["columns"]] == [c["token_ids"] for c in before["columns"]]
    assert "All 3 columns have the same tokens as the record." in shown.err.splitlines()


@pytest.mark.parametrize("older", [False, True])
def test_a_record_of_other_weights_and_versions_says_what_is_not_as_it_was(tiny_model, tmp_path, capfd, older):
    """Records from before every model was told have the first one's fingerprint alone."""
    given = ["--model", str(tiny_model), "--prompt", "tea?", "--max-new-tokens", "5", "--columns", "greedy", "--json"]
    assert main(["compare", *given]) == 0
    record = json.loads(capfd.readouterr().out)
    record["fingerprint"] = record["models"][0]["fingerprint"] = "f" * 64
    record["versions"]["torch"] = "1.0"
    if older:
        del record["models"]
    record["columns"][0]["token_ids"][0] += 1
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert main(["compare", "--record", str(tmp_path / "record.json")]) == 0
    told = capfd.readouterr().err.splitlines()
    assert told[0] == "1 of 1 columns have other tokens than the record: greedy."
    assert "ffff" in told[1] and "torch" in told[2]
    assert (f"{tiny_model} (columns 1)" in told[1]) is not older


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"request": 3}', '{"request": {"model": "a/b"}}'])
def test_what_is_no_record_gets_one_sentence(tmp_path, capfd, content):
    (tmp_path / "record.json").write_text(content)
    assert main(["compare", "--record", str(tmp_path / "record.json")]) == 2
    shown = capfd.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
