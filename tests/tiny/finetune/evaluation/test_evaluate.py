"""Before and after on real runs of the tiny model: the figures are those of the models, paired, and kept whole."""

import json
import math
import shutil
import threading

import pytest
import torch
from torch.nn.functional import cross_entropy

from core.errors import UserError
from core.files import read_json
from core.rows import ChatRow, Message, PreferenceRow
from core.workspace import Owner
from finetune.cli.evaluate import table
from finetune.cli.main import main
from finetune.data.importing.importer import import_file
from finetune.data.tokenizing.tokenize import encode
from finetune.evaluation.evaluate import EvaluationContext, evaluate
from finetune.evaluation.losses import prepare, row_losses
from finetune.evaluation.measures import KINDS
from finetune.evaluation.ngram import NgramModel
from finetune.evaluation.report import FILE, load, set_of
from finetune.evaluation.row_sets import EvaluationRequest, shipped_rows
from finetune.runs.run import Run
from finetune.runs.split import held_out_rows, split_rows
from inference.models.locate import Shelf, locate
from inference.models.types import Source
from tests.tiny.evaluating import trained, trained_in_stages
from tests.tiny.training import write_data
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.matrix

QUICK = EvaluationRequest(rows=20)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def learned(tiny_model, tmp_path_factory):
    """A workspace with one finished run: its folder."""
    folder = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        trained(Owner("local"), tiny_model, folder)
    return folder / "home"


@pytest.fixture
def run(learned, owner, workspace):
    """The finished run, in a copy of its workspace."""
    shutil.copytree(learned, workspace)
    (folder,) = owner.runs.glob("r*")
    return Run(folder)


def _measure(run, owner, asked=QUICK, **more):
    return evaluate(run, owner, asked, EvaluationContext(Shelf(), **more))


def _slow(model, row):
    """A row's loss, one forward of all its logits, in float64."""
    ids = torch.tensor([row.input_ids])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].double()
    return cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum", ignore_index=-100).item()


def _models(run, owner):
    shelf, source = Shelf(), locate(run.id, owner)
    return shelf.get(Source(source.base)), shelf.get(source)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_losses_are_those_of_all_logits_and_both_models_see_the_same_tokens(owner, tiny_model, tmp_path, method):
    from transformers import AutoModelForCausalLM

    run = trained(owner, tiny_model, tmp_path / "run", method=method)
    report = _measure(run, owner)
    held, measured = held_out_rows(run), set_of(report, "held_out")["measures"][0]
    tuned = locate(run.id, owner)
    loaded = Shelf().get(tuned)
    encoded = [encode(row, loaded.tokenizer, 128) for row in held]
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokens = sum(label != -100 for row in encoded for label in row.labels[1:])
    for name, model in (("base", base), ("tuned", loaded.model)):
        losses = [_slow(model, row) for row in encoded]
        assert measured[name]["mean"] == pytest.approx(sum(losses) / tokens, rel=1e-5)
        means = [
            loss / sum(label != -100 for label in row.labels[1:]) for loss, row in zip(losses, encoded, strict=True)
        ]
        assert measured["by_row"][name]["mean"] == pytest.approx(sum(means) / len(means), rel=1e-5)
    assert measured["difference"]["mean"] == pytest.approx(
        measured["tuned"]["mean"] - measured["base"]["mean"], rel=1e-4
    )
    assert set_of(report, "held_out")["tokens"] == tokens and measured["difference"]["count"] == len(held) == 10
    assert measured["verdict"] == "better" and measured["difference"]["high"] < 0


@pytest.mark.ci
def test_the_last_loss_of_the_run_itself_is_the_one_measured(owner, run):
    """Training measures the same rows in its own way, in float32 here."""
    report = _measure(run, owner)
    assert set_of(report, "held_out")["measures"][0]["tuned"]["mean"] == pytest.approx(
        run.progress().eval_loss, rel=1e-4
    )


