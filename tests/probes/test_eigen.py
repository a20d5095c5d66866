"""Closed forms against dense eigendecompositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import CRC, VINC, BimodalCRC, PCAProbe
from probes._eigen import canonical_sign, leading_eigenpairs, starting_vectors
from probes.crc import split_ratio
from probes.testing import planted


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 40), indefinite=st.booleans())
def test_leading_pairs_are_those_of_a_dense_decomposition(seed: int, width: int, indefinite: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    factor = torch.randn((3, width, width), generator=random, dtype=torch.float64)
    matrix = factor + factor.transpose(1, 2) if indefinite else factor @ factor.transpose(1, 2)
    values, vectors = leading_eigenpairs(lambda v: torch.einsum("lij,lj->li", matrix, v), starting_vectors(factor))
    expected = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(values[:, 0], expected[:, -1], rtol=1e-4, atol=1e-6)
    rayleigh = torch.einsum("li,lij,lj->l", vectors[:, 0], matrix, vectors[:, 0])
    torch.testing.assert_close(rayleigh, expected[:, -1], rtol=1e-4, atol=1e-6)


def test_layers_whose_space_is_used_up_stay_correct() -> None:
    # Rank one beside full rank; the first is done after two steps, and a matrix without positive values must not win by
    # its zeros.
    matrices = torch.stack([torch.diag(torch.tensor([4.0, 0, 0, 0])), torch.diag(torch.tensor([1.0, 2, 3, 4]))])
    values, _ = leading_eigenpairs(lambda v: torch.einsum("lij,lj->li", matrices, v), starting_vectors(matrices))
    torch.testing.assert_close(values, torch.tensor([[4.0, 0.0], [4.0, 3.0]]), rtol=1e-4, atol=1e-4)
    negative = -torch.eye(4)[None].repeat(2, 1, 1)
    negative[1] *= torch.tensor([1.0, 2, 3, 4])
    values, vectors = leading_eigenpairs(lambda v: torch.einsum("lij,lj->li", negative, v), starting_vectors(negative))
    torch.testing.assert_close(values[:, 0], torch.tensor([-1.0, -1.0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vectors[:, 0].norm(dim=-1), torch.ones(2))


def test_canonical_sign() -> None:
    turned = canonical_sign(torch.tensor([[1.0, -3.0], [-1.0, 3.0]]))
    assert turned.tolist() == [[-1.0, 3.0], [-1.0, 3.0]]


def direction_cosine(probe: CRC | VINC | PCAProbe, expected: np.ndarray) -> float:
    found = probe.direction_[0].numpy()
    return abs(float(found @ expected)) / float(np.linalg.norm(found) * np.linalg.norm(expected))


@pytest.mark.parametrize(("n", "d"), [(60, 12), (20, 50)])
def test_crc_is_the_top_principal_component(n: int, d: int) -> None:
    pairs = planted(n, d, signal=3.0, random_state=1)
    probe = CRC().fit(pairs.x_pos, pairs.x_neg)
    pos, neg = probe.norm_.transform(pairs.x_pos, pairs.x_neg)
    values, vectors = np.linalg.eigh((pos - neg).T @ (pos - neg) / n)
    assert direction_cosine(probe, vectors[:, -1]) > 1 - 1e-5
    np.testing.assert_allclose(probe.eigenvalues_[0], values[[-1, -2]], rtol=1e-3)
    assert float(probe.eigen_gap_[0]) == pytest.approx(1 - values[-2] / values[-1], abs=1e-3)
    # Fitted scores have mean 0 and mean square 1.
    scores = probe.score(pairs.x_pos, pairs.x_neg)
    assert scores.mean() == pytest.approx(0, abs=1e-9)
    assert (scores**2).mean() == pytest.approx(1, abs=1e-4)


def test_eigen_gap_is_small_where_two_directions_are_as_good() -> None:
    single = planted(400, 10, signal=5.0, random_state=0)
    double = planted(400, 10, signal=5.0, pull=5.0, random_state=0)
    gaps = [float(CRC().fit(pairs.x_pos, pairs.x_neg).eigen_gap_[0]) for pairs in (single, double)]
    assert gaps[0] > 0.8
    assert gaps[1] < 0.2


def vinc_matrix(pos: np.ndarray, neg: np.ndarray, variance: float, negation: float) -> np.ndarray:
    """The slow, obvious one, from (n, v, d) normalised states."""
    n, v, d = pos.shape
    mean_pos, mean_neg = pos.mean(1), neg.mean(1)
    between = sum((m - m.mean(0)).T @ (m - m.mean(0)) / n for m in (mean_pos, mean_neg)) / 2
    within = np.zeros((d, d))
    for half in (pos, neg):
        for text in half:
            within += (text - text.mean(0)).T @ (text - text.mean(0)) / v / (2 * n)
    cross = (mean_pos - mean_pos.mean(0)).T @ (mean_neg - mean_neg.mean(0)) / n
    return variance * between - (1 - negation) * within - negation * (cross + cross.T) / 2


@pytest.mark.parametrize(("n", "v", "d"), [(50, 1, 8), (50, 3, 8), (10, 2, 40)])
@pytest.mark.parametrize(("variance", "negation"), [(0.0, 0.5), (1.0, 0.3)])
def test_vinc_is_the_top_eigenvector_of_its_matrix(n: int, v: int, d: int, variance: float, negation: float) -> None:
    variants = [planted(n, d, signal=3.0, random_state=seed) for seed in range(v)]
    pos, neg = (np.stack([getattr(part, half) for part in variants], 1)[:, :, None] for half in ("x_pos", "x_neg"))
    probe = VINC(variance, negation).fit(pos, neg)
    normal = [half[:, :, 0] for half in probe.norm_.transform(pos, neg)]
    values, vectors = np.linalg.eigh(vinc_matrix(normal[0], normal[1], variance, negation))
    np.testing.assert_allclose(probe.eigenvalues_[0], values[[-1, -2]], rtol=2e-3, atol=1e-5)
    assert direction_cosine(probe, vectors[:, -1]) > 1 - 1e-4


def test_vinc_prefers_the_feature_that_prompt_variants_agree_on() -> None:
    """One feature is the same in both variants, a stronger one changes its sign from one to the other."""
    random = np.random.default_rng(0)
    steady, fickle = random.choice([-1.0, 1.0], (2, 200))
    pos, neg = (random.standard_normal((200, 2, 1, 6)) * 0.3 for _ in range(2))
    for variant, sign in enumerate((1, -1)):
        for half, answer in ((pos, 1), (neg, -1)):
            half[:, variant, 0, 0] += answer * steady
            half[:, variant, 0, 1] += answer * sign * 2 * fickle
    assert abs(np.corrcoef(VINC().fit(pos, neg).score(pos, neg)[:, 0], steady)[0, 1]) > 0.95
    flat = [half.transpose(1, 0, 2, 3).reshape(400, 6) for half in (pos, neg)]
    assert abs(CRC().fit(*flat).direction_[0].numpy()[1]) > abs(CRC().fit(*flat).direction_[0].numpy()[0])


def test_vinc_weights_are_checked() -> None:
    pairs = planted(10, 4)
    with pytest.raises(ValueError, match="negation is 2"):
        VINC(negation=2).fit(pairs.x_pos, pairs.x_neg)


def test_pca_finds_the_answer_word_where_crc_does_not() -> None:
    pairs = planted(200, 30, signal=3.0, answer_word=2.0, random_state=0)
    word = (pairs.x_pos - pairs.x_neg).mean(0)
    assert direction_cosine(PCAProbe().fit(pairs.x_pos, pairs.x_neg), word) > 0.95
    assert direction_cosine(CRC().fit(pairs.x_pos, pairs.x_neg), pairs.direction) > 0.9


def test_split_ratio_by_hand() -> None:
    # −1 and −3: variance 1; 2 and 4: variance 1; all: mean 0.5, squares 2.25 + 12.25 + 2.25 + 12.25 = 29, /4 = 7.25.
    # Ratio 2/7.25.
    ratio, _ = split_ratio(torch.tensor([[-1.0, -3.0, 2.0, 4.0], [1.0, 2.0, 3.0, -9.0]], dtype=torch.float64))
    assert ratio[0].item() == pytest.approx(2 / 7.25)
    assert ratio[1].item() == np.inf  # one value alone on a side is no group


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_split_ratio_derivative(seed: int) -> None:
    t = torch.randn((2, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    ratio, derivative = split_ratio(t)
    if not bool(torch.isfinite(ratio).all()):
        return
    (expected,) = torch.autograd.grad(ratio.sum(), t)
    torch.testing.assert_close(derivative, expected)


def test_bimodal_search_ends_at_a_lower_ratio_than_the_principal_component() -> None:
    """A wide bell curve has more variance than two narrow groups: the principal component follows it, the search does not."""
    random = np.random.default_rng(0)
    groups = random.choice([-1.0, 1.0], 300)
    difference = random.standard_normal((300, 5)) * np.array([0.15, 1.6, 0.3, 0.3, 0.3])
    difference[:, 0] += groups
    pos, neg = difference / 2, -difference / 2
    principal, bimodal = CRC().fit(pos, neg), BimodalCRC().fit(pos, neg)
    assert abs(np.corrcoef(principal.score(pos, neg), groups)[0, 1]) < 0.3
    assert abs(np.corrcoef(bimodal.score(pos, neg), groups)[0, 1]) > 0.9
