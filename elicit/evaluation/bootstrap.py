"""Bootstrap intervals: one matrix of weights per target, shared by every monitor.

A resample is a row of weights: how often each text was drawn. Because all monitors are measured under the same rows,
the difference between two of them is paired: what makes a resample easy for both cancels.
Texts of one leakage group are not independent, so whole groups are drawn (the cluster bootstrap: Davison & Hinkley,
*Bootstrap Methods and their Application*, §3.8), and within strata, so that no resample loses a class.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

REPLICATES = 2000
CONFIDENCE = 0.95
DECIMALS = 6
BLOCK = 2**20  # numbers in one block of replicates: bounds the memory of large test sets


@dataclass(frozen=True)
class Resampled:
    """A figure and its resamples.

    Attributes:
        value: the figure on the texts as they are.
        replicates: (r,) the same figure on each resample, NaN where it is undefined there.
        bounds: between which the ends of its interval lie.
    """

    value: float
    replicates: NDArray[np.float64]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def interval(self) -> tuple[float, float]:
        """Percentile interval at 95 %, over the resamples where the figure is defined.

        Widened where needed to contain the value: figures that are biased under resampling (ECE is, upward) can have all
        their resamples on one side of it.
        """
        defined = self.replicates[np.isfinite(self.replicates)]
        if not defined.size:
            return float("nan"), float("nan")
        low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = np.clip((low, high), *self.bounds)
        return min(float(low), self.value), max(float(high), self.value)

    def to_json(self) -> dict[str, Any]:
        """`{"value", "low", "high"}`, or `{"value": None, "undefined": reason}`; `"warning"` where an interval misleads."""
        low, high = self.interval()
        if not np.isfinite(self.value):
            return undefined("the figure is not defined on these texts")
        if not np.isfinite(low):
            return undefined("the figure is not defined on any resample")
        entry: dict[str, Any] = {"value": rounded(self.value), "low": rounded(low), "high": rounded(high)}
        missing = int((~np.isfinite(self.replicates)).sum())
        if missing:
            entry["warning"] = f"{missing} of {len(self.replicates)} resamples lack a class and are left out"
        elif low == high:
            entry["warning"] = "every resample gives this value: the interval does not show how uncertain it is"
        return entry


def undefined(reason: str) -> dict[str, Any]:
    """A figure that has no value, and why."""
    return {"value": None, "undefined": reason}


def in_words(entry: Mapping[str, Any], form: str = ".3f", sign: str = "") -> str:
    """A figure of results with its interval, "0.930 [0.891, 0.968]", or "undefined"; a difference is given the `sign` "+"."""
    if entry["value"] is None:
        return "undefined"
    value, low, high = (f"{entry[key]:{sign}z{form}}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def rounded(value: float) -> float:
    """A float for JSON: six decimals are far below any interval, and −0.0 becomes 0.0."""
    return round(float(value), DECIMALS) + 0.0


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a (rows, columns) matrix, each of at most about a million numbers."""
    step = max(1, BLOCK // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def bootstrap_weights(
    labels: ArrayLike, groups: Sequence[Hashable | None] | None = None, replicates: int = REPLICATES, seed: int = 0
) -> NDArray[np.float32]:
    """(r, n) float32: how often each of n texts was drawn into each of r resamples; whole numbers.

    Whole groups are drawn with replacement, within three strata: groups of flagged texts only, of cleared texts only,
    and mixed ones. Each resample has as many groups of a stratum as the data. A mixed group holds both classes, so every
    resample has both classes whenever the data do. Without groups this is the bootstrap stratified by label: each
    resample has exactly the data's number of flagged texts, and an interval is conditional on it.

    Args:
        labels: (n,) 1 = flagged, 0 = cleared.
        groups: (n,) leakage group of each text; a text whose group is None is alone in its own.
        replicates: r, at least 1.
        seed: of the drawing.
    """
    truth = np.asarray(labels)
    if truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be a row of 0 and 1")
    if groups is not None and len(groups) != len(truth):
        raise ValueError(f"{len(truth)} labels and {len(groups)} groups")
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, not {replicates}")
    member = group_numbers(groups, len(truth))
    count = int(member.max()) + 1 if member.size else 0
    size = np.bincount(member, minlength=count)
    flagged = np.bincount(member, weights=truth, minlength=count)
    stratum = np.where(flagged == 0, 0, np.where(flagged == size, 1, 2))
    random = np.random.default_rng(seed)
    weights = np.zeros((replicates, len(truth)), dtype=np.float32)
    for kind in range(3):
        numbers = np.flatnonzero(stratum == kind)
        if not numbers.size:
            continue
        place = np.full(count, -1)
        place[numbers] = np.arange(numbers.size)
        texts = np.flatnonzero(stratum[member] == kind)
        for part in blocks(replicates, numbers.size):
            rows = part.stop - part.start
            drawn = random.integers(0, numbers.size, size=(rows, numbers.size))
            drawn += np.arange(rows)[:, None] * numbers.size
            times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(rows, numbers.size)
            weights[part, texts] = times[:, place[member[texts]]]
    return weights


