"""A disk that fills up in the middle: a sentence, nothing left behind, and the next try works."""

import subprocess
from contextlib import suppress

import pytest

from finetune.publish.kinds import Options, build
from tests.refusals import refused
from tests.tiny.kinds import finished

SIZE = "120m"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 120 MB of its own. Skipped where this machine does not let us have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Write until nothing more goes in."""
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf"])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half(
    owner, tiny_model, small_disk, workspace, monkeypatch, kind
):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    run = finished(owner, tiny_model)
    folder = small_disk / "out"

    def report(step):
        if step.done and not (small_disk / "ballast").exists():
            fill(small_disk)

    sentence = refused("kinds.no_room", build, kind, run, owner, folder, Options(shard_size="64KB"), report)
    assert str(small_disk) in sentence and "0 MB are free" in sentence
    assert {path.name for path in small_disk.iterdir()} == {".out.lock", "ballast"}
    (small_disk / "ballast").unlink()
    assert build(kind, run, owner, folder, Options(check=False)).facts["files"]
