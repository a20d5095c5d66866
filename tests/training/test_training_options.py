"""What a training can be asked for: weights of sources, layers that learn, trackers, and figures that can be compared."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file
from transformers import TrainerControl

from elicit.domains import Question, Row, make_domain
from elicit.errors import DomainError, ModelError, RunError
from elicit.training import train, train_monitor
from elicit.training.examples import Heads, mixture, numbered, verdict_examples
from elicit.training.trackers import check_tracker, logs_in
from elicit.training.trainer import aurocs
from elicit.training.validation import Validation, validation_parts
from elicit.training.watch import Watch
from tests.training.conftest import CONFIG, domain


def test_texts_of_a_source_count_as_much_as_its_weight_says(base, tmp_path: Path) -> None:
    chosen = mixture([domain("film")], 8, 1.0)[0]
    plain, weighed = (verdict_examples(base.model, chosen, Heads(), 512, weight=weight) for weight in (1.0, 2.5))
    assert [example["weights"] for example in weighed] == [
        [2.5 * one] for example in plain for one in example["weights"]
    ]
    config = dataclasses.replace(CONFIG, source_weights={"films": 2.0})
    with pytest.raises(DomainError, match=r"a weight of 2.0 for 'films': name one of film, book"):
        train_monitor(base, [domain("film"), domain("book", question="Is the book good?")], tmp_path / "a", config)


def test_weights_by_id_are_refused_where_two_sources_could_share_ids(base, tmp_path: Path) -> None:
    sources = [domain("film"), domain("book", question="Is the book good?")]
    with pytest.raises(DomainError, match="give several domains source_weights"):
        train_monitor(base, sources, tmp_path / "a", CONFIG, weights={"3": 0.0})


def test_only_the_named_layers_learn(base, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, target_modules=("q_proj", "v_proj"), epochs=0.5)
    train_monitor(base, [domain("film")], tmp_path / "a", config)
    names = {name.split(".")[-3] for name in load_file(tmp_path / "a" / "adapter_model.safetensors")}
    assert names == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match=r"has no linear layer 'query'; it has .*q_proj"):
        train_monitor(base, [domain("film")], tmp_path / "b", dataclasses.replace(CONFIG, target_modules=("query",)))


def test_the_first_loss_that_is_kept_is_that_of_the_untrained_model(base, tmp_path: Path) -> None:
    found = train(base, [domain("film")], tmp_path / "a", CONFIG)
    assert found.history[0][0]["step"] == 1


def test_an_unknown_tracker_is_refused_with_those_that_there_are(base, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no tracker 'tensorbord'; it has .*tensorboard.*wandb"):
        train(base, [domain("film")], tmp_path / "a", CONFIG, report_to="tensorbord")
    assert not (tmp_path / "a").exists()
    with pytest.raises(RunError, match="the tracker neptune is not installed"):
        check_tracker("neptune")


def test_logs_outlive_the_checkpoints_beside_which_they_would_be_written(tmp_path: Path, monkeypatch) -> None:
    name = "TENSORBOARD_LOGGING_DIR"
    monkeypatch.delenv(name, raising=False)
    with logs_in(tmp_path / "logs"):
        assert os.environ[name] == str(tmp_path / "logs")
    assert name not in os.environ
    monkeypatch.setenv(name, "mine")
    with logs_in(tmp_path / "logs"):
        assert os.environ[name] == "mine"


def test_log_odds_of_two_questions_are_not_ranked_among_each_other() -> None:
    labels = [True, False, True, False, True]
    odds = [5.0, 1.0, -4.0, -10.0, 9.0]  # each question is answered without a fault, one of them lower throughout
    assert aurocs(labels, odds, [0, 0, 1, 1, 2]) == {0: 1.0, 1: 1.0}  # the third has one label only
    assert aurocs([True, False], [1.0, 2.0], [0, 1]) == {}
    assert aurocs([True, False], [1.0, 2.0], [0, 0]) == {0: 0.0}
    assert math.isnan(aurocs([True, False, True, False], [1.0, math.nan, 2.0, 1.0], [0, 0, 1, 1])[0])


def test_all_weights_of_a_stage_count_as_much_as_its_texts(base) -> None:
    """Few of one class, and a source that counts a tenth: relative weights stay, and their sum is that of the counts."""
    heads = Heads()
    film = domain("film").take(range(12))
    flagged = [row for row, label in enumerate(film.labels) if label][:2]
    cleared = [row for row, label in enumerate(film.labels) if not label][:6]
    few = verdict_examples(base.model, film.take([*flagged, *cleared]), heads, 512)
    faint = verdict_examples(
        base.model, domain("book", question="Is the book good?").take(range(4)), heads, 512, weight=0.1
    )
    found = numbered([*few, *faint])
    assert sum(sum(example["weights"]) for example in found) == pytest.approx(12.0)
    # 2 flagged of 8 count 2 each and 6 cleared 2/3 each; the 4 others .1 each: 8.4 together, to be 12.
    scale = 12 / 8.4
    assert [example["weights"] for example in found[:2]] == [[pytest.approx(2 * scale)]] * 2
    assert [example["weights"] for example in found[2:8]] == [[pytest.approx(2 / 3 * scale)]] * 6
    assert [sum(example["weights"]) for example in found[8:]] == pytest.approx([0.1 * scale] * 4)
    assert [example["number"] for example in found] == list(range(12))


def test_texts_that_count_nothing_are_not_learnt_from(base, tmp_path: Path) -> None:
    """Half of the texts, alone in their batches, would have a gradient of 0: no sign that it vanished."""
    weights = {str(row): 0.0 for row in range(0, 64, 2)}
    heads = Heads()
    chosen = verdict_examples(base.model, domain("film").take(range(8)), heads, 512, weights=weights)
    assert len(chosen) == 8
    assert [example["number"] for example in numbered(chosen)] == [0, 1, 2, 3]
    with pytest.raises(DomainError, match="all examples have a weight of 0"):
        train(base, [domain("film")], tmp_path / "b", dataclasses.replace(CONFIG, source_weights={"film": 0.0}))


def test_the_logged_loss_is_a_mean_however_rare_a_class_is(base, tmp_path: Path) -> None:
    """Of 32 texts 2 are flagged and weigh 8 each: batches of 4 with one of them have a loss of a multiple of the others'."""
    film = domain("film")
    flagged = [row for row, label in enumerate(film.labels) if label][:2]
    cleared = [row for row, label in enumerate(film.labels) if not label][:30]
    config = dataclasses.replace(CONFIG, batch_size=4, epochs=1.0, learning_rate=1e-9)
    found = train(base, [film.take([*flagged, *cleared])], tmp_path / "a", config)
    losses = [row["loss"] for row in found.history[0] if "loss" in row]
    assert len(losses) > 4
    assert max(losses) / min(losses) < 2


