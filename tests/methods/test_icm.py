"""Algorithm 1 of internal coherence maximisation, on scores that are given by hand instead of a model."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, UnlabelledDomain
from elicit.domains.rules import Pair
from elicit.language_models.local import LocalModel
from elicit.methods import elicit_monitor
from elicit.methods.icm import (
    ALPHA,
    SEEDS,
    _draw,
    _mended,
    _Objective,
    accepts,
    balanced_lead,
    flip_lead,
    search,
    symmetric,
    temperature_at,
)
from elicit.methods.pool import Pool
from elicit.monitors import VerdictMonitor


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


def test_the_papers_constants_and_its_schedule():
    assert (ALPHA, SEEDS) == (50, 8)
    assert temperature_at(1) == 10
    assert temperature_at(100) == pytest.approx(10 / (1 + 0.99 * np.log(100)))


def test_a_change_for_the_worse_is_kept_as_often_as_annealing_says():
    rng = np.random.default_rng(0)
    assert all(accepts(1e-9, 0.01, rng) for _ in range(50))
    kept = np.mean([accepts(-2.0, 2.5, rng) for _ in range(4000)])
    assert kept == pytest.approx(np.exp(-2.0 / 2.5), abs=0.03)  # four standard errors


def test_texts_that_a_rule_ties_to_a_labelled_one_are_drawn_a_hundred_times_as_often():
    rng, pairs = (
        np.random.default_rng(0),
        [Pair(0, 1, (True, True)), Pair(0, 2, (True, True)), Pair(3, 4, (True, True))],
    )
    drawn = [_draw(range(1, 6), {0: True, 2: True}, pairs, rng) for _ in range(4000)]
    # Row 1 weighs 100; row 2 has its label, rows 3 and 4 have none to follow, row 5 has no rule: 1 each.
    assert np.mean(np.array(drawn) == 1) == pytest.approx(100 / 104, abs=0.012)


def test_a_broken_pair_takes_the_best_of_the_labels_that_its_rule_allows():
    def mended(first: float, second: float):
        """Both are flagged, with these log-odds, and may not both be."""
        odds = {0: first, 1: second}
        objective = _Objective(lambda asked: [odds[row] for _, row in asked], [Pair(0, 1, (True, True))])
        return _mended({0: True, 1: True}, objective, np.random.default_rng(0))

    # To clear a text of log-odds r costs 50 · r / 2, and the rule's weight is 1.
    assert mended(0.03, 0.01) == {0: True, 1: False}
    assert mended(0.01, 0.03) == {0: False, 1: True}
    assert mended(-0.01, -0.03) == {0: False, 1: False}
    assert mended(3.0, 1.0) == {0: True, 1: True}


def test_the_search_begins_with_eight_labels_half_of_them_flagged():
    asked: list[dict[int, bool]] = []

    def score(requests):
        asked.extend(dict(context) for context, _ in requests)
        return [0.0] * len(requests)

    search(score, 30, [], np.random.default_rng(0))
    # The first eight requests are each of the first labels behind the seven others.
    assert {len(context) for context in asked[:8]} == {7}
    first = dict(item for context in asked[:8] for item in context.items())
    assert sorted(first.values()) == [False] * 4 + [True] * 4


def test_what_rules_undo_is_no_change():
    """Of 12 pairs of which not both may be flagged, each first text is sure to be, and its second would be on its own."""
    pairs = [Pair(row, row + 1, (True, True)) for row in range(0, 24, 2)]
    found = search(
        lambda asked: [2.0 if row % 2 == 0 else 0.005 for _, row in asked], 24, pairs, np.random.default_rng(0)
    )
    assert found.labels == {row: row % 2 == 0 for row in range(24)}
    assert found.accepted < 60
    assert found.steps < 12 * 24  # it ends when nothing moves


def test_a_verdict_that_cannot_be_read_leaves_its_text_as_it_is():
    truth = np.arange(12) % 2 == 0
    score = neighbours(truth)

    def patchy(asked):
        return [np.nan if row == 3 else odds for odds, (_, row) in zip(score(asked), asked, strict=True)]

    found = search(patchy, 12, [], np.random.default_rng(0))
    rest = [row for row in found.labels if row != 3]
    assert set(range(12)) - set(rest) == {3}
    assert np.mean([truth[row] == found.labels[row] for row in rest]) in (0.0, 1.0)
    assert np.isfinite(found.objective)
    assert found.log_odds.get(3, 0.0) == 0.0


def test_every_token_that_is_sent_is_counted(make_model, make_tokenizer, monkeypatch):
    sent: list[int] = []
    question = Question("Is this text unsafe?")
    monitor = VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))
    texts = UnlabelledDomain.from_texts([f"text {'long ' * (i % 4)}number {i}" for i in range(10)], question)
    pool = Pool.of(monitor, texts, 24)
    usual = LocalModel.packed_log_odds

    def counting(model, question, packs, *more, **options):
        prompt = model.prompt(question)
        sent.extend(len(prompt.head) + prompt.sequence(pack)[1][-1] + 1 for pack in packs)
        return usual(model, question, packs, *more, **options)

    monkeypatch.setattr(LocalModel, "packed_log_odds", counting)
    details = elicit_monitor(monitor, texts, "icm").details
    labelled = details["pool"]
    counted = labelled * (details["tokens_per_label"] + details["tokens_of_alarms_per_label"])
    assert counted == pytest.approx(sum(sent) + pool.tokens_of_verdicts(), abs=labelled)  # both are rounded per label


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
