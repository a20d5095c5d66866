"""Thinking as a method, and as a teacher, on a tiny model whose verdicts after reasoning are given."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.methods import elicit_monitor
from elicit.monitors import ThinkingMonitor, VerdictMonitor
from elicit.monitors.scores import scores_from

QUESTION = Question("Is it good?")
TEXTS = [f"film {i} was a {('great fun', 'dull mess')[i % 2]}" + " indeed" * (i % 4) for i in range(64)]
TRUTH = np.arange(64) % 2 == 0


@pytest.fixture
def base(make_model, make_tokenizer, tmp_path, monkeypatch) -> VerdictMonitor:
    monkeypatch.setenv("ELICIT_CACHE", str(tmp_path / "cache"))
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


def answers(monkeypatch, unscored: frozenset[int] = frozenset()) -> None:
    """Reasoning that ends in the right verdict, except for texts that it says nothing about."""

    def score(self, texts: UnlabelledDomain):
        rows = [TEXTS.index(text) for text in texts.texts]
        odds = [5.0 * (1 if TRUTH[row] else -1) + 0.01 * row for row in rows]
        return scores_from(texts.ids, odds, ["too long" if row in unscored else None for row in rows])

    monkeypatch.setattr(ThinkingMonitor, "_score", score)


def test_labels_come_from_the_verdicts_behind_the_reasoning(base, monkeypatch) -> None:
    answers(monkeypatch, frozenset({3, 4}))
    found = elicit_monitor(base, UnlabelledDomain.from_texts(TEXTS, QUESTION), "thinking")
    assert isinstance(found.monitor, ThinkingMonitor)
    assert found.labelling is not None
    assert set(found.labelling.ids) == {str(row) for row in range(64)} - {"3", "4"}
    for name, label in zip(found.labelling.ids, found.labelling.labels, strict=True):
        assert label == TRUTH[int(name)]
    assert found.details["texts"] == 62


def test_a_student_of_thinking_answers_at_once(base, monkeypatch) -> None:
    answers(monkeypatch)
    target = UnlabelledDomain.from_texts(TEXTS, QUESTION)
    found = elicit_monitor(base, target, "thinking-self-training")
    assert isinstance(found.monitor, VerdictMonitor)
    apart = [
        monitor.score(target).values[TRUTH].mean() - monitor.score(target).values[~TRUTH].mean()
        for monitor in (base, found.monitor)
    ]
    assert apart[1] > apart[0] + 0.01


def test_too_few_readable_texts_are_an_error(base) -> None:
    target = UnlabelledDomain.from_texts(["one film", "two films", *[""] * 10], QUESTION)
    with pytest.raises(DomainError, match="labels from scores need at least 8"):
        elicit_monitor(base, target, "thinking")