def test_sources_that_ask_one_question_are_judged_apart(base) -> None:
    film, book = domain("film"), domain("book")
    found = Validation.of(base.model, [film, book.take(range(10))], Heads(), 512)
    assert len(found.verdicts) == 1
    assert found.rarer_class() == {"film": 32, "book": min(sum(book.labels[:10]), 10 - sum(book.labels[:10]))}
    assert {example["number"] for example in found.examples} == {-1, -2}


def test_what_a_step_left_is_looked_at_before_it_is_kept() -> None:
    """A training loss is from before the step; that of validation is from behind it."""
    watch = Watch(lambda _: None, lambda _: None, {"film": 20}, learns=True)
    control, state = TrainerControl(), SimpleNamespace(global_step=1)
    watch.on_log(None, state, control, {"loss": 0.7, "grad_norm": 1.0})
    control.should_save = True
    watch.on_log(None, state, control, {"eval_loss": 2.3, "eval_auroc": 0.6})
    assert watch.diverged is None
    assert control.should_save
    watch.on_log(None, state, control, {"eval_loss": 2.5, "eval_auroc": 0.6})
    assert watch.diverged == "the validation loss is 2.5 at step 1"
    assert control.should_training_stop
    assert not control.should_save


def test_one_source_that_collapses_ends_a_training_whatever_the_others_do() -> None:
    watch = Watch(lambda _: None, lambda _: None, {"film": 20, "book": 20, "song": 7}, learns=True)
    control, state = TrainerControl(), SimpleNamespace(global_step=5)

    def validated(film: float, book: float, song: float) -> None:
        aurocs = {"eval_auroc: film": film, "eval_auroc: book": book, "eval_auroc: song": song}
        watch.on_log(None, state, control, {"eval_loss": 0.5, "eval_auroc": (film + book + song) / 3, **aurocs})

    validated(0.95, 0.9, 1.0)
    validated(0.95, 0.7, 0.5)  # too few songs to tell
    assert watch.diverged is None
    validated(0.95, 0.52, 1.0)
    assert watch.diverged == "the AUROC on validation texts of book fell from 0.90 to 0.52 at step 5"


