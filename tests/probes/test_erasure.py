"""LEACE by its properties (arXiv 2306.03819), and streamed against at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from probes import LEACE


def data(n: int, d: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    z = random.integers(0, 2, (n, k)).astype(float)
    z[0], z[1] = 0, 1
    return random.standard_normal((n, d)) @ random.standard_normal((d, d)) + z @ random.standard_normal((k, d)) * 3, z


def covariance(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(5, 40), d=st.integers(2, 12), k=st.integers(1, 2), seed=st.integers(0, 10_000))
def test_nothing_linear_is_left(n: int, d: int, k: int, seed: int) -> None:
    """Zero cross-covariance is the same as no linear predictor being better than a constant."""
    x, z = data(n, d, k, seed)
    erased = LEACE().fit(x, z).transform(x)
    np.testing.assert_allclose(covariance(erased, z), 0, atol=1e-7 * np.abs(x).max())
    np.testing.assert_allclose(erased.mean(0), x.mean(0), atol=1e-7 * np.abs(x).max())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_erasing_twice_is_erasing_once(seed: int) -> None:
    x, z = data(30, 6, 2, seed)
    eraser = LEACE().fit(x, z)
    once = eraser.transform(x)
    np.testing.assert_allclose(eraser.transform(once), once, atol=1e-7 * np.abs(x).max())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 29))
def test_streaming_equals_batch(seed: int, cut: int) -> None:
    x, z = data(30, 6, 1, seed)
    x += 1000
    whole = LEACE().fit(x, z)
    parts = LEACE().update(x[:cut], z[:cut]).update(x[cut:], z[cut:])
    np.testing.assert_allclose(parts.transform(x), whole.transform(x), atol=1e-6)


def test_no_erasure_changes_states_less() -> None:
    """Least squares in the covariance's own metric, against the orthogonal projection and oblique ones."""
    x, z = data(500, 5, 1, 0)
    inverse = np.linalg.inv(np.cov(x.T, bias=True))
    cross = covariance(x, z)

    def cost(right: np.ndarray) -> float:
        """Mean squared change, in the whitened metric, of x − C (rᵀC)⁻¹ rᵀ(x − μ), which erases whatever r is."""
        change = (x - x.mean(0)) @ right @ np.linalg.inv(cross.T @ right) @ cross.T
        return float(np.einsum("nd,de,ne->n", change, inverse, change).mean())

    erased = LEACE(shrink=False).fit(x, z).transform(x)
    ours = float(np.einsum("nd,de,ne->n", x - erased, inverse, x - erased).mean())
    random = np.random.default_rng(1)
    others = [cost(cross), *(cost(cross + 0.3 * random.standard_normal(cross.shape)) for _ in range(50))]
    assert ours <= min(others) + 1e-9
    assert ours < cost(cross) * 0.99


def test_a_classifier_falls_to_chance() -> None:
    x, z = data(400, 6, 1, 2)
    y = z[:, 0]
    assert LogisticRegression().fit(x, y).score(x, y) > 0.8
    erased = LEACE().fit(x, y).transform(x)
    assert LogisticRegression().fit(erased, y).score(erased, y) < 0.6


def test_one_column_per_class_is_as_good_as_one_column() -> None:
    x, z = data(60, 5, 1, 3)
    both = np.concatenate([z, 1 - z], 1)
    np.testing.assert_allclose(LEACE().fit(x, both).transform(x), LEACE().fit(x, z).transform(x), atol=1e-7)


def test_a_fit_forgets_what_was_before() -> None:
    x, z = data(30, 4, 1, 0)
    eraser = LEACE().fit(x[:10] * 9, z[:10]).fit(x, z)
    np.testing.assert_array_equal(eraser.transform(x), LEACE().fit(x, z).transform(x))


def test_columns_of_the_concept_may_have_any_unit() -> None:
    x, z = data(200, 6, 2, seed=3)
    same = LEACE(shrink=False).fit(x, z).transform(x)
    scaled = LEACE(shrink=False).fit(x, z * np.array([1.0, 1e9])).transform(x)
    np.testing.assert_allclose(scaled, same, atol=1e-6)
    assert np.abs(covariance(scaled, z)).max() < 1e-6


def test_one_text_is_not_enough_and_leaves_nothing_of_what_was_before() -> None:
    x, z = data(50, 4, 1, seed=0)
    eraser = LEACE().fit(x, z)
    for few in (0, 1):
        with pytest.raises(ValueError, match="at least two"):
            eraser.fit(x[:few], z[:few])
    with pytest.raises(ValueError, match="not fitted"):
        eraser.transform(x)


def test_bad_input_is_refused() -> None:
    x, z = data(30, 4, 1, 0)
    with pytest.raises(ValueError, match="must be"):
        LEACE().fit(x, z[:5])
    with pytest.raises(ValueError, match="x: example 3 has NaN"):
        LEACE().fit(np.where(np.arange(30)[:, None] == 3, np.nan, x), z)
    with pytest.raises(ValueError, match="earlier texts"):
        LEACE().fit(x, z).update(x[:, :3], z)
    with pytest.raises(ValueError, match="not fitted"):
        LEACE().transform(x)
    with pytest.raises(ValueError, match="not fitted"):
        LEACE().update(x[:1], z[:1]).transform(x)
    with pytest.raises(ValueError, match=r"\(n, 4\)"):
        LEACE().fit(x, z).transform(x[:, :2])
