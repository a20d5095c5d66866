"""Resamples: what they keep, and whether the intervals cover what they should."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicit.evaluation import metrics
from elicit.evaluation.bootstrap import (
    BLOCK,
    Resampled,
    blocks,
    bootstrap_weights,
    group_numbers,
    in_words,
    mean_over_seeds,
    rounded,
    undefined,
)

LABELS_AND_GROUPS = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.none(), st.sampled_from("abcdef"))), min_size=1, max_size=40
)


def auroc_interval(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, tuple[float, float]]:
    value = float(metrics.auroc(scores, labels, np.ones((1, len(labels))))[0])
    return value, Resampled(value, metrics.auroc(scores, labels, weights)).interval()


def test_without_groups_each_class_keeps_its_size() -> None:
    labels = np.array([1, 0, 0, 1, 0, 0, 0])
    weights = bootstrap_weights(labels, replicates=500)
    assert weights.shape == (500, 7)
    assert (weights[:, labels == 1].sum(axis=1) == 2).all()
    assert (weights[:, labels == 0].sum(axis=1) == 5).all()
    # Drawing 5 of 5 with replacement: each text 1 on average, and missing in (4/5)^5 of the resamples.
    assert weights[:, 1].mean() == pytest.approx(1, abs=0.15)
    assert (weights[:, 1] == 0).mean() == pytest.approx(0.8**5, abs=0.07)


@settings(max_examples=80, deadline=None)
@given(LABELS_AND_GROUPS, st.integers(0, 5))
def test_groups_stay_whole_and_no_class_is_lost(texts: list[tuple[int, str | None]], seed: int) -> None:
    labels = np.array([label for label, _ in texts])
    groups = [group for _, group in texts]
    weights = bootstrap_weights(labels, groups, replicates=20, seed=seed)
    assert (weights == np.floor(weights)).all()
    assert (weights >= 0).all()
    member = group_numbers(groups, len(groups))
    for number in np.unique(member):
        inside = weights[:, member == number]
        assert (inside == inside[:, :1]).all()
    firsts = [int(np.flatnonzero(member == number)[0]) for number in np.unique(member)]
    assert (weights[:, firsts].sum(axis=1) == len(firsts)).all()  # as many groups as there are
    for kind in np.unique(labels):
        assert (weights[:, labels == kind].sum(axis=1) > 0).all()


def test_texts_without_group_are_each_their_own() -> None:
    labels = [0, 0, 1, 1, 0]
    alone = bootstrap_weights(labels, [None] * 5, replicates=50, seed=3)
    np.testing.assert_array_equal(alone, bootstrap_weights(labels, None, replicates=50, seed=3))
    assert group_numbers(["a", None, "a", None], 4).tolist() == [0, 1, 0, 2]
    # No name of a group can be mistaken for that of a lone text.
    assert group_numbers([("alone", 1), None], 2).tolist() == [0, 1]


def test_the_seed_decides() -> None:
    labels = [0, 1] * 20
    same = [bootstrap_weights(labels, replicates=30, seed=7).tobytes() for _ in range(2)]
    assert same[0] == same[1] != bootstrap_weights(labels, replicates=30, seed=8).tobytes()


@pytest.mark.parametrize(
    ("labels", "groups", "replicates", "message"),
    [([0, 2], None, 5, "0 and 1"), ([0, 1], ["a"], 5, "2 labels and 1 groups"), ([0, 1], None, 0, "at least 1")],
)
def test_bad_input(labels: list[int], groups: list[str] | None, replicates: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_weights(labels, groups, replicates)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 0), (2001, 300), (3, 2 * BLOCK), (2001, 10_000)])
def test_blocks_cover_each_row_once(rows: int, columns: int) -> None:
    parts = list(blocks(rows, columns))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    assert all((part.stop - part.start) * columns <= BLOCK or part.stop - part.start == 1 for part in parts)


def test_interval_is_the_middle_of_the_resamples() -> None:
    # 0 … 1000: the 2.5th and the 97.5th percentile are 25 and 975.
    figure = Resampled(500.0, np.arange(1001.0))
    assert figure.interval() == pytest.approx((25.0, 975.0))
    assert figure.to_json() == {"value": 500.0, "low": 25.0, "high": 975.0}
    # A value outside of its resamples widens the interval.
    assert Resampled(2000.0, np.arange(1001.0)).interval() == pytest.approx((25.0, 2000.0))


def test_undefined_and_doubtful_intervals_say_so() -> None:
    assert Resampled(float("nan"), np.ones(3)).to_json()["value"] is None
    assert "undefined" in Resampled(1.0, np.full(3, np.nan)).to_json()
    partly = Resampled(1.0, np.array([np.nan, 0.5, 1.0])).to_json()
    assert partly["warning"].startswith("1 of 3 resamples")
    assert "every resample" in Resampled(1.0, np.ones(9)).to_json()["warning"]
    for figure in (Resampled(float("nan"), np.ones(3)), Resampled(1.0, np.array([np.nan, 0.5]))):
        json.dumps(figure.to_json(), allow_nan=False)
    assert str(rounded(-1e-9)) == "0.0"


def test_interval_covers_the_true_auroc() -> None:
    """Two normals one standard deviation apart have AUROC Φ(1/√2) = .7602; 95 % intervals should hold it about as often."""
    random, truth, covered = np.random.default_rng(1), 0.7602499, 0
    labels = np.repeat([0, 1], 50)
    for seed in range(200):
        scores = random.normal(size=100) + labels
        _, (low, high) = auroc_interval(scores, labels, bootstrap_weights(labels, replicates=300, seed=seed))
        covered += low <= truth <= high
    # Nominal 190 of 200; a percentile interval at this size covers 92–95 %, and chance adds ± 3.
    assert 178 <= covered <= 199


def test_groups_widen_the_interval_of_dependent_texts() -> None:
    """Each text five times over holds no more information than once: only drawing groups shows it."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 25)
    scores = random.normal(size=50) + labels
    once = auroc_interval(scores, labels, bootstrap_weights(labels, replicates=1500))[1]
    copies, repeated = np.repeat(scores, 5), np.repeat(labels, 5)
    groups = [str(row // 5) for row in range(250)]
    grouped = auroc_interval(copies, repeated, bootstrap_weights(repeated, groups, 1500))[1]
    ignored = auroc_interval(copies, repeated, bootstrap_weights(repeated, None, 1500))[1]
    assert grouped[1] - grouped[0] == pytest.approx(once[1] - once[0], rel=0.15)
    # Five times the texts make an interval narrower by √5 = 2.2.
    assert (grouped[1] - grouped[0]) / (ignored[1] - ignored[0]) == pytest.approx(5**0.5, rel=0.2)


def test_a_mean_over_seeds_draws_texts_and_seeds() -> None:
    exact = np.zeros(2000)
    one, other = Resampled(0.49, exact + 0.49), Resampled(0.51, exact + 0.51)
    # Two seeds drawn with replacement: one of them twice in 1/4 of the draws each, or one of each. With one degree of freedom
    # Student's quantile is 12.706, the normal one 1.960.
    mean = mean_over_seeds([one, other])
    assert mean.value == pytest.approx(0.5)
    far = 0.01 * 2**0.5 * 12.706 / 1.960
    shares = [np.isclose(mean.replicates, value, atol=1e-4).mean() for value in (0.5 - far, 0.5, 0.5 + far)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    # Where the seeds agree, what is left is the texts' own spread; of one seed it is all there is.
    texts = Resampled(0.5, np.random.default_rng(0).normal(0.5, 0.1, 2000))
    np.testing.assert_allclose(mean_over_seeds([texts, texts, texts]).replicates, texts.replicates)
    np.testing.assert_array_equal(mean_over_seeds([texts]).replicates, texts.replicates)


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_interval_over_few_seeds_holds_what_seeds_are_drawn_from(seeds: int) -> None:
    """Where nothing but the seed differs, 95 % of the intervals hold the mean over all seeds that could be drawn."""
    rng, held = np.random.default_rng(0), 0
    for draw in range(400):
        figures = [Resampled(value, np.full(500, value)) for value in rng.normal(0.5, 0.02, seeds)]
        low, high = mean_over_seeds(figures, seed=draw).interval()
        held += low <= 0.5 <= high
    assert 0.93 <= held / 400 <= 0.985


def test_a_share_stays_a_share_and_anything_else_says_what_it_is() -> None:
    figures = [Resampled(value, np.full(500, value)) for value in (0.98, 0.999, 0.9)]
    assert mean_over_seeds(figures).interval()[1] == 1.0
    with pytest.raises(ValueError, match=r"\[3\.2\] lie outside"):
        mean_over_seeds([Resampled(3.2, np.full(500, 3.2))])
    assert mean_over_seeds([Resampled(3.2, np.full(500, 3.2))], (0.0, np.inf)).value == 3.2


def test_a_figure_in_words() -> None:
    assert in_words({"value": 0.93, "low": 0.8906, "high": 1.0}) == "0.930 [0.891, 1.000]"
    assert in_words({"value": -0.02, "low": -0.05, "high": -0.004}, ".0%", "+") == "-2% [-5%, +0%]"
    assert in_words(undefined("one class")) == "undefined"


def test_means_over_seeds_are_paired() -> None:
    rng = np.random.default_rng(0)
    seeds = [Resampled(0.7 + effect, rng.normal(0.7 + effect, 0.05, 2000)) for effect in (-0.1, 0.0, 0.1)]
    better = [Resampled(figure.value + 0.02, figure.replicates + 0.02) for figure in seeds]
    gain = mean_over_seeds(better).replicates - mean_over_seeds(seeds).replicates
    np.testing.assert_allclose(gain, 0.02)  # the same seeds are drawn for both
