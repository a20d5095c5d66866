"""Supervised probes: scikit-learn's contract, closed forms by hand and against slow references, layers chosen on labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import check_estimator

from probes import LDAProbe, LogisticProbe, MeanDifference, RidgeProbe, SupervisedProbe
from probes.supervised import row_space
from probes.testing import planted

PROBES = [LogisticProbe(), MeanDifference(), MeanDifference(whiten=True), LDAProbe(), LDAProbe(0.2), RidgeProbe()]
# Standardisation is along the axes.
TURNING = [probe for probe in PROBES if not isinstance(probe, LogisticProbe)]

NOT_OURS = {
    "check_fit_score_takes_y": "score(x) gives scores: accuracy against labels is for evaluation",
    "check_n_features_in_after_fitting": "score(x) takes no labels",
    "check_pipeline_consistency": "score(x) takes no labels",
}


def data(n: int = 80, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % 2)
    x = random.standard_normal((n, d)) @ random.standard_normal((d, d)) + np.outer(2 * y - 1, random.standard_normal(d))
    return x, y


@pytest.mark.parametrize("probe", PROBES, ids=repr)
def test_scikit_learn_contract(probe: SupervisedProbe) -> None:
    check_estimator(probe, expected_failed_checks=NOT_OURS, on_skip=None, on_fail="raise")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_mean_difference_by_hand() -> None:
    # Means (0, 1) and (2, 1), so w ∝ (1, 0). Within the classes the first coordinate is ±1: variance 1, gap 2, log-odds
    # slope 2/1, and zero halfway, at 1: score = 2·x₁ − 2.
    x = np.array([[-1.0, 0], [1, 2], [1, 3], [3, -1]])
    probe = MeanDifference().fit(x, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(probe.weight_.numpy(), [[2.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(probe.score(np.array([[1.0, 5], [2, 0]])), [0.0, 2.0], atol=1e-12)
    assert probe.predict(np.array([[1.0, 5], [2, 0]])).tolist() == [0, 1]


def test_whitened_mean_difference_is_lda_without_shrinkage() -> None:
    x, y = data()
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5]).fit(x, y)
    for probe in (MeanDifference(whiten=True), LDAProbe(0.0)):
        fitted = probe.fit(x, y)
        assert cosine(fitted.weight_[0].numpy(), reference.coef_[0]) > 1 - 1e-9
    # The log-odds of two normal classes with one covariance; Σ is divided by n here and in scikit-learn alike.
    np.testing.assert_allclose(LDAProbe(0.0).fit(x, y).score(x), reference.decision_function(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(80, 6), (20, 30)])
def test_lda_shrinks_like_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    x, y = data(*shape)
    centred = np.where((y == 1)[:, None], x - x[y == 1].mean(0), x - x[y == 0].mean(0))
    covariance, share = ledoit_wolf(centred, assume_centered=True)
    assert 0 < share < 1
    weight = np.linalg.solve(covariance, x[y == 1].mean(0) - x[y == 0].mean(0))
    assert cosine(LDAProbe().fit(x, y).weight_[0].numpy(), weight) > 1 - 1e-9


@pytest.mark.parametrize("probe", [LDAProbe(), LDAProbe(0.0), MeanDifference(whiten=True)])
def test_classes_without_spread_are_separated_along_their_difference(probe: SupervisedProbe) -> None:
    x, y = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 1.0]]), np.array([0, 0, 1, 1])
    scores = clone(probe).fit(x, y).score(x)
    assert (scores[:2] < 0).all()
    assert (scores[2:] > 0).all()
    layers = np.stack([x, np.random.default_rng(0).normal(size=x.shape)], 1)
    assert clone(probe).fit(layers, y).best_layer_ == 0


def test_logistic_is_scikit_learns() -> None:
    x, y = data()
    scaled = (x - x.mean(0)) / x.std(0) / np.sqrt(x.shape[1])
    reference = LogisticRegression(C=1.0, class_weight="balanced").fit(scaled, y)
    np.testing.assert_allclose(
        LogisticProbe().fit(x, y).score(x), reference.decision_function(scaled), rtol=1e-3, atol=1e-3
    )


def test_ridge_is_the_solution_of_its_equation() -> None:
    x, y = data(40, 5)
    z = (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    # With a free intercept and balanced classes: (ZᵀZ + αn·I) w = Zᵀt for centred Z and targets ±1.
    weight = np.linalg.solve(z.T @ z + 0.01 * 40 * np.eye(5), z.T @ (2.0 * y - 1))
    assert cosine(RidgeProbe().fit(x, y).weight_[0].numpy(), weight) > 1 - 1e-9


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 12), d=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_row_space_keeps_inner_products(n: int, d: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, d))
    x = x - x.mean(0)
    z, basis = row_space(x)
    np.testing.assert_allclose(z @ basis, x, atol=1e-6)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-6)


@pytest.mark.parametrize("probe", PROBES, ids=repr)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), far=st.floats(-100, 100))
def test_shift_order_and_negation(probe: SupervisedProbe, seed: int, far: float) -> None:
    x, y = data(seed=seed)
    plain = clone(probe).fit(x, y).score(x)
    close = {"rtol": 1e-3, "atol": 1e-3 * np.abs(plain).max()}
    np.testing.assert_allclose(clone(probe).fit(x + far, y).score(x + far), plain, **close)
    order = np.random.default_rng(seed).permutation(len(y))
    np.testing.assert_allclose(clone(probe).fit(x[order], y[order]).score(x), plain, **close)
    np.testing.assert_allclose(clone(probe).fit(x, 1 - y).score(x), -plain, **close)


@pytest.mark.parametrize("probe", TURNING, ids=repr)
@pytest.mark.parametrize("shape", [(60, 8), (12, 20)])
def test_rotation(probe: SupervisedProbe, shape: tuple[int, int]) -> None:
    x, y = data(*shape)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((shape[1], shape[1])))[0]
    plain = clone(probe).fit(x, y).score(x)
    np.testing.assert_allclose(clone(probe).fit(x @ turn, y).score(x @ turn), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("probe", PROBES, ids=repr)
def test_a_text_scores_the_same_in_every_batch(probe: SupervisedProbe) -> None:
    x, y = data(200, 30)
    layered = np.stack([x, x**2], 1)
    fitted = clone(probe).fit(layered, y)
    whole = fitted.score(layered)
    for size in (1, 5, 200):
        assert np.array_equal(np.concatenate([fitted.score(layered[i : i + size]) for i in range(0, 200, size)]), whole)


@pytest.mark.parametrize("probe", PROBES, ids=repr)
def test_fewer_texts_than_features_and_constant_features(probe: SupervisedProbe) -> None:
    x, y = data(20, 40)
    wide = np.concatenate([x, np.full((20, 2), 1e6)], 1)
    fitted = clone(probe).fit(wide, y)
    assert (fitted.weight_[0, 40:] == 0).all()
    np.testing.assert_allclose(fitted.score(wide), clone(probe).fit(x, y).score(x), rtol=1e-6, atol=1e-6)


def test_layers_are_fitted_alone_and_the_best_is_chosen_by_cross_validation() -> None:
    x, y = data(60, 50, seed=3)
    noise = np.random.default_rng(0).standard_normal((60, 50))
    layered = np.stack([noise, x, noise], 1)
    # Fewer texts than features: on the training texts themselves every layer would look perfect.
    probe = LogisticProbe(strength=1e4).fit(layered, y)
    assert roc_auc_score(y, probe.score(layered)[:, 0]) > 0.99
    assert probe.best_layer_ == 1
    assert 0.2 < float(probe.quality_[0]) < 0.8
    np.testing.assert_allclose(probe.score_best(layered), LogisticProbe(strength=1e4).fit(x, y).score(x), rtol=1e-9)
    np.testing.assert_array_equal(probe.best().score(x), probe.score(layered)[:, 1])


def test_shuffled_labels_look_like_chance() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 20, 10))
    quality = LDAProbe().fit(x, random.permutation(np.arange(200) % 2)).quality_
    # Twenty independent layers, standard error about 0.04 each.
    assert abs(float(quality.mean()) - 0.5) < 0.04


def test_pairs_are_differences() -> None:
    pairs = planted(100, 10)
    probe = LDAProbe().fit_pairs(pairs.x_pos, pairs.x_neg, pairs.truth)
    expected = LDAProbe().fit(pairs.x_pos - pairs.x_neg, pairs.truth).score(pairs.x_pos - pairs.x_neg)
    np.testing.assert_array_equal(probe.score_pairs(pairs.x_pos, pairs.x_neg), expected)
    with pytest.raises(ValueError, match="pairs need equal shapes"):
        probe.fit_pairs(pairs.x_pos, pairs.x_neg[:5], pairs.truth)


def test_any_two_labels() -> None:
    x, y = data()
    plain = LDAProbe().fit(x, y).score(x)
    for labels in (np.array(["cleared", "flagged"])[y], torch.from_numpy(y), y.astype(bool), (2.0 * y - 1).tolist()):
        np.testing.assert_array_equal(LDAProbe().fit(x, labels).score(x), plain)
    assert set(LDAProbe().fit(x, np.array(["cleared", "flagged"])[y]).predict(x)) == {"cleared", "flagged"}


def test_bad_input_is_refused() -> None:
    x, y = data()
    probe = MeanDifference()
    with pytest.raises(ValueError, match="one class"):
        probe.fit(x, np.ones(80))
    with pytest.raises(ValueError, match="multiclass"):
        probe.fit(x, np.arange(80) % 3)
    with pytest.raises(ValueError, match=r"y\[2\] is nan"):
        probe.fit(x, np.where(np.arange(80) == 2, np.nan, y))
    with pytest.raises(ValueError, match="80 states, 79 labels"):
        probe.fit(x, y[:-1])
    broken = np.stack([x, x], 1)
    broken[7, 1, 3] = np.nan
    with pytest.raises(ValueError, match="x: example 7 holds NaN in layer 1"):
        probe.fit(broken, y)
    with pytest.raises(ValueError, match="layer 1: all states are alike"):
        probe.fit(np.stack([x, np.ones_like(x)], 1), y)
    with pytest.raises(ValueError, match="expecting 6 features"):
        probe.fit(x, y).score(x[:, :5])
    with pytest.raises(ValueError, match="2 layers; the probe was fitted on 1"):
        probe.score(np.stack([x, x], 1))
    with pytest.raises(ValueError, match="not fitted"):
        MeanDifference().score(x)
    with pytest.raises(ValueError, match="shrinkage is 2"):
        LDAProbe(2).fit(x, y)
