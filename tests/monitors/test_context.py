"""Context monitors on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question
from elicit.language_models.local import LocalModel
from elicit.monitors.context import ContextMonitor

QUESTION = Question("Is this text unsafe?")
CONTEXTS = [[("one text", True), ("another", False)], [("a third", False), ("and a fourth", True)]]
TEXTS = ["some text", "another text, which is longer", ""]


@pytest.fixture
def model(make_model, make_tokenizer) -> LocalModel:
    return LocalModel.from_transformers(make_model("llama"), make_tokenizer())


def test_score_is_the_verdict_and_its_half_sums_and_half_differences(model):
    scores = ContextMonitor(model, QUESTION, CONTEXTS, slope=2.0, gain=0.5).score(TEXTS)
    zero = model.log_odds(QUESTION, TEXTS).values
    plus, minus = [], []
    for shots in CONTEXTS:
        plus.append(model.log_odds(QUESTION, TEXTS, shots).values)
        minus.append(model.log_odds(QUESTION, TEXTS, [(text, not flagged) for text, flagged in shots]).values)
    even, odd = (np.mean(plus, 0) + np.mean(minus, 0)) / 2, (np.mean(plus, 0) - np.mean(minus, 0)) / 2
    expected = 2.0 * (zero + even) / 2 + 0.5 * odd
    np.testing.assert_allclose(scores.values[:2], expected[:2], atol=1e-5)
    assert np.abs(odd[:2]).min() > 1e-4  # labels do something in this model, so the test would see a swap
    assert scores.reasons == (None, None, "the text is empty")
    assert np.isnan(scores.values[2])


def test_swapping_all_labels_negates_the_odd_part_alone(model):
    swapped = [[(text, not flagged) for text, flagged in shots] for shots in CONTEXTS]
    both = [
        ContextMonitor(model, QUESTION, contexts, 0.0, 1.0).score(TEXTS[:2]).values for contexts in (CONTEXTS, swapped)
    ]
    np.testing.assert_allclose(both[0], -both[1], atol=1e-6)


def test_what_is_written_is_what_comes_back(model, tmp_path, monkeypatch):
    from elicit.monitors import load_monitor

    monitor = ContextMonitor(model, QUESTION, CONTEXTS, 1.5, 0.25)
    monitor.save(tmp_path)
    monkeypatch.setattr(LocalModel, "load", lambda *_: model)
    again = load_monitor(tmp_path)
    np.testing.assert_array_equal(again.score(TEXTS).values, monitor.score(TEXTS).values)