def group_numbers(groups: Sequence[Hashable | None] | None, n: int) -> NDArray[np.int64]:
    """(n,) number of each text's group, in order of first appearance; a text without group has its own."""
    if groups is None:
        return np.arange(n)
    seen: dict[Any, int] = {}
    # A tuple is no group's own name, so a lone text cannot fall into another group.
    return np.array(
        [
            seen.setdefault(("alone", row) if group is None else ("group", group), len(seen))
            for row, group in enumerate(groups)
        ],
        dtype=np.int64,
    )


def resampled_means(values: ArrayLike, seed: int = 0, replicates: int = REPLICATES) -> Resampled:
    """Mean of n independent values, and of n that are drawn from them, r times."""
    held = np.asarray(values, dtype=np.float64)
    if not held.size:
        return Resampled(float("nan"), np.full(replicates, np.nan))
    draws = np.random.default_rng(seed).integers(0, held.size, (replicates, held.size))
    return Resampled(float(held.mean()), held[draws].mean(1))


def weighted_mean(values: ArrayLike, weights: NDArray[np.float32]) -> Resampled:
    """Mean of (…, n) values that are not NaN, under (1 + r, n) weights of the texts, of which the first row is all ones."""
    held = np.asarray(values, dtype=np.float64)
    known = np.isfinite(held)
    filled, counted = np.where(known, held, 0.0), known.astype(float)
    if held.ndim > 1:
        filled, counted = filled.sum(0), counted.sum(0)
    total = weights @ counted
    means = np.divide(weights @ filled, total, out=np.full(len(weights), np.nan), where=total > 0)
    return Resampled(float(means[0]), means[1:])


def mean_over_seeds(figures: Sequence[Resampled], bounds: tuple[float, float] = (0.0, 1.0), seed: int = 0) -> Resampled:
    """Mean of the same figure over s seeds, whose resamples drew the same texts.

    Each resample also draws s of the seeds with replacement, so that the interval covers other texts and other seeds. The seeds'
    part is drawn from their values on the texts as they are. A bootstrap of few seeds understates how much their mean varies: its
    deviations are multiplied by √(s/(s − 1)) · t / z, with t and z the quantiles of Student's distribution with s − 1 degrees of
    freedom and of the normal one (2.7 for three seeds), so that where seeds are all that differs the interval is about Student's.

    Args:
        figures: one per seed, of the same texts and resamples.
        bounds: what the figure can be; shares, AUROC among them, lie between 0 and 1.
        seed: of what is drawn.

    Raises:
        ValueError: a figure lies outside its bounds.
    """
    values = np.array([figure.value for figure in figures])
    replicates = np.stack([figure.replicates for figure in figures])
    if (values < bounds[0] - 1e-9).any() or (values > bounds[1] + 1e-9).any():
        raise ValueError(f"figures {values.tolist()} lie outside {bounds}")
    count = len(values)
    drawn = np.random.default_rng(seed).integers(0, count, (count, replicates.shape[1]))
    tail = (1 + CONFIDENCE) / 2
    few = np.sqrt(count / (count - 1)) * special.stdtrit(count - 1, tail) / special.ndtri(tail) if count > 1 else 0.0
    of_seeds = few * (values[drawn].mean(axis=0) - values.mean())
    return Resampled(float(values.mean()), replicates.mean(axis=0) + of_seeds, bounds)
