"""Algorithm 1 of internal coherence maximisation, on scores that are given by hand instead of a model."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains.rules import Pair
from elicit.methods.icm import ALPHA, _Objective, balanced_lead, flip_lead, search, symmetric


def neighbours(truth: np.ndarray, strength: float = 3.0):
    """A model in whose eyes a text's label is that of the texts of its own kind, and the opposite of the others'."""

    def score(asked):
        return [
            strength * np.mean([(1 if label else -1) * (1 if truth[other] == truth[row] else -1) for other, label in c.items()])
            if c
            else 0.0
            for c, row in asked
        ]  # fmt: skip

    return score


def alarm(found, score):
    """What is said of a labelling beside its opposite."""
    rows = sorted(found.labels)
    opposite = {row: not found.labels[row] for row in rows}
    inverted = score([({other: label for other, label in opposite.items() if other != row}, row) for row in rows])
    labels, odds = (np.array([held[row] for row in rows]) for held in (found.labels, found.log_odds))
    return symmetric(labels, flip_lead(labels, odds, np.array(inverted)))


def test_the_objective_by_hand():
    # Each text is read as log-odds 2 whatever the others carry: log p(1) = −log(1 + e^−2), log p(0) = −log(1 + e^2).
    objective = _Objective(lambda asked: [2.0] * len(asked), [Pair(0, 1, (True, True))])
    yes, no = -np.log1p(np.exp(-2.0)), -np.log1p(np.exp(2.0))
    assert objective({0: True, 2: False}) == pytest.approx(ALPHA * (yes + no) / 2)
    assert objective({0: True, 1: True}) == pytest.approx(ALPHA * yes - 1)


def test_a_text_is_never_read_with_its_own_label():
    def score(asked):
        assert all(row not in context for context, row in asked)
        return [1.0 if row % 2 else -1.0 for _, row in asked]

    found = search(score, 10, [], np.random.default_rng(0))
    assert found.labels == {row: bool(row % 2) for row in range(10)}


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_coherent_labels_or_their_opposite(seed):
    truth = np.random.default_rng(seed + 100).random(20) < 0.5
    found = search(neighbours(truth), 20, [], np.random.default_rng(seed))
    assert len(found.labels) == 20
    agreement = np.mean([truth[row] == label for row, label in found.labels.items()])
    assert agreement in (0.0, 1.0)  # without anything that ties it to the question, both are as coherent


def test_labels_whose_opposites_cohere_as_well_raise_an_alarm():
    truth = np.random.default_rng(3).random(20) < 0.5
    score = neighbours(truth)
    found = search(score, 20, [], np.random.default_rng(0))
    assert "the opposite labels may predict each other as well (+0.00 ± 0.00" in alarm(found, score)[0]

    def knows(asked):  # the truth besides
        return [odds + (1.0 if truth[row] else -1.0) for odds, (_, row) in zip(score(asked), asked, strict=True)]

    found = search(knows, 20, [], np.random.default_rng(0))
    assert [found.labels[row] for row in range(20)] == truth.tolist()
    assert alarm(found, knows) == []


def test_a_preference_for_one_word_is_no_lead():
    """The model says No more readily than Yes, and knows nothing else that would tell labels from their opposites."""
    labels = np.arange(20) < 4
    lead = np.where(labels, -1.5, 1.5) + np.random.default_rng(0).normal(0, 0.3, 20)
    assert lead.mean() > 2 * lead.std(ddof=1) / np.sqrt(20)
    assert symmetric(labels, lead)
    mean, error = balanced_lead(np.array([True, True, False, False]), np.array([1.0, 3.0, 0.0, 2.0]))
    # Class means 2 and 1; variances 2 and 2 of two each: half of the root of 1 + 1.
    assert (mean, error) == pytest.approx((1.5, np.sqrt(2) / 2))
    assert "hardly any labels" in symmetric(np.array([True, False, False]), np.ones(3))[0]


def test_the_lead_over_the_opposites_by_hand():
    # A label 1 at log-odds 2, whose opposite is read as log-odds 1: log p(1) − log p(0) = −log(1 + e^−2) + log(1 + e^1).
    # A label 0 at log-odds −1, whose opposite is read as log-odds 3: −log(1 + e^−1) + log(1 + e^−3).
    found = flip_lead(np.array([True, False]), np.array([2.0, -1.0]), np.array([1.0, 3.0]))
    assert found == pytest.approx(
        [-np.log1p(np.exp(-2)) + np.log1p(np.exp(1)), -np.log1p(np.exp(-1)) + np.log1p(np.exp(-3))]
    )
    assert symmetric(np.arange(8) % 2 == 0, np.full(8, -1.0))  # the opposites are better


def test_the_same_seed_gives_the_same_labels():
    truth = np.arange(12) % 3 == 0
    one, two = (search(neighbours(truth), 12, [], np.random.default_rng(4)) for _ in range(2))
    assert one == two


def test_rules_are_obeyed_where_the_model_is_indifferent():
    pairs = [
        Pair(row, row + 1, combination) for row in range(0, 12, 2) for combination in ((True, True), (False, False))
    ]
    found = search(lambda asked: [0.01] * len(asked), 12, pairs, np.random.default_rng(0))
    broken = [pair for pair in pairs if pair.broken(found.labels[pair.first], found.labels[pair.second])]
    assert not broken
