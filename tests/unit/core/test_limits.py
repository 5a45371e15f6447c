"""What one person may use: each bound refuses with its number, what is used and what to do."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from core import limits
from core.errors import UserError
from core.words import say, speaking
from finetune.config.run_config import validate
from finetune.data.importing.importer import check_file, import_file
from finetune.data.store import list_datasets
from finetune.launch.local.launcher import LocalLauncher
from finetune.runs.lock import take
from finetune.runs.quota import check_room, room
from finetune.runs.run import create
from tests.rules.source import ROOT

CONFIG = {"stages": [{"objective": "sft", "data": [{"dataset": "ab" * 32}]}]}


@pytest.fixture(autouse=True)
def no_bounds_from_outside(monkeypatch):
    for limit in limits.TABLE:
        monkeypatch.delenv(limit.variable, raising=False)


def data(path, rows, length=20):
    made = [{"prompt": f"ask {number}", "response": os.urandom(length).hex()} for number in range(rows)]
    path.write_text("\n".join(map(json.dumps, made)))
    return path


def refused(code, work):
    with pytest.raises(UserError) as told:
        work()
    assert told.value.code == code
    with speaking("zh"):
        assert str(told.value) != say("core.sign_in")
    return str(told.value)


def test_on_a_space_everybody_has_bounds_and_at_home_hardly_any(monkeypatch):
    assert limits.bound("disk") is None and limits.bound("runs") is None
    monkeypatch.setenv("SPACE_ID", "someone/tunescope")
    assert all(limits.bound(limit.name) == limit.space > 0 for limit in limits.TABLE)


def test_each_variable_changes_its_bound_and_nought_takes_it_away(monkeypatch):
    for limit in limits.TABLE:
        monkeypatch.setenv(limit.variable, " 3 ")
        assert limits.bound(limit.name) == 3
        monkeypatch.setenv(limit.variable, "0")
        assert limits.bound(limit.name) is None


@pytest.mark.parametrize("value", ["many", "-1", "2.5", "3 MB", "²"])
def test_a_variable_that_is_no_number_is_told_at_once(monkeypatch, value):
    monkeypatch.setenv("TUNESCOPE_LIMIT_ROWS", value)
    assert "TUNESCOPE_LIMIT_ROWS" in refused("limits.variable", limits.check_variables)


def test_a_dataset_with_too_many_rows_is_refused(monkeypatch, owner, tmp_path):
    monkeypatch.setenv("TUNESCOPE_LIMIT_ROWS", "5")
    assert import_file(data(tmp_path / "five.jsonl", 5), owner).report.rows_kept == 5
    more = data(tmp_path / "six.jsonl", 6)
    said = refused("limits.rows", lambda: import_file(more, owner))
    assert "six.jsonl" in said and "limit of 5 per dataset" in said and "TUNESCOPE_LIMIT_ROWS" in said
    refused("limits.rows", lambda: check_file(more))
    assert len(list_datasets(owner)) == 1 and len(list(owner.datasets.iterdir())) == 1


def test_who_has_no_disk_left_imports_nothing_more_and_nothing_stays_behind(monkeypatch, owner, tmp_path):
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "1")
    import_file(data(tmp_path / "small.jsonl", 100), owner)
    large = data(tmp_path / "large.jsonl", 1000, length=2000)
    said = refused("limits.disk", lambda: import_file(large, owner))
    assert "1 MB" in said and f"{limits.disk_used(owner) / 1e6:.1f} MB" in said and "TUNESCOPE_LIMIT_DISK_MB" in said
    assert len(list(owner.datasets.iterdir())) == 1
    assert import_file(tmp_path / "small.jsonl", owner).known


def test_a_full_disk_starts_no_run(monkeypatch, owner):
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "1")
    create(validate(CONFIG), owner).log_path.write_bytes(bytes(1_000_000))
    refused("limits.disk", lambda: LocalLauncher().start(validate(CONFIG), owner))


def test_as_many_runs_at_work_as_a_person_may_have_let_no_other_start(monkeypatch, owner):
    monkeypatch.setenv("TUNESCOPE_LIMIT_RUNS", "1")
    run = create(validate(CONFIG), owner)
    stopped = create(validate(CONFIG), owner)
    check_room(owner)
    lock = take(run)
    said = refused("limits.runs", lambda: LocalLauncher().start(validate(CONFIG), owner))
    assert run.id in said and "the limit is 1." in said and "TUNESCOPE_LIMIT_RUNS" in said
    refused("limits.runs", lambda: LocalLauncher().resume(stopped, owner))
    os.close(lock)
    check_room(owner)


def test_of_many_starts_at_the_same_moment_only_as_many_get_through_as_there_is_room(monkeypatch, owner):
    monkeypatch.setenv("TUNESCOPE_LIMIT_RUNS", "2")

    def begin(_):
        with room(owner):
            return take(create(validate(CONFIG), owner))

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(begin, number) for number in range(8)]
    locks = [future.result() for future in asked if future.exception() is None]
    assert len(locks) == 2
    for lock in locks:
        os.close(lock)


def test_requests_are_counted_over_the_last_minute_for_each_visitor(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_REQUESTS", "3")
    now = [0.0]
    requests = limits.Requests(clock=lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0):
        requests.count("ada")
    requests.count("grace")
    assert "in 41 s" in refused("limits.requests", lambda: requests.count("ada"))
    now[0] = 60.5
    requests.count("ada")


def test_the_page_on_spaces_names_each_variable_with_both_defaults():
    text = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
    for limit in limits.TABLE:
        row = next(line for line in text.splitlines() if f"`{limit.variable}`" in line)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[2:5] == [limit.unit, f"{limit.space:,}", f"{limit.home:,}" if limit.home else "none"]
