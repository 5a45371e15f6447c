"""What somebody else changed is shown and never written over silently; what is the same is not pushed again."""

import pytest

from core.files import write_json
from finetune.publish import keep_in_card, prepare, push, read_push
from finetune.publish.proof.in_card import with_proof
from finetune.publish.proof.proof import compare
from tests.hub.finetune.publish.test_publish import REPO, publish
from tests.refusals import refused


@pytest.fixture
def pushed(hub, finished, publisher):
    return publish(finished, publisher)


def somebody(hub, changes, title="a better card", by="grace"):
    """A commit of somebody else: contents by path, None to remove a file."""
    repo = hub.repos["models", REPO]
    files = {path: entry for path, entry in repo.head.files.items() if path not in changes}
    files |= {path: hub.blobs.entry(path, content) for path, content in changes.items() if content is not None}
    return repo.add_commit(files, title, by=by)


def test_somebody_elses_commit_is_shown_with_who_and_which_files(hub, finished, publisher, pushed):
    somebody(hub, {"README.md": b"# theirs", "extra.txt": b"1", "learning-rate.png": None})
    plan = prepare(finished, REPO, publisher)
    assert plan.target == "same" and plan.needs_yes
    difference = plan.difference
    assert (difference.added, difference.changed, difference.removed) == (
        ("extra.txt",),
        ("README.md",),
        ("learning-rate.png",),
    )
    assert [(change.by, change.title) for change in difference.changes] == [("grace", "a better card")]
    assert any("grace" in warning and "extra.txt" in warning for warning in plan.warnings)


def test_it_is_written_over_only_with_an_explicit_yes(hub, finished, publisher, pushed):
    theirs = somebody(hub, {"README.md": b"# theirs"})
    plan = prepare(finished, REPO, publisher)
    assert "grace" in refused("publish.changed_by", push, plan, publisher)
    assert hub.repos["models", REPO].head is theirs
    assert push(plan, publisher, confirmed=True).changed
    assert hub.content(REPO, "README.md") == plan.card.encode()


def test_a_change_between_preview_and_push_needs_another_preview_even_with_a_yes(hub, finished, publisher, pushed):
    plan = prepare(finished, REPO, publisher)
    theirs = somebody(hub, {"extra.txt": b"1"})
    sentence = refused("publish.changed_since", push, plan, publisher, confirmed=True)
    assert "grace" in sentence and "extra.txt" in sentence and hub.repos["models", REPO].head is theirs


def test_a_machine_that_remembers_nothing_takes_the_last_push_of_that_run_for_ours(hub, finished, publisher, pushed):
    (finished.folder / "published.json").unlink()
    assert prepare(finished, REPO, publisher).difference is None
    somebody(hub, {"extra.txt": b"1"})
    assert prepare(finished, REPO, publisher).difference.added == ("extra.txt",)


def test_a_history_that_was_rewritten_is_shown_whole(hub, finished, publisher, pushed):
    repo = hub.repos["models", REPO]
    files = repo.head.files
    repo.commits.clear()
    repo.add_commit(files, "squashed", by="grace")
    difference = prepare(finished, REPO, publisher).difference
    assert [change.title for change in difference.changes] == ["squashed"] and "tunescope.json" in difference.added


def test_a_second_push_of_the_same_says_so_and_commits_nothing(hub, finished, publisher, pushed):
    hub.requests.clear()
    seen = []
    again = push(prepare(finished, REPO, publisher), publisher, progress=seen.append)
    assert not again.changed and again.commit == pushed.commit and "nothing was changed" in seen[-1].text
    assert not {"commit", "lfs_batch", "lfs_put"} & set(hub.kinds())


def test_the_proof_goes_into_card_and_manifest_by_a_commit_of_those_two_alone(hub, finished, publisher, pushed):
    proof = proof_of(finished, pushed)
    repo = hub.repos["models", REPO]
    before = repo.head.files
    kept = keep_in_card(finished, proof, publisher)
    after = repo.head.files
    assert {path for path in after if after[path] != before.get(path)} == {"README.md", "tunescope.json"}
    card = hub.content(REPO, "README.md").decode()
    assert f"`{pushed.commit[:12]}`" in card and f"{proof.prompts} prompts" in card
    assert '"logits_max_difference"' in hub.content(REPO, "tunescope.json").decode()
    assert (kept.commit, kept.card_commit) == (pushed.commit, repo.head.sha) and read_push(finished) == kept
    a_later_preview_knows_it(hub, finished, publisher, card)
    a_change_by_others_is_not_lost(hub, finished, publisher, proof)


def proof_of(run, pushed):
    """A proof as it is kept; how one is made is tested elsewhere."""
    answer = {"files": pushed.files, "logits_max_difference": 0.0, "same_tokens": True}
    proof = compare(pushed, pushed.commit, answer, 1.0)
    write_json(run.folder / "proof.json", proof.to_json())
    return proof


def a_later_preview_knows_it(hub, finished, publisher, card):
    count = len(hub.repos["models", REPO].commits)
    plan = prepare(finished, REPO, publisher)
    assert plan.card == card and plan.difference is None
    assert not push(plan, publisher).changed and len(hub.repos["models", REPO].commits) == count


def a_change_by_others_is_not_lost(hub, finished, publisher, proof):
    record = finished.folder / "published.json"
    record.write_text(record.read_text().replace(read_push(finished).card_commit, proof.revision))
    theirs = somebody(hub, {"README.md": b"# theirs"})
    refused("publish.changed", keep_in_card, finished, proof, publisher)
    assert hub.repos["models", REPO].head is theirs


@pytest.mark.parametrize("heading", ["## License", "## Licence"])
def test_a_proof_takes_the_place_of_an_older_one(heading):
    """Cards of earlier versions spell their last heading the other way."""
    facts = {"revision": "ab" * 20, "files": 9, "prompts": 5, "logits_max_difference": 0.0, "tolerance": 1e-4}
    card = f"---\na: 1\n---\n# T\n\n{heading}\n\nmit\n"
    once = with_proof(card, facts)
    assert once.index("## Verification") < once.index(heading)
    assert with_proof(once, {**facts, "revision": "cd" * 20}) == once.replace("ab" * 6, "cd" * 6)
    assert with_proof(once, None) == card
