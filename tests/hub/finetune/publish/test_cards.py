"""A card on its way to the Hub: its licence and papers, a person's own words in it, what is refused in it."""

import json

import pytest

from finetune.config.run_config import DataSource, Stage
from finetune.data.importing.importer import import_hub
from finetune.publish import prepare, push
from finetune.publish.card.metadata import read_head
from finetune.publish.kinds import Options, build
from tests.hub.finetune.publish.test_publish import REPO
from tests.hub.finished_run import BASE_ID
from tests.hub.standin import TOKEN
from tests.refusals import refused


def base_with(hub, files):
    repo = hub.repos["models", BASE_ID]
    added = {path: hub.blobs.entry(path, content) for path, content in files.items()}
    repo.add_commit({**repo.head.files, **added}, "papers")


def test_an_unknown_licence_is_asked_for_and_a_public_push_needs_the_answer(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher, private=False)
    assert any("--license" in warning for warning in plan.warnings)
    assert "--license" in refused("publish.licence_needed", push, plan, publisher) and "create" not in hub.kinds()
    plan = prepare(finished, REPO, publisher, private=False, license="CC-BY-4.0")
    assert "license: cc-by-4.0" in plan.card and not any("--license" in warning for warning in plan.warnings)
    push(plan, publisher)


def test_data_from_the_hub_is_named_in_the_card_and_its_head(hub, finished, publisher, tmp_path):
    rows = "\n".join(json.dumps({"prompt": f"{number}?", "completion": f"{number}."}) for number in range(4))
    hub.add_repo("acme/tea-rows", {"train.jsonl": rows.encode()}, kind="datasets")
    dataset = import_hub("acme/tea-rows", None, None, None, publisher, TOKEN)
    config = finished.config()
    finished.save(config.model_copy(update={"stages": [Stage(data=[DataSource(dataset=dataset.id)])]}))
    card = prepare(finished, REPO, publisher).card
    assert read_head(card)["datasets"] == ["acme/tea-rows"] and "(from the Hub: acme/tea-rows)" in card
    built = build("dataset", dataset, publisher, tmp_path / "out", Options(license="mit"))
    assert "huggingface.co/datasets/acme/tea-rows" in (built.folder / "README.md").read_text()
    plan = prepare(dataset, "tester/rows-again", publisher, built=built)
    assert "acme/tea-rows" in plan.card


@pytest.mark.parametrize("licence", ["other", "my own", "mit; rm -rf", "unknown"])
def test_what_is_no_licence_is_refused(hub, finished, publisher, licence):
    assert licence in refused("publish.licence_name", prepare, finished, REPO, publisher, license=licence)


def test_a_known_licence_is_carried_over_with_its_papers(hub, finished, publisher):
    papers = {"LICENSE": b"Tea Licence 1.0", "NOTICE.txt": b"by Grace", "LICENSE.exe": b"x" * 2_000_000}
    base_with(hub, {"README.md": b"---\nlicense: mit\n---\n", **papers})
    plan = prepare(finished, REPO, publisher, private=False)
    kept = {file.path: file.content() for file in plan.files if file.path.startswith(("LICENSE", "NOTICE"))}
    assert kept == {"LICENSE": b"Tea Licence 1.0", "NOTICE.txt": b"by Grace"}
    assert "mit, inherited" in plan.card and "LICENSE, NOTICE.txt" in plan.card
    sentence = refused("publish.licence_differs", prepare, finished, REPO, publisher, license="apache-2.0")
    assert "mit" in sentence and BASE_ID in sentence


def test_apache_comes_with_its_text(hub, finished, publisher):
    base_with(hub, {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    [paper] = [file for file in prepare(finished, REPO, publisher).files if file.path == "LICENSE"]
    assert b"Apache License" in paper.content()


def test_an_edited_card_is_what_is_published_and_states_the_licence(hub, finished, publisher):
    card = prepare(finished, REPO, publisher).card
    edited = card.replace("# tea-adapter", "# My tea").replace("base_model:", "license: mit\nbase_model:")
    plan = prepare(finished, REPO, publisher, card=edited, private=False)
    assert plan.card == edited and plan.license.key == "mit"
    push(plan, publisher)
    assert hub.content(REPO, "README.md").decode() == edited


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda card: card.replace("---\n", "", 1), "publish.card_head"),
        (lambda card: card.replace("library_name:", "library_name: [", 1), "publish.card_head"),
        (lambda card: card.replace("library_name: peft\n", ""), "publish.card_lacks"),
        (lambda card: card.replace(f"base_model: {BASE_ID}", "base_model: google/other"), "publish.card_says"),
        (lambda card: card + TOKEN, "publish.token_inside"),
        (lambda card: card + "AIza" + "b2" * 17 + "c", "publish.secret_inside"),
        (lambda card: card + "see file:///tmp/x/y", "publish.path_inside"),
        (lambda card: card + "x" * 1_000_001, "publish.oversized"),
    ],
)
def test_an_edited_card_is_checked_like_the_one_made_here(hub, finished, publisher, change, code):
    card = change(prepare(finished, REPO, publisher).card)
    refused(code, prepare, finished, REPO, publisher, card=card)
    assert not {"create", "preupload", "commit"} & set(hub.kinds())


def test_a_licence_that_is_carried_over_cannot_be_edited_away(hub, finished, publisher):
    base_with(hub, {"README.md": b"---\nlicense: mit\n---\n"})
    card = prepare(finished, REPO, publisher).card.replace("license: mit", "license: apache-2.0")
    assert "mit" in refused("publish.card_says", prepare, finished, REPO, publisher, card=card)


def test_a_head_that_the_hub_does_not_take_is_told_before_anything_is_sent(hub, finished, publisher):
    hub.fail("validate", status=400)
    refused("publish.card_refused", prepare, finished, REPO, publisher)
    assert "create" not in hub.kinds()
