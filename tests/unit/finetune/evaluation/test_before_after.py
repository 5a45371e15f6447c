"""What is said of an evaluation: verdicts by the paired interval, in the card with figures and without rows."""

import pytest

from core.words import speaking
from finetune.evaluation.measures import FEWEST, KINDS, compared, verdict
from finetune.evaluation.report import interval, judged, load, notes, perplexity
from finetune.publish.card.before_after import before_after_of
from inference.measures.bootstrap import Estimate
from tests.evaluations import make_report, one_set
from tests.unit.finetune.publish.test_card import card_of, head_of, run

__all__ = ["run"]

SECRET = "the very words of a row"


@pytest.fixture
def measured(run):
    """The run with a result in its folder (of no weights to speak of)."""
    run.model.mkdir()
    (run.model / "adapter_model.safetensors").write_bytes(b"weights")
    return run


@pytest.mark.parametrize(
    ("low", "mean", "high", "lower", "higher"),
    [
        (-0.3, -0.2, -0.1, "better", "worse"),
        (0.1, 0.2, 0.3, "worse", "better"),
        (-0.1, 0.1, 0.3, "even", "even"),
        (-0.2, -0.1, 0.0, "even", "even"),
    ],
)
def test_the_verdict_goes_by_the_interval_of_the_difference(low, mean, high, lower, higher):
    found = Estimate(mean, low, high, 50)
    assert verdict(found, lower_is_better=True) == lower
    assert verdict(found, lower_is_better=False) == higher


def test_below_six_rows_nothing_is_claimed():
    assert verdict(Estimate(-1.0, -1.1, -0.9, FEWEST - 1), True) == "few"
    assert verdict(Estimate(-1.0, -1.1, -0.9, FEWEST), True) == "better"
    assert verdict(None, True) == verdict(Estimate(-1.0, None, None, 1), True) == "few"


def test_the_difference_is_paired_by_row_and_weighed_by_tokens():
    one = one_set("held_out", -0.05)["measures"][0]
    assert one["base"]["high"] - one["base"]["low"] > 0.1, "the rows themselves differ much more"
    assert one["difference"]["high"] - one["difference"]["low"] < 0.02
    assert one["difference"]["mean"] == pytest.approx(one["tuned"]["mean"] - one["base"]["mean"], abs=1e-5)
    assert one["verdict"] == "better"


def test_rows_and_tokens_are_weighed_apart():
    found = compared(KINDS["chat"].measures[0], [[10.0, 1.0]], [[20.0, 1.0]], [[10, 1]])
    assert (found["base"]["mean"], found["tuned"]["mean"]) == (1.0, pytest.approx(21 / 11, abs=1e-4))
    assert found["by_row"]["tuned"]["mean"] == 1.5 and found["by_row"]["difference"]["mean"] == 0.5


def test_preferences_have_an_accuracy_and_a_margin_beside_the_loss():
    kind, counts = KINDS["preference"], [[4, 4], [2, 2]]
    base, tuned = [[8.0, 4.0], [6.0, 9.0]], [[4.0, 4.0], [6.0, 9.0]]
    found = {one.key: compared(one, base, tuned, counts) for one in kind.measures}
    assert (found["loss"]["base"]["mean"], found["loss"]["tuned"]["mean"]) == (1.5, 1.0)
    assert found["preference_accuracy"]["base"]["mean"] == 0.5 and found["preference_accuracy"]["tuned"]["mean"] == 1.0
    assert found["preference_margin"]["base"]["mean"] == 1.5 and found["preference_margin"]["tuned"]["mean"] == 3.5


def test_a_perplexity_and_its_interval_are_e_to_the_losses():
    found = perplexity(Estimate(1.0, 0.0, 2.0, 9))
    assert (found.mean, found.low, found.high) == pytest.approx((2.718281828, 1.0, 7.389056099))
    assert perplexity(Estimate(1000.0, None, None, 1)).mean == float("inf")
    assert interval(Estimate(-0.5, -1.0, 0.25, 9), sign="+") == "−0.500 [−1.000, +0.250]"


