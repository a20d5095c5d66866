"""Consistency search, on readings that are made up instead of a model's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from elicit.domains.rules import Pair
from elicit.methods.consistency import CHAINS, PACK, ROUNDS, Readings, _objective, search
from elicit.methods.evidence import SURE

COUNT = 240


class Reader:
    """A made-up model: log-odds = its own noisy opinion + what the labels before say + a drift with the place.

    Args:
        truth: (n,) in −1, 1.
        opinion: how much the truth moves what it thinks of a text.
        influence: how much examples move it, by as much as their labels fit the truth.
    """

    def __init__(self, truth: np.ndarray, opinion: float, influence: float, seed: int = 0) -> None:
        self.truth, self.opinion, self.influence = truth, opinion, influence
        self.dice = np.random.default_rng(seed)
        self.rows = 0

    def verdicts(self) -> np.ndarray:
        return self.opinion * self.truth + self.dice.normal(size=len(self.truth))

    def read(self, packs, labels):
        out = []
        for pack in packs:
            self.rows += len(pack)
            values = []
            for place, row in enumerate(pack):
                fits = [(1 if labels[other] else -1) * self.truth[other] for other in pack[:place]]
                heard = self.influence * self.truth[row] * (np.mean(fits) if fits else 0.0)
                values.append(3 * place + self.opinion * self.truth[row] + heard + self.dice.normal())
            out.append(np.array(values))
        return out

    def search(self, pairs=(), seed: int = 0):
        rng = np.random.default_rng(seed)

        def packs():
            return [part.tolist() for part in np.array_split(rng.permutation(len(self.truth)), len(self.truth) // PACK)]

        return search(self.verdicts(), self.read, packs, pairs, rng)


def truth_of(count: int = COUNT, share: float = 0.5, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(count) < share, 1.0, -1.0)


def accuracy(found, truth) -> float:
    return float(np.mean(found.labels == (truth > 0)))


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_explain_each_other_mend_weak_verdicts(seed):
    truth = truth_of(seed=seed)
    deaf = Reader(truth, opinion=0.5, influence=0.0, seed=seed).search()
    hearing = Reader(truth, opinion=0.5, influence=4.0, seed=seed).search()
    assert accuracy(hearing, truth) > accuracy(deaf, truth) + 0.05
    assert max(hearing.objectives) > 0.1 > 0.05 > max(deaf.objectives)


def test_where_labels_say_nothing_the_verdicts_decide():
    truth = truth_of()
    found = Reader(truth, opinion=1.5, influence=0.0).search()
    assert np.corrcoef(found.log_odds, found.prior)[0, 1] > 0.99
    assert any("not seen to agree with the verdicts" in alarm for alarm in found.warnings())


def test_verdicts_that_are_noise_raise_an_alarm_though_labels_predict_each_other():
    guesses, ungrouped = 0, 0
    for seed in range(20):
        alarms = Reader(truth_of(96), opinion=0.0, influence=6.0, seed=seed).search(seed=seed).warnings()
        guesses += any("which label is which is a guess" in alarm for alarm in alarms)
        ungrouped += any("do not fall into two groups" in alarm for alarm in alarms)
    assert guesses >= 16  # by chance two readings of noise agree now and then
    assert ungrouped >= 16


def test_verdicts_in_two_groups_raise_no_alarm():
    found = Reader(truth_of(), opinion=4.0, influence=2.0).search()
    assert found.warnings() == ()
    assert found.calibration.kind == "mixture"


def test_readings_that_are_missing_count_for_nothing():
    truth = truth_of()
    reader, dice = Reader(truth, opinion=1.5, influence=2.0), np.random.default_rng(0)
    usual = reader.read
    reader.read = lambda packs, labels: [np.where(dice.random(len(v)) < 0.2, np.nan, v) for v in usual(packs, labels)]
    found = reader.search()
    assert np.isfinite(found.log_odds).all()
    whole = Reader(truth, opinion=1.5, influence=2.0).search()
    assert accuracy(found, truth) > accuracy(whole, truth) - 0.05


def test_restarts_that_end_elsewhere_raise_an_alarm():
    found = Reader(truth_of(), opinion=4.0, influence=2.0).search()
    assert found.agreement == 1
    assert replace(found, agreement=0.79).warnings() == ("restarts agree on 79% of the labels only",)


@pytest.mark.parametrize("count", [8, 16, 48])
def test_evidence_from_few_texts_counts_for_no_more_than_a_verdict_may(count):
    largest = 0.0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        reader = Reader(truth_of(count, seed=seed), opinion=1.0, influence=4.0, seed=seed)

        def packs(rng: np.random.Generator = rng) -> list[list[int]]:
            return [part.tolist() for part in np.array_split(rng.permutation(count), count // 4)]

        found = search(reader.verdicts(), reader.read, packs, (), rng)
        largest = max(largest, float(np.abs(found.log_odds - found.prior).max()))
    assert 1.0 < largest <= SURE + 1e-9


@pytest.mark.parametrize("size", [2, PACK])
def test_what_no_label_stood_before_keeps_its_verdict(size):
    """Of unequal classes, no reading is not one that lies in the middle of all readings."""
    truth = truth_of(share=0.1)
    reader = Reader(truth, opinion=1.5, influence=2.0)
    packs = [part.tolist() for part in np.array_split(np.arange(COUNT), COUNT // size)]
    found = search(reader.verdicts(), reader.read, lambda: packs, (), np.random.default_rng(0))
    first = [pack[0] for pack in packs]
    assert found.read == COUNT - len(first)
    np.testing.assert_array_equal(found.log_odds[first], found.prior[first])
    assert np.any(found.log_odds != found.prior)


def test_readings_in_context_make_the_verdict_better_than_it_is_alone():
    truth = truth_of(1200)
    reader = Reader(truth, opinion=0.8, influence=0.0)
    alone = np.mean((reader.verdicts() > 0) == (truth > 0))
    assert np.mean((reader.search().prior > 0) == (truth > 0)) > alone + 0.05


def test_passes_over_the_data_do_not_depend_on_its_size():
    for count in (60, 240, 960):
        reader = Reader(truth_of(count), 1.0, 1.0)
        reader.search()
        assert reader.rows == 2 * CHAINS * ROUNDS * count <= 9 * count


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_unequal_classes(share):
    truth = truth_of(share=share)
    found = Reader(truth, opinion=2.5, influence=2.0).search()
    assert accuracy(found, truth) > 0.9
    assert 0.03 < min(found.labels.mean(), 1 - found.labels.mean()) < 0.2


def test_labels_obey_the_rules():
    pairs = [
        Pair(row, row + 1, combination) for row in range(0, COUNT, 2) for combination in ((True, True), (False, False))
    ]
    truth = np.tile([1.0, -1.0], COUNT // 2)
    free, ruled = (Reader(truth, 0.8, 1.0).search(rules) for rules in ([], pairs))
    assert not any(pair.broken(ruled.labels[pair.first], ruled.labels[pair.second]) for pair in pairs)
    assert accuracy(ruled, truth) > accuracy(free, truth)


def test_the_same_seed_gives_the_same_search():
    one, two = (Reader(truth_of(), 1.0, 1.0).search(seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.log_odds, two.log_odds)


class TestObjective:
    def test_by_hand(self):
        # Three of four labels flagged: entropy .8113 bits. Evidence that is sure and right costs nothing.
        labels = np.array([True, True, True, False])
        assert _objective(labels, np.where(labels, 60.0, -60.0)) == pytest.approx(0.8112781, abs=1e-6)
        assert _objective(labels, np.zeros(4)) == pytest.approx(0.0, abs=1e-9)

    def test_more_texts_like_these_change_nothing(self):
        dice = np.random.default_rng(0)
        labels, evidence = dice.random(40) < 0.3, dice.normal(size=40)
        assert _objective(np.tile(labels, 5), np.tile(evidence, 5)) == pytest.approx(_objective(labels, evidence))


def test_readings_are_taken_from_the_mean_at_their_place():
    readings = Readings(5)
    readings.add([[0, 1, 2], [3, 4]], [np.array([9.0, 1.0, 5.0]), np.array([-9.0, 3.0])])
    # Place 1 holds rows 1 and 4 with mean 2, place 2 row 2 alone; rows 0 and 3 stood first and were not read behind an example.
    np.testing.assert_allclose(readings.mean(), [0.0, -1.0, 0.0, 0.0, 1.0])
