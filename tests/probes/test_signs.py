"""Signs without labels, by hand, and that every route turns the probe as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import CCS, CRC, KMeansProbe, load_probe
from probes.signs import best_split, by_anchors, by_prior, by_reference, rank_correlation, split_share
from probes.testing import planted


def test_reference_by_hand() -> None:
    # Layer 0 rises with the reference, layer 1 falls, layer 2 is constant: rank correlations 1, −1 and 0.
    scores = np.array([[1.0, 9.0, 5.0], [2.0, 4.0, 5.0], [30.0, 1.0, 5.0]])
    sign = by_reference(scores, np.array([-1.0, 0.0, 0.5]))
    assert sign.signs.tolist() == [1, -1, 1]
    assert sign.confidence.tolist() == pytest.approx([1, 1, 0])


def test_rank_correlation_with_ties() -> None:
    # Ranks of the scores 1, 2.5, 2.5, 4, of the reference 1, 2, 3, 4: covariance 4.5, squares 4.5 and 5.
    assert rank_correlation(np.array([[0.0], [1], [1], [2]]), np.arange(4.0))[0] == pytest.approx(
        4.5 / np.sqrt(4.5 * 5)
    )


def test_anchors_by_hand() -> None:
    # Flagged 3 and 1 against cleared 2: one of two pairs in order, AUROC 0.5. Second layer: both below, AUROC 0.
    sign = by_anchors(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 3.0]]), np.array([1, 1, 0]))
    assert sign.signs.tolist() == [1, -1]
    assert sign.confidence.tolist() == [0, 1]


def test_prior_by_hand() -> None:
    # One of four far above the rest: a quarter is flagged as it stands, three quarters if it is turned.
    scores = np.array([[5.0], [0.1], [0.0], [-0.1]])
    assert by_prior(scores, 0.3).signs.tolist() == [1]
    assert by_prior(scores, 0.3).confidence[0] == pytest.approx(abs(0.45 - 0.05))
    assert by_prior(scores, 0.9).signs.tolist() == [-1]
    assert by_prior(scores, 0.5).confidence[0] == pytest.approx(0)


def test_best_split_by_hand() -> None:
    # 0, 0, 3, 3 about 1.5: the split in the middle explains everything. 0, 3, 6: {0} and {3, 6} leave 4.5 of 18.
    assert best_split(np.array([3.0, 0, 0, 3])) == (2, pytest.approx(1.0))
    assert best_split(np.array([0.0, 3, 6]))[1] == pytest.approx(1 - 4.5 / 18)
    assert best_split(np.array([2.0, 2, 2])) == (3, 0.0)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(-20, 20), min_size=2, max_size=15))
def test_best_split_tries_every_threshold(values: list[int]) -> None:
    ordered = np.sort(np.array(values, dtype=float))
    total = ordered.var() * len(ordered)
    left = [ordered[:k].var() * k + ordered[k:].var() * (len(ordered) - k) for k in range(1, len(ordered))]
    expected = 1 - min(left) / total if total > 0 else 0.0
    assert best_split(ordered)[1] == pytest.approx(expected, abs=1e-9)


def test_a_bell_curve_splits_at_two_thirds() -> None:
    share = split_share(np.random.default_rng(0).standard_normal((20_000, 1)))[0]
    assert share == pytest.approx(2 / np.pi, abs=0.01)


@pytest.mark.parametrize("probe", [CCS(restarts=3), CRC(), KMeansProbe()], ids=repr)
def test_every_route_finds_the_sign(probe: CCS) -> None:
    pairs = planted(200, 12, signal=5.0, balance=0.2, random_state=1)
    halves = (pairs.x_pos, pairs.x_neg)
    right = 2.0 * pairs.truth - 1
    for direction in (1.0, -1.0):
        fitted = probe.fit(*halves)
        before = fitted.score(*halves)
        assert fitted.sign_confidence_ == 0
        after = fitted.orient(direction * right).score(*halves)
        assert np.corrcoef(after, right)[0, 1] * direction > 0.9
        assert fitted.sign_confidence_ > 0.5
        np.testing.assert_allclose(np.abs(after), np.abs(before))
    few = [int(np.flatnonzero(pairs.truth == k)[0]) for k in (0, 1)]
    scores = probe.fit(*halves).orient_by_anchors(pairs.x_pos[few], pairs.x_neg[few], pairs.truth[few]).score(*halves)
    assert np.corrcoef(scores, right)[0, 1] > 0.9
    assert probe.sign_confidence_ == 1
    scores = probe.fit(*halves).orient_by_prior(0.25).score(*halves)
    assert np.corrcoef(scores, right)[0, 1] > 0.9
    assert probe.sign_confidence_ > 0.4
    np.testing.assert_array_equal(probe.orient_by_prior(0.25).score(*halves), scores)


def test_each_layer_has_its_own_sign() -> None:
    pairs = planted(100, 8, signal=5.0, random_state=0)
    pos, neg = np.stack([pairs.x_pos, -pairs.x_pos], 1), np.stack([pairs.x_neg, -pairs.x_neg], 1)
    reference = 2.0 * pairs.truth - 1
    scores = CRC().fit(pos, neg).orient(reference).score(pos, neg)
    for layer in (0, 1):
        assert np.corrcoef(scores[:, layer], reference)[0, 1] > 0.9


def test_an_unrelated_reference_gives_little_confidence() -> None:
    pairs = planted(1000, 8, signal=5.0, random_state=0)
    probe = CRC().fit(pairs.x_pos, pairs.x_neg).orient(np.random.default_rng(1).standard_normal(1000))
    assert probe.sign_confidence_ < 0.1


def test_bad_references_are_refused(tmp_path: object) -> None:
    pairs = planted(20, 4)
    probe = CRC().fit(pairs.x_pos, pairs.x_neg)
    with pytest.raises(ValueError, match="19 reference scores for 20"):
        probe.orient(np.zeros(19))
    with pytest.raises(ValueError, match="reference score 3 is nan"):
        probe.orient(np.where(np.arange(20) == 3, np.nan, 0.0))
    with pytest.raises(ValueError, match="both of them"):
        probe.orient_by_anchors(pairs.x_pos[:2], pairs.x_neg[:2], np.array([1, 1]))
    with pytest.raises(ValueError, match=r"share of flagged texts is 1\.5"):
        probe.orient_by_prior(1.5)
    probe.save(f"{tmp_path}/probe")
    with pytest.raises(ValueError, match="before it is saved"):
        load_probe(f"{tmp_path}/probe").orient(np.zeros(20))
