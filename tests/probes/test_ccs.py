"""CCS: the loss by hand, its derivative, the solver against a slow reference, and what restarts tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from probes import CCS
from probes._lbfgs import Direct, RowSpace, linear_models, minimise
from probes.ccs import ccs_loss, solution_clusters
from probes.testing import planted, random_word


def test_loss_by_hand() -> None:
    # Pair 1: p⁺ = 0.8, p⁻ = 0.4: (0.8 + 0.4 − 1)² + 0.4² = 0.04 + 0.16 = 0.20.
    # Pair 2: p⁺ = 0.5, p⁻ = 0.5: 0 + 0.25 = 0.25. Mean: 0.225.
    p = torch.tensor([0.8, 0.5, 0.4, 0.5], dtype=torch.float64)
    loss, _ = ccs_loss(torch.logit(p)[None, None])
    assert loss.item() == pytest.approx(0.225)


def test_certain_and_consistent_answers_cost_nothing() -> None:
    loss, derivative = ccs_loss(torch.tensor([[[40.0, -40.0, -40.0, 40.0]]]))
    assert loss.item() < 1e-30
    assert (derivative.abs() < 1e-15).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_derivative_is_that_of_automatic_differentiation(seed: int) -> None:
    logits = torch.randn((2, 3, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits.requires_grad_()
    loss, derivative = ccs_loss(logits)
    (expected,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(derivative, expected)


def objective(theta: np.ndarray, pos: np.ndarray, neg: np.ndarray, decay: float) -> float:
    """The slow, obvious one: θ with the bias last."""
    p, q = (1 / (1 + np.exp(-(half @ theta[:-1] + theta[-1]))) for half in (pos, neg))
    return float(np.mean((p - (1 - q)) ** 2 + np.minimum(p, q) ** 2) + decay / 2 * (theta**2).sum())


@pytest.mark.parametrize(("n", "d", "decay"), [(40, 6, 0.01), (40, 6, 1.0), (15, 60, 0.01), (15, 60, 1.0)])
def test_objective_is_no_higher_than_that_of_scipy(n: int, d: int, decay: float) -> None:
    pairs = planted(n, d, signal=2.0, random_state=1)
    probe = CCS(restarts=5, decay=decay, tolerance=1e-7, iterations=2000).fit(pairs.x_pos, pairs.x_neg)
    pos, neg = (half.reshape(n, d) for half in probe.norm_.transform(pairs.x_pos, pairs.x_neg))
    random = np.random.default_rng(0)
    starts = [np.append(v / np.linalg.norm(v), 0.0) for v in random.standard_normal((5, d))]
    lowest = min(minimize(objective, start, (pos, neg, decay), "L-BFGS-B").fun for start in starts)
    assert float(probe.objectives_.min()) <= lowest * 1.001
    # What is reported is the objective of what is stored.
    loss = float(-probe.quality_[0])
    assert loss == pytest.approx(float(probe.losses_[0, int(probe.objectives_[0].argmin())]))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 12), d=st.integers(2, 20))
def test_both_representations_take_the_same_path(seed: int, n: int, d: int) -> None:
    random = torch.Generator().manual_seed(seed)
    z = torch.randn((2, 2 * n, d), generator=random, dtype=torch.float64)
    theta = torch.randn((2, 3, d), generator=random, dtype=torch.float64)
    results = []
    for models in (Direct(z, theta), RowSpace(z, theta)):
        vectors, values = minimise(models, ccs_loss, 0.1, 5, 0.0)
        results.append((*models.parameters(vectors), values))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_minimise_never_ends_above_its_start_and_solves_a_quadratic() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn((2, 30, 5), generator=random, dtype=torch.float64)
    target = torch.randn((2, 1, 30), generator=random, dtype=torch.float64)
    theta = torch.randn((2, 3, 5), generator=random, dtype=torch.float64)

    def loss(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        layers = logits.shape[0]
        return (logits - target[:layers]).square().sum(-1) / 2, logits - target[:layers]

    models = linear_models(z, theta)
    assert isinstance(models, Direct)
    vectors, values = minimise(models, loss, 0.5, 200, 1e-14)
    for layer in range(2):
        rows = torch.cat([z[layer], torch.ones(30, 1, dtype=torch.float64)], 1)
        solution = torch.linalg.solve(rows.T @ rows + 0.5 * torch.eye(6), rows.T @ target[layer, 0])
        for restart in range(3):
            torch.testing.assert_close(vectors[layer, restart], solution, rtol=1e-5, atol=1e-6)
    assert (values <= loss(models.logits(models.start()))[0] + 0.25 * theta.square().sum(-1)).all()


def test_scores_are_half_the_difference_of_logits() -> None:
    pairs = planted(50, 10, random_state=2)
    probe = CCS().fit(pairs.x_pos, pairs.x_neg)
    pos, neg = probe.norm_.transform(pairs.x_pos, pairs.x_neg)
    expected = (pos @ probe.direction_[0].numpy() - neg @ probe.direction_[0].numpy()) / 2
    np.testing.assert_allclose(probe.score(pairs.x_pos, pairs.x_neg), expected, rtol=1e-9, atol=1e-12)


def test_clusters_tell_restarts_that_found_different_directions() -> None:
    # Scores of restarts 0 and 2 are opposite, which is the same direction; restart 1's are unrelated. The best is
    # restart 1.
    one, other = torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 1, -1, -1])
    logits = torch.stack([torch.cat([one, -one]), torch.cat([other, -other]), torch.cat([-one, one])])[None]
    assert solution_clusters(logits, torch.tensor([[0.2, 0.1, 0.3]])).tolist() == [[1, 0, 1]]


def test_a_second_consistent_feature_shows_as_a_second_cluster() -> None:
    single = planted(300, 20, signal=5.0, common=0.2, answer_word=0.1, random_state=0)
    double = planted(300, 20, signal=5.0, pull=5.0, common=0.2, answer_word=0.1, random_state=0)
    assert int(CCS(restarts=20, decay=0.01).fit(single.x_pos, single.x_neg).clusters_.max()) == 0
    assert int(CCS(restarts=20, decay=0.01).fit(double.x_pos, double.x_neg).clusters_.max()) >= 1


def test_a_strong_distractor_is_what_it_finds() -> None:
    pairs = random_word(300, 64, signal=1.0, pull=5.0, random_state=0)
    scores = CCS().fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    assert abs(float(((scores > 0) == (pairs.distractor == 1)).mean()) - 0.5) > 0.45


def test_no_restarts_are_refused() -> None:
    pairs = planted(10, 4)
    with pytest.raises(ValueError, match="restarts is 0"):
        CCS(restarts=0).fit(pairs.x_pos, pairs.x_neg)