@pytest.mark.ci
def test_batches_of_rows_change_nothing(owner, run, monkeypatch):
    from finetune.evaluation import losses as module

    base, tuned = _models(run, owner)
    prepared = prepare(held_out_rows(run), KINDS["chat"], tuned.tokenizer, 128)
    together = row_losses(tuned, prepared.sides[0])
    monkeypatch.setattr(module, "BATCH_TOKENS", 1)
    told = []
    alone = row_losses(tuned, prepared.sides[0], lambda done, total: told.append((done, total)))
    assert together == pytest.approx(alone, rel=1e-5)
    assert told == [(done, 10) for done in range(11)]
    assert row_losses(base, prepared.sides[0]) != pytest.approx(together, rel=1e-2)


@pytest.mark.ci
def test_the_ngram_model_counts_the_training_rows_alone_and_predicts_the_same_tokens(owner, run):
    report = _measure(run, owner)
    _, tuned = _models(run, owner)
    training, held = ([row for _, row in split_rows(run, run.config(), held=part)] for part in (False, True))
    model = NgramModel(tuned.model.config.vocab_size)
    for row in training:
        model.add(encode(row, tuned.tokenizer, 128).input_ids)
    encoded = [encode(row, tuned.tokenizer, 128) for row in held]
    losses = [model.loss(row.input_ids, row.labels) for row in encoded]
    expected = sum(losses) / sum(label != -100 for row in encoded for label in row.labels[1:])
    ngram = report["sets"][0]["ngram"]
    assert ngram["loss"]["mean"] == pytest.approx(expected, rel=1e-5)
    assert (ngram["rows"], ngram["of_rows"], ngram["tokens"]) == (30, 30, model.tokens)


@pytest.mark.ci
def test_counting_n_grams_is_bounded_and_the_report_tells_it(owner, run, monkeypatch):
    from finetune.evaluation import evaluate as module

    monkeypatch.setattr(module, "NGRAM_TOKENS", 200)
    monkeypatch.setattr(module, "_ROWS_AT_A_TIME", 2)
    ngram = _measure(run, owner)["sets"][0]["ngram"]
    assert 200 <= ngram["tokens"] < 400 and ngram["rows"] < ngram["of_rows"] == 30


def test_answers_stand_side_by_side_with_the_one_in_the_data(owner, run):
    base, tuned = _models(run, owner)
    rows = held_out_rows(run)
    answers = {row.messages[0].content: row.messages[-1].content for row in rows}
    found = _measure(run, owner)["samples"]
    assert len(found) == 4
    for sample in found:
        assert answers[sample["prompt"]] == sample["reference"]
        text = f"<|im_start|>user\n{sample['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        ids = torch.tensor([tuned.tokenizer(text, add_special_tokens=False)["input_ids"]])
        for name, loaded in (("base", base), ("tuned", tuned)):
            written = loaded.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=80
            )
            assert sample[name] == tuned.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert any(sample["base"] != sample["tuned"] for sample in found)


@pytest.mark.ci
def test_the_report_is_kept_with_the_run_and_read_again(owner, run):
    report = _measure(run, owner)
    assert load(run) == json.loads(json.dumps(report))
    assert not list(run.folder.glob(".*.part"))
    kept = read_json(run.folder / FILE)
    assert kept["base"]["fingerprint"] == run.environment()["fingerprint"]
    assert len(kept["tuned"]["fingerprint"]) == 64 and kept["dtype"] == "float32" and kept["versions"]["nltk"]
    assert kept["seed"] == 5
    general = set_of(report, "general")
    assert (general["rows"], general["taken"], general["name"]) == (len(shipped_rows()), 20, None)


@pytest.mark.ci
def test_a_damaged_report_is_told_and_made_anew(owner, run):
    (run.folder / FILE).write_text('{"version": 1, "sets": [{}]}')
    with pytest.raises(UserError) as refused:
        load(run)
    assert refused.value.code == "evaluate.damaged"
    _measure(run, owner)
    assert load(run) is not None