def test_every_verdict_is_a_sentence_in_both_languages(measured):
    changes = {"better": (-0.4, 30), "worse": (0.4, 30), "even": (0.0, 30), "few": (-0.4, 4)}
    for expected, (change, rows) in changes.items():
        sets = [one_set(key, change, rows=rows) for key in ("held_out", "general")]
        report = make_report(measured, *sets)
        report["sets"][0]["ngram"]["verdict"] = expected
        english = judged(report)
        assert [found for found, _ in english] == [expected] * (2 if expected == "few" else 3)
        with speaking("zh"):
            assert all(said != told for (_, said), (_, told) in zip(judged(report), english, strict=True))


def test_what_was_left_out_cut_or_bounded_is_told(measured):
    some = one_set("held_out", -0.4, rows=30) | {"rows": 500, "taken": 33, "dropped": 3, "cut": 2}
    report = make_report(measured, some)
    assert "33 of 500 rows sampled" in " ".join(notes(report))
    assert "3 of 33 rows skipped, because they have no tokens with loss" in " ".join(notes(report))
    assert "2 of 30 rows truncated" in " ".join(notes(report))
    report["sets"][0]["ngram"]["of_rows"] = 90_000
    assert "270 of 90,000 training rows" in notes(report)[-1]


def test_before_and_after_stand_in_the_card_and_in_its_head(measured, owner):
    worse = {"mean": 1.5, "low": 1.4, "high": 1.6, "count": 30}
    counted = {"order": 3, "discount": 0.8, "rows": 270, "of_rows": 270, "tokens": 50_000, "tuned_difference": worse}
    loss = {"mean": 3.5, "low": 3.2, "high": 3.8, "count": 30}
    ngram = counted | {"verdict": "worse", "loss": loss}
    report = make_report(
        measured,
        one_set("held_out", -0.4, ngram=ngram),
        one_set("general", 0.1),
        samples=[dict.fromkeys(("prompt", "reference", "base", "tuned"), SECRET)],
    )
    card = card_of(measured, owner)
    loss = report["sets"][0]["measures"][0]
    assert f"| held-out rows | loss per token | this model | {loss['tuned']['mean']:.3f} \\[" in card
    assert "| held-out rows | loss per token | 3-gram model | 3.500 \\[3.200, 3.800\\] |" in card
    assert "+1.500 [+1.400, +1.600] for the tuned model). The rows repeat a lot, or the run was too short." in card
    assert "Better" in card and "Forgetting: on" in card and "| first |" not in card
    assert SECRET not in card and "was not evaluated" not in card
    [index] = head_of(card)["model-index"]
    metrics = [{one["type"]: one["value"] for one in result["metrics"]} for result in index["results"]]
    assert [result["dataset"]["type"] for result in index["results"]] == ["tunescope", "tunescope-general"]
    assert metrics[0]["loss"] == round(loss["tuned"]["mean"], 4) and metrics[0]["perplexity"] > 1


def test_the_name_of_a_general_set_does_nothing_in_the_card(measured, owner):
    named = one_set("general", 0.1, name="/home/ada/<b>x|y`.jsonl")
    make_report(measured, one_set("held_out", -0.4), named)
    card = card_of(measured, owner)
    assert "<b>" not in card and "/home/ada" not in card and "general text&#58; &lt;b&gt;x\\|y\\`.jsonl" in card


def test_an_evaluation_of_other_weights_or_a_damaged_one_is_left_out(measured, owner):
    make_report(measured)
    assert before_after_of(measured) is not None
    (measured.model / "adapter_model.safetensors").write_bytes(b"other weights")
    assert before_after_of(measured) is None and "| last | 100 |" in card_of(measured, owner)
    (measured.folder / "evaluation.json").write_text("{")
    assert before_after_of(measured) is None and "| last | 100 |" in card_of(measured, owner)


def test_a_report_that_was_kept_is_read_as_it_was(measured):
    assert load(measured) is None
    report = make_report(measured)
    assert load(measured) == report
