"""A push goes where it was told: an organisation, a branch, a pull request, a dataset or Space repository."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from finetune.cli.publish import publish_command
from finetune.publish import keep_in_card, prepare, prove, push, read_push
from tests.hub.finetune.publish.test_publish import REPO, publish
from tests.refusals import refused

pytestmark = pytest.mark.matrix

OTHERS = "grace/coffee-adapter"


@dataclass(frozen=True)
class Built:
    """Files of a kind, as they are built elsewhere."""

    kind: str
    repo_type: str
    folder: Path
    facts: dict = field(default_factory=dict)


@pytest.fixture
def others(hub):
    """A public repository of somebody else."""
    hub.add_user("grace")
    return hub.add_repo(OTHERS, {"README.md": b"# coffee", "notes.txt": b"beans"})


def send(run, owner, repo=REPO, **named):
    return push(prepare(run, repo, owner, **named), owner)


def test_an_organisation_one_belongs_to_is_a_place_to_publish(hub, finished, publisher):
    assert send(finished, publisher, "acme/tea").url == f"{hub.url}/acme/tea"
    assert hub.repos["models", "acme/tea"].private


def test_a_branch_is_made_where_it_is_missing_and_the_main_one_is_left_alone(hub, finished, publisher):
    repo = hub.add_repo(REPO, {"README.md": b"# mine", "old.txt": b"1"}, private=True)
    plan = prepare(finished, REPO, publisher, branch="tries/one")
    assert any("tries/one" in warning for warning in plan.warnings) and plan.needs_yes
    result = push(plan, publisher, confirmed=True)
    assert len(repo.commits) == 2 and repo.branches["tries/one"][-1].sha == result.commit
    assert result.url == f"{hub.url}/{REPO}/tree/tries/one" and result.revision == "tries/one"
    assert 'revision="tries/one"' in plan.card


def test_a_branch_is_continued_and_a_new_repository_can_have_one(hub, finished, publisher):
    send(finished, publisher, branch="tries")
    repo = hub.repos["models", REPO]
    again = prepare(finished, REPO, publisher, branch="tries")
    assert again.target == "same" and not push(again, publisher).changed
    assert set(repo.head.files) == {".gitattributes"} and len(repo.branches["tries"]) == 2


@pytest.mark.parametrize("name", ["a b", "../x", "x..y", "/x", "x/", "refs/heads/x", "x.lock", "-x", "é", "x" * 101])
def test_a_name_that_is_no_branch_is_refused(hub, finished, publisher, name):
    assert name[:50] in refused("publish.branch_name", prepare, finished, REPO, publisher, branch=name)


def test_a_pull_request_goes_to_a_repository_of_others_and_changes_nothing_there(hub, others, finished, publisher):
    refused("publish.no_namespace", prepare, finished, OTHERS, publisher, private=False, license="mit")
    plan = prepare(finished, OTHERS, publisher, private=False, license="mit", pull_request=True)
    assert not plan.needs_yes and any("pull request" in warning for warning in plan.warnings)
    result = push(plan, publisher)
    assert len(others.commits) == 2 and [pull.author for pull in others.pulls] == ["tester"]
    assert (result.pull_request, result.revision) == (1, "refs/pr/1")
    assert result.url == f"{hub.url}/{OTHERS}/discussions/1"
    assert others.branches["refs/pr/1"][-1].sha == result.commit and read_push(finished) == result


def test_a_pull_request_is_proved_by_code_that_loads_it_and_told_so_in_its_card(hub, others, finished, publisher):
    result = send(finished, publisher, OTHERS, private=False, license="mit", pull_request=True)
    proof = prove(finished, OTHERS, result.commit, publisher)
    kept = keep_in_card(finished, proof, publisher)
    assert proof.ok and proof.prompts == 5 and len(others.commits) == 2
    assert others.branches["refs/pr/1"][-1].sha == kept.card_commit


def test_a_pull_request_of_ours_is_continued_while_it_is_open(hub, others, finished, publisher):
    told = {"private": False, "license": "mit", "pull_request": True}
    first = send(finished, publisher, OTHERS, **told)
    again = prepare(finished, OTHERS, publisher, **told)
    assert any("1" in warning and "will update your open pull request" in warning for warning in again.warnings)
    assert not push(again, publisher).changed and len(others.pulls) == 1
    (finished.model / "added_tokens.json").write_text("{}")
    second = send(finished, publisher, OTHERS, **told)
    assert second.pull_request == 1 and second.commit != first.commit and len(others.pulls) == 1
    others.pulls[0].status = "closed"
    assert send(finished, publisher, OTHERS, **told).pull_request == 2


def test_a_pull_request_needs_a_repository_and_shows_what_everybody_can_read(hub, others, finished, publisher):
    refused("publish.nothing_to_change", prepare, finished, "grace/nothing", publisher, pull_request=True)
    refused("publish.is_public", prepare, finished, OTHERS, publisher, pull_request=True)
    refused("publish.branch_or_request", prepare, finished, OTHERS, publisher, pull_request=True, branch="x")


@pytest.mark.parametrize(
    ("scopes", "options", "code", "missing"),
    [
        ({"read-repos"}, {}, "publish.scope", "contribute-repos"),
        ({"contribute-repos"}, {}, None, None),
        ({"contribute-repos"}, {"pull_request": True, "repo": OTHERS}, "publish.scope", "write-discussions"),
        ({"read-repos", "write-discussions"}, {"pull_request": True, "repo": OTHERS}, None, None),
    ],
)
def test_what_a_sign_in_does_not_reach_is_said_with_the_scope_that_is_missing(
    hub, others, finished, publisher, scopes, options, code, missing
):
    owner = replace(publisher, scopes=frozenset(scopes))
    repo = options.pop("repo", REPO)
    if code is None:
        assert send(finished, owner, repo, private=False, license="mit", **options).commit
        return
    sentence = refused(code, prepare, finished, repo, owner, private=False, license="mit", **options)
    assert missing in sentence and "python -m finetune publish" in sentence


def test_a_sign_in_reaches_no_repository_that_this_app_did_not_make(hub, finished, publisher):
    hub.add_repo(REPO, private=True)
    hub.fail("auth_check", status=403, message="no access to this repository", times=2)
    owner = replace(publisher, scopes=frozenset({"contribute-repos", "read-repos"}))
    assert "write-repos" in refused("publish.scope_others", prepare, finished, REPO, owner)
    refused("publish.no_right", prepare, finished, REPO, publisher)


def built_dataset(folder, rows=("one",)):
    import pyarrow
    from pyarrow import parquet

    (folder / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.table({"text": list(rows)}), folder / "data/train.parquet")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\ntags: [tunescope]\n---\n# Rows\n")
    return Built("dataset", "dataset", folder)


def built_space(folder, program="import gradio\n"):
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(program)
    (folder / "requirements.txt").write_text("transformers\n")
    (folder / "README.md").write_text("---\ntitle: Tea\nsdk: gradio\napp_file: app.py\n---\n")
    return Built("space", "space", folder)


def test_a_dataset_repository_takes_a_dataset_and_says_so_in_its_address(hub, publisher, tmp_path):
    from finetune.data.importing.importer import import_file

    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one two three"}\n')
    dataset = import_file(path, publisher)
    plan = prepare(dataset, "tester/rows", publisher, built=built_dataset(tmp_path / "built"), private=False)
    result = push(plan, publisher)
    repo = hub.repos["datasets", "tester/rows"]
    assert result.url == f"{hub.url}/datasets/tester/rows" and repo.head.sha == result.commit
    assert set(repo.head.files) == {".gitattributes", "README.md", "data/train.parquet", "tunescope.json"}
    again = prepare(dataset, "tester/rows", publisher, built=plan_folder(plan), private=False)
    assert again.target == "same" and not push(again, publisher).changed and read_push(dataset).commit == result.commit


def plan_folder(plan):
    table = next(file for file in plan.files if file.path.endswith(".parquet"))
    return Built("dataset", "dataset", table.source.parents[1])


def test_a_space_is_made_with_its_sdk(hub, finished, publisher, tmp_path):
    built = built_space(tmp_path / "built")
    result = send(finished, publisher, "tester/demo", built=built)
    repo = hub.repos["spaces", "tester/demo"]
    assert repo.sdk == "gradio" and repo.private and result.url == f"{hub.url}/spaces/tester/demo"
    assert read_push(finished, "space") == result and read_push(finished) is None


SECRET = "ghp_" + "a1B2" * 10


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (f'TOKEN = "{SECRET}"\n', "publish.secret_inside"),
        ('KEY = """-----BEGIN RSA PRIVATE KEY-----\n"""\n', "publish.secret_inside"),
        ('KEY = "AKIA' + "A7" * 8 + '"\n', "publish.secret_inside"),
        ('KEY = "sk-proj-' + "a9" * 20 + '"\n', "publish.secret_inside"),
        ('TOKEN = "hf_' + "a1" * 17 + '"\n', "publish.token_inside"),
    ],
)
def test_a_secret_in_a_spaces_program_stops_everything(hub, finished, publisher, tmp_path, program, code):
    built = built_space(tmp_path / "built", program)
    assert "app.py" in refused(code, prepare, finished, "tester/demo", publisher, built=built)


def test_a_folder_of_this_machine_in_a_spaces_program_stops_everything(hub, finished, publisher, tmp_path):
    built = built_space(tmp_path / "built", f"MODEL = {str(finished.folder)!r}\n")
    assert "app.py" in refused("publish.path_inside", prepare, finished, "tester/demo", publisher, built=built)


def test_a_secret_in_a_table_or_its_card_stops_everything(hub, finished, publisher, tmp_path):
    built = built_dataset(tmp_path / "a", ["fine", f"my key is {SECRET}"])
    assert "train.parquet" in refused("publish.secret_inside", prepare, finished, REPO, publisher, built=built)
    built = built_dataset(tmp_path / "b")
    card = tmp_path / "b" / "README.md"
    card.write_text(card.read_text() + SECRET)
    assert "README.md" in refused("publish.secret_inside", prepare, finished, REPO, publisher, built=built)


@pytest.mark.parametrize(
    ("kind", "name", "content", "code"),
    [
        ("gguf", "tea-F16.gguf", b"PK\x03\x04 a zip", "publish.other_content"),
        ("gguf", "notes.txt", b"x", "publish.foreign_file"),
        ("space", "app.pkl", b"x", "publish.pickle"),
        ("space", "data.json", b"\x80\x04K\x01.", "publish.pickle"),
        ("dataset", "data/more.parquet", b"no table", "publish.other_content"),
        ("presets", "weights.safetensors", b"x", "publish.foreign_file"),
    ],
)
def test_what_does_not_belong_to_a_kind_is_refused_by_name(
    hub, finished, publisher, tmp_path, kind, name, content, code
):
    contents = {"app.py": b"1", "x.gguf": b"GGUF", "data/train.parquet": b"", "generation_config.json": b"{}"}
    first = {"gguf": "x.gguf", "space": "app.py", "dataset": "data/train.parquet", "presets": "generation_config.json"}
    folder = tmp_path / "built"
    for path, held in {first[kind]: contents[first[kind]], name: content}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(held)
    if kind == "dataset":
        (folder / "data/train.parquet").unlink()
    built = Built(kind, {"space": "space", "dataset": "dataset"}.get(kind, "model"), folder)
    assert name in refused(code, prepare, finished, REPO, publisher, built=built)


def test_a_file_that_is_too_large_is_refused_with_its_size(hub, finished, publisher):
    path = finished.model / "tokenizer.json"
    with path.open("r+b") as file:
        file.truncate(300 * 10**6)
    assert "300" in refused("publish.oversized", prepare, finished, REPO, publisher) and hub.requests == []


def test_the_plain_push_goes_where_it_went_before(hub, finished, publisher):
    assert publish(finished, publisher).revision is None


def test_the_shell_publishes_a_dataset_and_a_demo_too_and_says_when_nothing_changed(
    hub, finished, publisher, tmp_path, capsys
):
    from finetune.data.importing.importer import import_file

    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one two three"}\n')
    dataset = import_file(path, publisher)
    options = {"what": "dataset", "license": "mit"}
    assert publish_command(dataset.id, "tester/rows", True, False, publisher, **options) == 0
    push(prepare(finished, REPO, publisher), publisher)
    assert publish_command(finished.id, "tester/demo", False, False, publisher, what="space") == 0
    commits = len(hub.repos["spaces", "tester/demo"].commits)
    assert publish_command(finished.id, "tester/demo", False, False, publisher, what="space") == 0
    assert len(hub.repos["spaces", "tester/demo"].commits) == commits
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"{hub.url}/datasets/tester/rows", *[f"{hub.url}/spaces/tester/demo"] * 2]
    assert printed.err.count("Verified") == 3 and "nothing was changed" in printed.err
    assert (
        not hub.repos["datasets", "tester/rows"].private
        and "## Verification" in hub.content("tester/demo", "README.md", "spaces").decode()
    )


def test_the_shell_tells_what_it_cannot_do(hub, finished, publisher, tmp_path, capsys):
    assert publish_command(finished.id, REPO, False, False, publisher, card=tmp_path / "none.md") == 2
    assert publish_command(finished.id, REPO, True, False, publisher) == 2
    hub.add_repo(REPO, {"notes.txt": b"1"}, private=True)
    assert publish_command(finished.id, REPO, False, False, publisher) == 2
    told = capsys.readouterr()
    assert told.out == "" and "none.md" in told.err and "--license" in told.err and "--yes" in told.err