def test_rows_that_are_cut_or_have_nothing_to_learn_are_counted(owner, run):
    _, tuned = _models(run, owner)
    long = ChatRow(messages=[Message(role="user", content="x"), Message(role="assistant", content="and more " * 90)])
    late = ChatRow(messages=[Message(role="user", content="y" * 300), Message(role="assistant", content="z")])
    prepared = prepare([long, late, *held_out_rows(run)], KINDS["chat"], tuned.tokenizer, 128)
    assert (len(prepared.rows), prepared.dropped, prepared.cut) == (11, 1, 1)
    assert prepared.rows[0] is long and len(prepared.sides[0][0].input_ids) == 128


def test_preference_rows_are_measured_by_which_answer_is_likelier(owner, run):
    from finetune.evaluation.measures import compared

    base, tuned = _models(run, owner)
    rows = [
        PreferenceRow(
            prompt=row.messages[:1], chosen=row.messages[1:], rejected=[Message(role="assistant", content="zzz qqq")]
        )
        for row in held_out_rows(run)
    ]
    kind = KINDS["preference"]
    prepared = prepare(rows, kind, tuned.tokenizer, 128)
    losses = [[row_losses(model, side) for side in prepared.sides] for model in (base, tuned)]
    found = {measure.key: compared(measure, *losses, prepared.counts) for measure in kind.measures}
    margins = [worse - better for better, worse in zip(*losses[1], strict=True)]
    assert found["preference_margin"]["tuned"]["mean"] == pytest.approx(sum(margins) / 10, rel=1e-4)
    assert found["preference_accuracy"]["tuned"]["mean"] == sum(margin > 0 for margin in margins) / 10
    assert found["loss"]["tuned"]["mean"] == pytest.approx(sum(losses[1][0]) / prepared.tokens, rel=1e-4)


@pytest.mark.ci
def test_a_stop_ends_it_and_leaves_the_earlier_report(owner, run):
    before = _measure(run, owner)
    stop, told = threading.Event(), []

    def progress(what):
        told.append(what.text)
        if len(told) == 6:
            stop.set()

    with pytest.raises(UserError) as stopped:
        _measure(run, owner, EvaluationRequest(rows=3), progress=progress, stop=stop)
    assert stopped.value.code == "evaluate.stopped" and len(told) == 6
    assert load(run)["created"] == before["created"]


def _refused(run, owner, asked=QUICK):
    with pytest.raises(UserError) as refused:
        _measure(run, owner, asked)
    assert not (run.folder / FILE).exists()
    return refused.value.code


