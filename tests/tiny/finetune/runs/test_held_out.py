"""The rows a run holds out are those it never trained on."""

from finetune.runs.split import held_out_rows, split_rows
from inference.prompt_sets.reading import of_rows
from tests.tiny.training import make_run, write_data


def test_held_out_rows_are_the_ones_the_run_does_not_learn(owner, tiny_model, tmp_path):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), limits__validation=0.25, seed=5)
    training, held = ([row for _, row in split_rows(run, run.config(), held=side)] for side in (False, True))
    assert held_out_rows(run) == held and len(held) == 6
    assert len(training) == 18 and not [row for row in held if row in training]
    asked = of_rows(held, "rows")
    assert all(one.prompt[-1]["role"] == "user" and one.shown.startswith("say ") for one in asked)


def test_a_run_that_holds_nothing_out_has_none(owner, tiny_model, tmp_path):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), limits__validation=0)
    assert held_out_rows(run) == []
