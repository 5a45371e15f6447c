"""A disk that fills up in the middle: a sentence, nothing left behind, and the next try works."""

import pytest

from finetune.data.importing.importer import import_file
from finetune.data.store import example_file
from finetune.publish.kinds import Options, build
from tests.refusals import refused
from tests.small_disk import fill, small_disk
from tests.tiny.kinds import finished


@pytest.fixture
def small(tmp_path):
    """A file system of 120 MB."""
    with small_disk(tmp_path / "small", "120m") as folder:
        yield folder


CHOSEN = {
    "presets": {"columns": ("greedy", "nucleus top_p=0.9", "beam num_beams=3")},
    "dataset": {"license": "cc-by-4.0"},
    "space": {"repo_id": "ada/tea"},
}


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf", "presets", "dataset", "space"])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half(owner, tiny_model, small, workspace, monkeypatch, kind):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    run = import_file(example_file(), owner) if kind == "dataset" else finished(owner, tiny_model)
    options = Options(shard_size="64KB", check=False, **CHOSEN.get(kind, {}))
    folder = small / "out"

    def report(step):
        if step.done and not (small / "ballast").exists():
            fill(small)

    sentence = refused("kinds.no_room", build, kind, run, owner, folder, options, report)
    assert str(small) in sentence and "0 MB are free" in sentence
    assert {path.name for path in small.iterdir()} == {".out.lock", "ballast"}
    (small / "ballast").unlink()
    assert build(kind, run, owner, folder, options).facts["files"]
