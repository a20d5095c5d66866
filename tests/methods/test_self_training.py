"""Self-training on a tiny model, with teachers whose labels are given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.local import LocalModel
from elicit.methods import Elicited, Labelling
from elicit.methods.self_training import self_training
from elicit.monitors import Monitor, Scores, VerdictMonitor

QUESTION = Question("Is it good?")
WORDS = ("great fun", "dull mess")
TEXTS = [f"film {i} was a {WORDS[i % 2]}" + " indeed" * (i % 4) for i in range(64)]
TRUTH = np.arange(64) % 2 == 0


@pytest.fixture
def base(make_model, make_tokenizer, tmp_path, monkeypatch) -> VerdictMonitor:
    monkeypatch.setenv("ELICIT_CACHE", str(tmp_path / "cache"))
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


def teacher(labels_of: Callable[[int], np.ndarray], sure: float = 4.0):
    """A teacher that gives the labels of its n-th call."""
    calls = []

    def teach(monitor, target: UnlabelledDomain, seed: int) -> Elicited:
        labels = labels_of(len(calls))
        calls.append(monitor)
        return Elicited(monitor, {}, (), Labelling(target.ids, labels, np.where(labels, sure, -sure)))

    return teach, calls


def test_the_student_learns_what_the_teacher_is_sure_of(base) -> None:
    teach, calls = teacher(lambda _: TRUTH)
    target = UnlabelledDomain.from_texts(TEXTS, QUESTION)
    found = self_training(base, target, 0, teacher=teach)
    apart = [
        monitor.score(target).values[TRUTH].mean() - monitor.score(target).values[~TRUTH].mean()
        for monitor in (base, found.monitor)
    ]
    assert apart[1] > apart[0] + 0.01
    assert len(calls) == 2  # the second time nothing had changed
    assert found.details["labels_changed_per_round"] == [0.0]


def test_labels_that_keep_changing_are_an_alarm(base) -> None:
    few = TRUTH[:24]
    teach, calls = teacher(lambda call: few if call % 2 == 0 else ~few)
    found = self_training(base, UnlabelledDomain.from_texts(TEXTS[:24], QUESTION), 0, teacher=teach)
    assert len(calls) == 4
    assert any("100% of the labels still changed" in warning for warning in found.warnings)


def test_a_teacher_that_is_sure_of_nothing_trains_nobody(base) -> None:
    teach, calls = teacher(lambda _: TRUTH, sure=0.5)
    found = self_training(base, UnlabelledDomain.from_texts(TEXTS, QUESTION), 0, teacher=teach)
    assert found.monitor is base
    assert len(calls) == 1
    assert any("not trained" in warning for warning in found.warnings)


def test_the_same_training_is_not_done_twice(base, monkeypatch) -> None:
    target = UnlabelledDomain.from_texts(TEXTS, QUESTION)
    first = self_training(base, target, 0, teacher=teacher(lambda _: TRUTH)[0])
    monkeypatch.setattr("elicit.training.trainer.VerdictTrainer.train", None)
    second = self_training(base, target, 0, teacher=teacher(lambda _: TRUTH)[0])
    np.testing.assert_array_equal(first.monitor.score(target).values, second.monitor.score(target).values)


def test_alarms_of_the_first_teacher_are_not_lost_when_the_student_repeats_its_labels(base) -> None:
    away = np.roll(TRUTH, 32)
    away[:40] = ~away[:40]
    teach, _ = teacher(lambda call: TRUTH if call == 0 else away)

    def warned(monitor, target, seed):
        found = teach(monitor, target, seed)
        return Elicited(found.monitor, {}, ("left the verdicts",) if monitor is base else (), found.labelling)

    found = self_training(base, UnlabelledDomain.from_texts(TEXTS, QUESTION), 0, teacher=warned)
    assert "left the verdicts" in found.warnings
    assert any("62% of the labels left those of the first round" in warning for warning in found.warnings)
    assert found.details["labels_changed_since_the_first"] == 0.625


def test_a_teacher_without_labels_teaches_by_its_scores(base) -> None:
    class Knows(Monitor):
        kind, question = "knows", QUESTION

        def _score(self, texts):
            return Scores(
                texts.ids, np.array([9.0 if "fun" in text else -9.0 for text in texts.texts]), (None,) * len(texts)
            )

        def save(self, folder) -> None: ...

    target = UnlabelledDomain.from_texts(TEXTS, QUESTION)
    found = self_training(base, target, 0, teacher=lambda *_: Elicited(Knows()))
    labels = dict(zip(found.labelling.ids, found.labelling.labels, strict=True))
    assert [labels[i] for i in target.ids] == TRUTH.tolist()
    assert found.monitor is not base
