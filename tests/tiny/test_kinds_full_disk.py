"""A disk that fills up in the middle: a sentence, nothing left behind, and the next try works."""

import pytest

from finetune.publish.kinds import Options, build
from tests.refusals import refused
from tests.small_disk import fill, small_disk
from tests.tiny.kinds import finished


@pytest.fixture
def small(tmp_path):
    """A file system of 120 MB."""
    with small_disk(tmp_path / "small", "120m") as folder:
        yield folder


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf"])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half(owner, tiny_model, small, workspace, monkeypatch, kind):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    run = finished(owner, tiny_model)
    folder = small / "out"

    def report(step):
        if step.done and not (small / "ballast").exists():
            fill(small)

    sentence = refused("kinds.no_room", build, kind, run, owner, folder, Options(shard_size="64KB"), report)
    assert str(small) in sentence and "0 MB are free" in sentence
    assert {path.name for path in small.iterdir()} == {".out.lock", "ballast"}
    (small / "ballast").unlink()
    assert build(kind, run, owner, folder, Options(check=False)).facts["files"]
