"""Which rows a run reads and which of them it holds out: the first `max_rows` in file order, then split by seed."""

import json

import pytest

from core.errors import UserError
from finetune.config.counts import held_out
from finetune.config.run_config import validate
from finetune.plan.prepare import import_data
from finetune.runs.run import create
from finetune.runs.split import iterate_rows, split_rows


def written(path, numbers):
    """A file with a row for each number; where it is None the row cannot be used, for its answer is empty."""
    rows = [
        {"prompt": f"say {path.stem} {at}", "completion": "" if n is None else str(n)} for at, n in enumerate(numbers)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run_on(owner, *files, **settings):
    raw = {"model": "a/b", "stages": [{"data": [{"path": str(file)} for file in files]}], **settings}
    return create(import_data(validate(raw), owner), owner)


def answers(rows):
    return [row.messages[-1].content for row in rows]


def read(run):
    return answers(iterate_rows(run, run.config()))


def test_all_rows_are_read_in_file_order_where_no_number_is_set(owner, tmp_path):
    assert read(run_on(owner, written(tmp_path / "a.jsonl", range(30)))) == [str(n) for n in range(30)]


@pytest.mark.parametrize("most", [1, 7, 29, 30, 31])
def test_max_rows_keeps_the_first_rows_in_file_order(owner, tmp_path, most):
    limits = {"max_rows": most, "validation": 0 if most == 1 else 0.1}
    run = run_on(owner, written(tmp_path / "a.jsonl", range(30)), limits=limits)
    assert read(run) == [str(n) for n in range(min(most, 30))]


@pytest.mark.parametrize(
    ("most", "expected"), [(3, ["0", "1", "2"]), (5, ["0", "1", "2", "3", "10"]), (4, ["0", "1", "2", "3"])]
)
def test_two_sources_are_read_one_after_the_other_and_share_max_rows(owner, tmp_path, most, expected):
    files = written(tmp_path / "a.jsonl", range(4)), written(tmp_path / "b.jsonl", range(10, 14))
    assert read(run_on(owner, *files, limits={"max_rows": most})) == expected


def test_without_a_bound_two_sources_are_read_whole(owner, tmp_path):
    files = written(tmp_path / "b.jsonl", range(10, 13)), written(tmp_path / "a.jsonl", range(2))
    assert read(run_on(owner, *files)) == ["10", "11", "12", "0", "1"]


def test_a_row_that_was_left_out_is_not_counted_by_max_rows(owner, tmp_path):
    file = written(tmp_path / "a.jsonl", [0, None, 1, 2, None, 3, 4])
    assert read(run_on(owner, file, limits={"max_rows": 4})) == ["0", "1", "2", "3"]


def test_a_dataset_that_went_is_named(owner, tmp_path):
    run = run_on(owner, written(tmp_path / "a.jsonl", range(3)))
    dataset = run.config().stages[0].data[0].dataset
    (run.datasets / dataset).rename(tmp_path / "gone")
    with pytest.raises(UserError, match=dataset):
        read(run)


def parts(owner, tmp_path, seed, rows=40, share=0.25, most=None):
    limits = {"validation": share} | ({"max_rows": most} if most else {})
    run = run_on(owner, written(tmp_path / "a.jsonl", range(rows)), limits=limits, seed=seed)
    return tuple(answers(row for _, row in split_rows(run, run.config(), held=held)) for held in (False, True))


def test_validation_is_split_off_by_seed_both_parts_in_file_order(owner, tmp_path):
    training, held = parts(owner, tmp_path, seed=3)
    assert (len(training), len(held)) == (30, 10)
    assert sorted(training + held, key=int) == [str(n) for n in range(40)]
    assert training == sorted(training, key=int) and held == sorted(held, key=int)
    assert held not in (training[:10], [str(n) for n in range(10)], [str(n) for n in range(30, 40)])


def test_one_seed_gives_one_split_and_another_seed_another(owner, tmp_path):
    assert parts(owner, tmp_path, seed=3) == parts(owner, tmp_path, seed=3)
    assert len({tuple(parts(owner, tmp_path, seed=seed)[1]) for seed in range(4)}) == 4


def test_the_split_is_made_of_the_first_rows_and_not_before_them(owner, tmp_path):
    """Rows beyond `max_rows` are in neither part, and the share is one of the rows that are used."""
    training, held = parts(owner, tmp_path, seed=3, most=20)
    assert sorted(training + held, key=int) == [str(n) for n in range(20)]
    assert len(held) == 5
    assert held == parts(owner, tmp_path, seed=3, rows=20)[1]


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.01, 1), (0.1, 4), (0.5, 20)])
def test_the_share_held_out_is_one_row_at_least_where_any_is_asked_for(owner, tmp_path, share, expected):
    training, held = parts(owner, tmp_path, seed=0, share=share)
    assert (len(training), len(held)) == (40 - expected, expected)


def test_one_row_is_left_to_train_on(owner, tmp_path):
    config = run_on(owner, written(tmp_path / "a.jsonl", range(2)), limits={"validation": 0.5}).config()
    assert [held_out(rows, config) for rows in (0, 1, 2, 3, 4)] == [0, 0, 1, 2, 2]
