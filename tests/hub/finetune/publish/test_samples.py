"""Texts of a comparison in the card, from the shell: trained, compared and published for real, on the stand-in."""

import json
import os
import subprocess
import tempfile

import pytest

from core import settings
from core.workspace import Owner
from finetune.cli.publish import publish_command
from finetune.config.run_config import to_yaml
from finetune.publish import prepare
from finetune.publish.card.facts import Sample
from finetune.runs.run import list_runs
from inference.cli import main as shell
from tests.hub.finetune.publish.test_publish import REPO
from tests.hub.finished_run import BASE_ID
from tests.hub.standin import TOKEN
from tests.refusals import refused
from tests.rules.source import ROOT

pytestmark = pytest.mark.matrix

PROMPT = "Say *three* <b>words</b>:"


def child(*words):
    command = [settings.python(), "-m", *map(str, words)]
    environment = os.environ | {"HF_TOKEN": TOKEN, "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def compare(tmp_path, capfd):
    """Compares in this process and keeps the JSON in a file."""

    def compared(*columns, model):
        capfd.readouterr()
        asked = ["--model", str(model), "--prompt", PROMPT, "--max-new-tokens", "6", "--json", "--columns", *columns]
        assert shell.main(["compare", *asked]) == 0
        path = tmp_path / "comparison.json"
        path.write_text(capfd.readouterr().out)
        return path

    return compared


def test_what_a_trained_run_wrote_in_a_comparison_stands_in_its_card(hub, publisher, recipe, tiny_model, tmp_path):
    hub.add_repo(BASE_ID, tiny_model)
    (tmp_path / "c.yaml").write_text(to_yaml(recipe))
    assert child("finetune", "train", tmp_path / "c.yaml").returncode == 0
    (run,) = list_runs(Owner("local"))
    columns = ["greedy", f"nucleus top_p=0.9 seed=3 model={run.id}", "beam num_beams=3 model=base"]
    asked = [
        "--model",
        BASE_ID,
        "--adapter",
        run.id,
        "--prompt",
        PROMPT,
        "--max-new-tokens",
        "8",
        "--columns",
        *columns,
    ]
    told = child("inference", "compare", *asked, "--json")
    (tmp_path / "c.json").write_text(told.stdout)
    done = child("finetune", "publish", run.id, REPO, "--samples", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    assert "3 of the 3 columns" in done.stderr and "Verified" in done.stderr
    card = hub.content(REPO, "README.md").decode()
    assert card.count("> Say \\*three\\* &lt;b&gt;words&lt;/b&gt;&#58;  ") == 1 and "## Verification" in card
    lines = ["**greedy**:", "**nucleus top\\_p\\=0.9 temperature\\=1.0 seed\\=3**:"]
    beam = "**beam num\\_beams\\=3 length\\_penalty\\=1.0 early\\_stopping\\=false**"
    lines += [f"{beam}, base model:"]
    places = [card.index(line) for line in lines]
    assert places == sorted(places)
    for column, line in zip(json.loads(told.stdout)["columns"], lines, strict=True):
        written = card.split(line)[1].split("\n\n")[1]
        letters = [one for one in column["text"] if one.isascii() and one.isalnum()]
        assert letters and is_within(letters, written)
    again = child("finetune", "publish", run.id, REPO, "--samples", tmp_path / "c.json")
    assert again.returncode == 0 and hub.content(REPO, "README.md").decode() == card


def is_within(letters, text):
    rest = iter(text)
    return all(letter in rest for letter in letters)


@pytest.mark.parametrize("what", ["merged", "gguf", "presets"])
def test_every_kind_with_a_card_of_its_run_shows_them(hub, finished, publisher, compare, capfd, what):
    path = compare("greedy", "greedy model=base", model=finished.id)
    presets = ("greedy",) if what == "presets" else ()
    more = {"what": what, "samples": path, "presets": presets}
    assert publish_command(finished.id, REPO, False, False, publisher, **more) == 0
    assert "2 of the 2 columns" in capfd.readouterr().err
    card = hub.content(REPO, "README.md").decode()
    assert "**greedy**:" in card and "**greedy**, base model:" in card
    assert ("before conversion to GGUF" in card) == (what == "gguf")


@pytest.mark.ci
def test_a_comparison_of_what_was_published_counts_and_so_does_a_copy_of_the_folder(
    hub, finished, publisher, compare, capfd, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert publish_command(finished.id, REPO, False, False, publisher) == 0
    for model in (REPO, finished.model):
        path = compare("greedy", model=model)
        assert publish_command(finished.id, REPO, False, False, publisher, samples=path) == 0
        assert "1 of the 1 columns" in capfd.readouterr().err
    card = hub.content(REPO, "README.md").decode()
    assert "**greedy**:" in card and str(finished.folder) not in card


@pytest.mark.parametrize(
    ("columns", "model", "part"),
    [
        (["greedy", "beam"], BASE_ID, "only its base model"),
        (["greedy"], "other", "used other models"),
    ],
)
def test_a_comparison_without_the_run_is_refused_before_anything_is_sent(
    hub, finished, publisher, compare, trained, capfd, columns, model, part
):
    path = compare(*columns, model=trained["full"].model if model == "other" else model)
    capfd.readouterr()
    hub.requests.clear()
    assert publish_command(finished.id, REPO, False, False, publisher, samples=path) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1 and part in said and str(path) in said and finished.id in said
    assert hub.requests == []


def test_a_run_trained_again_is_another_one(hub, finished, publisher, compare, capfd):
    from safetensors.numpy import load_file, save_file

    path, weights = compare("greedy", model=finished.id), finished.model / "adapter_model.safetensors"
    save_file({name: value + 0.5 for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    capfd.readouterr()
    assert publish_command(finished.id, REPO, False, False, publisher, samples=path) == 2
    assert "used other models" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "Cannot read the record"),
        ("not JSON", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ('{"columns": []}', "not the record of a comparison"),
        ('{"request": {"model": "a/b", "columns": ["greedy"], "prompt": "x"}}', "does not name the weights"),
        (
            '{"request": {"model": "a/b", "columns": ["greedy"], "prompt": "x"}, "models": []}',
            "lack their text or their weights",
        ),
        ('{"request": {"model": "a/b", "columns": ["greedy"], "prompt": "x"}, "models": 7, "columns": []}', '"models"'),
    ],
)
def test_a_file_that_is_no_record_gets_one_sentence(hub, finished, publisher, tmp_path, capfd, content, part):
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content)
    assert publish_command(finished.id, REPO, False, False, publisher, samples=path) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1 and part in said and "create" not in hub.kinds()


def test_texts_are_refused_where_no_card_could_show_them(hub, finished, publisher, tmp_path, capfd):
    for more, part in (({"what": "space"}, "shows no samples"), ({"card": tmp_path / "README.md"}, "--card")):
        assert publish_command(finished.id, REPO, False, False, publisher, samples=tmp_path / "c", **more) == 2
        assert part in capfd.readouterr().err
    assert hub.kinds() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"my token is {TOKEN}", "publish.token_inside"),
        ("hf_" + "aB3" * 11, "publish.token_inside"),
        ("ghp_" + "aB3" * 12, "publish.secret_inside"),
        (f"see {tempfile.gettempdir()}/notes", "publish.path_inside"),
        (f"see file://{tempfile.gettempdir()}/notes", "publish.path_inside"),
    ],
)
def test_what_nobody_should_read_is_found_in_a_text_though_it_is_escaped(hub, finished, publisher, text, code):
    for sample in (Sample("Tea?", text), Sample(text, "Yes.")):
        refused(code, prepare, finished, REPO, publisher, samples=[sample])
    assert "create" not in hub.kinds()
