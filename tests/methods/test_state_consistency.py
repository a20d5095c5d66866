"""The closed-form search on states, against the slow way and on data whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from elicit.methods.state_consistency import (
    PENALTIES,
    _centred,
    _errors,
    _hat,
    _predict,
    _spectrum,
    leave_one_out,
    search,
)


def planted(seed: int, n: int = 200, d: int = 64, signal: float = 2.0, prior_noise: float = 2.0, share: float = 0.5):
    """States with a direction for the truth, noise in the others, and a prior that is right more often than not."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < share).astype(int)
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    states = rng.normal(size=(n, d)) + signal * np.outer(2 * truth - 1, direction)
    prior = (2 * truth - 1) * 1.0 + prior_noise * rng.normal(size=n)
    return truth, states[:, None], prior


@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 20), st.sampled_from([0.01, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_leave_one_out_equals_fitting_without_each_text(seed: int, n: int, d: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    states, labels = rng.normal(size=(n, d)), rng.normal(size=n)
    # The states are scaled once, on all texts: the penalty then acts on the same coordinates in every fit.
    scaled, _, _ = _centred(states)
    fast = leave_one_out(_hat(_spectrum(states), penalty), labels)
    for left_out in range(n):
        rest = np.arange(n) != left_out
        ridge = Ridge(alpha=penalty).fit(scaled[rest], labels[rest])
        assert fast[left_out] == pytest.approx(ridge.predict(scaled[[left_out]])[0], abs=1e-6)


def test_errors_under_each_penalty_are_those_of_leave_one_out() -> None:
    rng = np.random.default_rng(0)
    spectrum, labels = _spectrum(rng.normal(size=(9, 5))), rng.normal(size=(9, 3))
    slow = [
        [np.mean((column - leave_one_out(_hat(spectrum, penalty), column)) ** 2) for column in labels.T]
        for penalty in PENALTIES
    ]
    np.testing.assert_allclose(_errors(spectrum, labels), slow)


def test_the_best_of_many_layers_predicts_noise_and_is_not_believed() -> None:
    """At the 5 % of a test, about one of twenty sets of noise is; all looked predictable to the eye."""
    seen, believed = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = search(rng.normal(size=(30, 14, 64)), 2 * rng.normal(size=30))
        seen += found.predictability > 0.05
        believed += found.evidence.gain > 0
    assert seen > 25
    assert believed <= 6


@pytest.mark.parametrize("n", [8, 100, 400])
def test_states_of_many_dimensions_without_a_signal_predict_nothing(n: int) -> None:
    """With d > n a regression can fit anything; what it predicts for a text must not be what it was given for that text."""
    rng = np.random.default_rng(n)
    states, prior = rng.normal(size=(n, 1, 2000)), 2 * rng.normal(size=n)
    found = search(states, prior)
    assert found.chance > 0.05
    np.testing.assert_allclose(found.log_odds, prior)
    # Even under the least penalty, another label for one text moves the predictions of the others and not its own.
    hat = [_hat(_spectrum(states[:, 0]), 0.01)]
    labels = np.tanh(prior / 2)
    other = labels.copy()
    other[3] = -other[3]
    moved = np.abs(_predict(hat, other) - _predict(hat, labels))
    assert moved[3] < 1e-9 < np.delete(moved, 3).min()


@pytest.mark.parametrize("seed", range(5))
def test_states_repair_a_noisy_prior(seed: int) -> None:
    truth, states, prior = planted(seed)
    found = search(states, prior)
    assert roc_auc_score(truth, found.log_odds) > roc_auc_score(truth, prior) + 0.07
    assert found.predictability > 0.03
    assert found.chance == 1 / 200  # no shuffle is predicted as well


@pytest.mark.parametrize("seed", range(5))
def test_states_that_know_nothing_leave_the_prior_alone(seed: int) -> None:
    truth, states, prior = planted(seed, signal=0.0)
    found = search(states, prior)
    assert roc_auc_score(truth, found.log_odds) > roc_auc_score(truth, prior) - 0.03


@pytest.mark.parametrize("seed", range(5))
def test_noise_in_many_dimensions_does_not_talk_itself_into_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 200)
    prior = 1.2 * (2 * truth - 1) + rng.normal(size=200)
    found = search(rng.normal(size=(200, 3, 576)), prior)
    assert roc_auc_score(truth, found.log_odds) > roc_auc_score(truth, prior) - 0.02
    assert np.mean((found.log_odds > 0) == (prior > 0)) > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_a_louder_feature_than_the_truth_does_not_take_over(seed: int) -> None:
    truth, states, prior = planted(seed, n=300, prior_noise=1.5)
    rng = np.random.default_rng(seed + 100)
    distractor = rng.integers(0, 2, len(truth)) * 2 - 1
    states = states + 6.0 * distractor[:, None, None] * rng.normal(size=states.shape[-1]) / 8
    found = search(states, prior)
    assert roc_auc_score(truth, found.log_odds) > 0.9
    assert abs(roc_auc_score(distractor > 0, found.log_odds) - 0.5) < 0.15


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_unequal_classes(share: float) -> None:
    truth, states, prior = planted(0, n=400, share=share, prior_noise=1.0, signal=2.5)
    prior = prior + np.log(share / (1 - share))
    found = search(states, prior)
    assert roc_auc_score(truth, found.log_odds) >= roc_auc_score(truth, prior)
    assert abs(np.mean(found.log_odds > 0) - share) < 0.1


def test_the_read_out_gives_new_texts_what_the_search_found() -> None:
    truth, states, prior = planted(3, n=400)
    found = search(states[:300], prior[:300])
    weights, bias = found.read_out(states[:300])
    new = np.einsum("nld,ld->n", states[300:], weights) + bias
    assert roc_auc_score(truth[300:], new) > 0.9
    # One layer: the ridge regression on the final soft labels, times the gain.
    centred, mean, scale = _centred(states[:300, 0])
    ridge = Ridge(alpha=found.penalties[0]).fit(centred, found.labels)
    predicted = ridge.predict((states[300:, 0] - mean) / scale) - found.labels.mean()
    np.testing.assert_allclose(new, found.evidence.log_odds(predicted), atol=1e-6)


def test_flipping_the_prior_flips_every_label_and_order_does_not_matter() -> None:
    _, states, prior = planted(4)
    found = search(states, prior)
    np.testing.assert_allclose(search(states, -prior).log_odds, -found.log_odds, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(prior))
    np.testing.assert_allclose(search(states[order], prior[order]).log_odds, found.log_odds[order], atol=1e-6)


def test_alarms() -> None:
    _, states, _ = planted(5, signal=0.0)
    one_sided = search(states, np.full(len(states), 3.0) + 0.01 * np.random.default_rng(0).normal(size=len(states)))
    assert any("degenerate" in alarm for alarm in one_sided.warnings(np.full(len(states), 3.0), one_sided.log_odds > 0))
    found = search(states, np.random.default_rng(1).normal(size=len(states)))
    assert any("they are not used" in alarm for alarm in found.warnings(found.log_odds, found.log_odds > 0))