def test_what_cannot_be_measured_is_refused_in_a_sentence(owner, run, tmp_path):
    dataset = run.config().stages[0].data[0].dataset
    pairs = [{"prompt": "a", "chosen": f"b {row}", "rejected": "c"} for row in range(3)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    preferences = import_file(tmp_path / "pairs.json", owner)
    assert (
        _refused(run, owner, EvaluationRequest(rows=0))
        == _refused(run, owner, EvaluationRequest(rows=10**6))
        == "evaluate.rows"
    )
    assert _refused(run, owner, EvaluationRequest("ab" * 8)) == "core.no_dataset"
    assert _refused(run, owner, EvaluationRequest("tea")) == "core.dataset_id"
    assert _refused(run, owner, EvaluationRequest(preferences.id)) == "evaluate.general_kind"
    assert _refused(run, owner, EvaluationRequest(dataset)) == "evaluate.general_learned"
    (owner.datasets / dataset).rename(tmp_path / "gone")
    assert _refused(run, owner) == "evaluate.data_missing"


def test_a_run_that_is_not_done_or_held_nothing_out_is_refused(owner, tiny_model, tmp_path):
    from tests.tiny.training import make_run

    begun = make_run(owner, tiny_model, write_data(tmp_path / "data.json"))
    assert _refused(begun, owner) == "evaluate.unfinished"
    nothing_held = trained(owner, tiny_model, tmp_path / "run", limits__validation=0, optim__epochs=1)
    assert _refused(nothing_held, owner) == "evaluate.no_held_out"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_base_that_is_gone_or_another_one_now_is_refused(owner, tmp_path, method):
    model = make_tiny_model(tmp_path / "base")
    run = trained(owner, model, tmp_path / "run", method=method, optim__epochs=1)
    make_tiny_model(model, seed=9)
    assert _refused(run, owner) == ("models.wrong_base" if method == "lora" else "evaluate.base_changed")
    model.rename(tmp_path / "moved")
    assert _refused(run, owner) == "core.not_a_model_folder"


@pytest.mark.ci
def test_a_dataset_that_a_person_names_is_the_general_set(owner, run, tmp_path):
    (tmp_path / "notes.txt").write_text("the quick fox jumps\n\nhow to make a cup of tea\n")
    dataset = import_file(tmp_path / "notes.txt", owner)
    general = set_of(_measure(run, owner, EvaluationRequest(dataset.id[:12])), "general")
    assert (general["name"], general["kind"], general["measured"]) == ("notes.txt", "text", dataset.report.rows_kept)
    assert general["measures"][0]["verdict"] == "few"
    assert set_of(_measure(run, owner, EvaluationRequest("none")), "general") is None


def test_the_shell_prints_a_table_or_one_json(owner, run, capsys):
    assert main(["evaluate", run.id, "--rows", "12", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == load(run)
    assert main(["evaluate", str(run.folder), "--rows", "12"]) == 0
    out = capsys.readouterr().out
    assert "Better: on 10 held-out rows, the loss per token fell" in out
    perplexity = math.exp(set_of(report, "held_out")["measures"][0]["tuned"]["mean"])
    assert f"{perplexity:.3f}" in out and "3-gram model" in out and "12 of 40 rows sampled" in out
    assert main(["evaluate", "r20261123-181502-3fa9"]) == 2
    assert "r20261123-181502-3fa9" in capsys.readouterr().err


@pytest.mark.ci
def test_each_stage_is_measured_on_what_it_held_out(owner, tiny_model, tmp_path):
    run = trained_in_stages(owner, tiny_model, tmp_path / "run", ("pretrain", "sft", "dpo"))
    report = _measure(run, owner)
    texts, chats, pairs, general = report["sets"]
    assert [(one["stage"], one["objective"], one["kind"]) for one in (texts, chats, pairs)] == [
        (1, "pretrain", "text"),
        (2, "sft", "chat"),
        (3, "dpo", "preference"),
    ]
    assert (general["stage"], general["ngram"]) == (None, None)
    for stage, one in zip(run.config().stages, (texts, chats, pairs), strict=True):
        assert one["rows"] == one["measured"] == len(held_out_rows(run, stage)) >= 6
        assert one["measures"][0]["verdict"] == "better" and one["ngram"]["rows"] == one["ngram"]["of_rows"] > 10
    assert [one["key"] for one in pairs["measures"]] == ["loss", "preference_accuracy", "preference_margin"]
    assert report["samples"][0]["reference"].startswith("gladly")
    said = table(report)
    assert "held-out rows of stage 3 (dpo): Better: on 6 held-out rows" in said
    assert load(run) == json.loads(json.dumps(report))


@pytest.mark.ci
@pytest.mark.parametrize(("learn", "more"), [("answers", 0), ("everything", 1)])
def test_what_of_a_conversation_carries_loss_is_what_the_run_learned(owner, tiny_model, tmp_path, learn, more):
    run = trained(owner, tiny_model, tmp_path / "run", optim__epochs=1)
    answers = set_of(_measure(run, owner, EvaluationRequest("none")), "held_out")["tokens"]
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("- objective: sft", f"- objective: sft\n  sft: {{learn: {learn}}}"))
    assert (set_of(_measure(run, owner, EvaluationRequest("none")), "held_out")["tokens"] > answers) == bool(more)