def test_no_text_that_another_source_learns_from_validates() -> None:
    whole = domain("film", 200)
    learnt = whole.train  # all of which another domain holds, beside texts of its own
    rows = [Row(f"a{i}", text, label) for i, (text, label) in enumerate(zip(learnt.texts, learnt.labels, strict=True))]
    rows += [Row(f"b{i}", f"book {i} was {('great', 'dull')[i % 2]}", 1 - i % 2) for i in range(120)]
    part = make_domain("part", Question("Is it good, now?"), rows)
    assert set(validation_parts([part])[0].texts) & set(learnt.texts)
    films, parts = validation_parts([whole, part])
    assert (films.name, parts.name) == ("film", "part")
    assert not set(films.texts) & set(part.train.texts)
    assert not set(parts.texts) & set(learnt.texts)
    assert all(text.startswith("book") for text in parts.texts)


def test_a_folder_with_files_of_others_is_left_alone(base, tmp_path: Path) -> None:
    for name in ("adapter_model.safetensors", "checkpoints/mine.pt"):
        file = tmp_path / name.replace("/", "-") / name
        file.parent.mkdir(parents=True)
        file.write_text("mine")
        folder = tmp_path / name.replace("/", "-")
        with pytest.raises(RunError, match=rf"holds {Path(name).name}, which no training of this kind left there"):
            train(base, [domain("film")], folder, CONFIG)
        assert file.read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write to"):
        train(base, [domain("film")], tmp_path / "file", CONFIG)


def test_a_source_at_chance_is_named_beside_one_that_is_learnt() -> None:
    """Their mean of .75 would say that all is well."""
    watch = Watch(lambda _: None, lambda _: None, {"film": 20, "book": 20, "song": 19}, learns=True)
    watch.history = [
        {"step": 5.0, "eval_loss": 0.9, "eval_auroc": 0.6, "eval_auroc: film": 0.6, "eval_auroc: book": 0.6},
        {
            "step": 10.0,
            "eval_loss": 0.6,
            "eval_auroc": 0.75,
            "eval_auroc: film": 0.98,
            "eval_auroc: book": 0.52,
            "eval_auroc: song": 0.5,
        },
        {"step": 15.0, "eval_loss": 0.6, "eval_auroc": 0.9, "eval_auroc: film": 0.9, "eval_auroc: book": 0.9},
    ]
    assert "0.52 on book (mean loss 0.60" in str(watch.weakness(12))
    assert watch.weakness(15) is None
    after = Watch(lambda _: None, lambda _: None, {"film": 20}, learns=False)
    after.history = [{"step": 5.0, "eval_loss": 0.7, "eval_auroc": 0.5}]
    assert "instructions, learnt last, may have undone" in str(after.weakness(5))
    alone = Watch(lambda _: None, lambda _: None, {"film": 20}, learns=True)
    alone.history = [{"step": 5.0, "eval_loss": 0.7, "eval_auroc": 0.5}]
    assert "0.50 on film" in str(alone.weakness(5))
