"""Calibration without labels: from raw scores to a threshold and a probability.

A target has no labels, so neither Platt scaling nor a threshold search is possible. What is left is the shape of the
scores on the target's calibration split: when they form two heaps, the flagged texts are taken to be the upper one.
The model is a mixture of two Gaussians that share one variance, as in linear discriminant analysis (Hastie, Tibshirani,
Friedman, *The Elements of Statistical Learning*, §4.3 and §8.5): only with a shared variance is the posterior log-odds
linear in the score, so that a probability never falls while the score rises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

FEWEST_FOR_MIXTURE = 8
FEWEST_IN_COMPONENT = 2  # one far outlier is not a class
SMALLEST_SHARE = 0.02
SMALLEST_DEVIATION = 0.05  # of a component, in standard deviations of all scores: ties must not give an infinite slope
ROUNDING = 1e-12  # scores that differ by less, relative to their size, are equal but for rounding
STEPS = 500
START_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
LOGISTIC_IQR = 2 * float(np.log(3))  # interquartile range of the standard logistic distribution

Kind = Literal["mixture", "median"]


@dataclass(frozen=True)
class Calibration:
    """Probability and verdict of a score: log-odds = slope · score + intercept.

    Attributes:
        slope: > 0, change of the log-odds per unit of score.
        intercept: log-odds at score 0.
        threshold: the score at which the probability is .5.
        kind: "mixture" when the scores form two heaps, "median" when they do not and half of them are flagged.
    """

    slope: float
    intercept: float
    threshold: float
    kind: Kind

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.intercept, self.threshold]).all() and self.slope > 0):
            raise ValueError(f"a calibration needs a finite slope above 0, got {self}")
        if self.kind not in ("mixture", "median"):
            raise ValueError(f"a calibration is of kind mixture or median, not {self.kind!r}")

    def probability(self, values: ArrayLike) -> NDArray[np.float64]:
        """(m,) probability of being flagged for (m,) scores; NaN where a score is NaN.

        It is as good as the mixture's assumptions: two Gaussian heaps, as many flagged texts here as in the calibration
        split. After "median" it says no more than where a score lies among the others.
        """
        # Written around the threshold, not with the intercept: for large scores the two large terms would cancel.
        with np.errstate(over="ignore"):
            log_odds = self.slope * (np.asarray(values, dtype=np.float64) - self.threshold)
        probability: NDArray[np.float64] = np.asarray(expit(log_odds), dtype=np.float64)
        return probability

    def flagged(self, values: ArrayLike) -> NDArray[np.bool_]:
        """(m,) True where a score lies strictly above the threshold; an unscored text (NaN) is not flagged."""
        return np.asarray(values, dtype=np.float64) > self.threshold

    def to_json(self) -> dict[str, Any]:
        """The four attributes; `from_json` gives back an equal calibration."""
        return asdict(self)

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Calibration:
        """What `to_json` wrote."""
        return cls(float(held["slope"]), float(held["intercept"]), float(held["threshold"]), held["kind"])


def fit_calibration(values: ArrayLike) -> Calibration:
    """Fit a calibration to scores alone.

    Two Gaussians of equal variance are fitted by expectation–maximisation; their posterior log-odds are linear in the score. When
    the Bayesian information criterion does not prefer two to one, or one of the two is nearly empty, the threshold is the median,
    which assumes that about half of the texts are flagged, and probabilities are kept modest.

    Args:
        values: (m,) scores of the target's calibration split; those that are not finite are left out.
    """
    scores = np.asarray(values, dtype=np.float64).ravel()
    scores = np.sort(scores[np.isfinite(scores)])  # sorted: sums then do not depend on the order of the texts
    if not scores.size:
        return Calibration(1.0, 0.0, 0.0, "median")
    low, high = float(scores[(scores.size - 1) // 2]), float(scores[scores.size // 2])
    median = low if low == high else low / 2 + high / 2  # exact when tied: no text lies above its own score
    if scores[0] == scores[-1]:
        return _calibration(1.0, median, "median")
    # Scaled before it is centred, so that no difference of huge scores overflows.
    peak = float(np.abs(scores).max())
    scaled = scores / peak
    centre, spread = float(scaled.mean()), float(scaled.std())
    if spread < ROUNDING:
        return _calibration(1.0, median, "median")
    unit = spread * peak
    if scores.size >= FEWEST_FOR_MIXTURE:
        found = _fit_mixture((scaled - centre) / spread)
        if found is not None:
            slope, threshold = found
            return _calibration(_over(slope, unit), (centre + spread * threshold) * peak, "mixture")
    quartiles = np.quantile(scaled, [0.25, 0.75])
    iqr = float(quartiles[1] - quartiles[0])
    slope = LOGISTIC_IQR * spread / iqr if iqr > 0 else np.pi / np.sqrt(3)
    return _calibration(_over(float(slope), unit), median, "median")


def _over(slope: float, unit: float) -> float:
    """A slope per standard deviation as a slope per unit of score, finite and above 0 for any magnitude."""
    bounds = np.finfo(np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        return float(np.clip(np.float64(slope) / np.float64(unit), bounds.tiny, 1e150))


def _calibration(slope: float, threshold: float, kind: Kind) -> Calibration:
    with np.errstate(over="ignore"):
        intercept = float(np.clip(-np.float64(slope) * np.float64(threshold), -1e300, 1e300))
    return Calibration(slope, intercept, threshold, kind)


def _fit_mixture(z: NDArray[np.float64]) -> tuple[float, float] | None:
    """Slope and threshold of the mixture of (m,) sorted, standardised scores; None when it is not supported.

    All s starts run at once. A start is a hard split of the scores: at fixed quantiles, and at the middle of the range,
    which separates two heaps of any size.
    """
    m = z.size
    splits = np.unique(np.append(np.quantile(z, START_QUANTILES), (z[0] + z[-1]) / 2))
    upper = z > splits[:, None]
    upper = upper[upper.any(axis=1) & ~upper.all(axis=1)]
    posterior = upper.astype(np.float64)  # (s, m) of the upper component
    previous = np.full(len(posterior), -np.inf)
    for _ in range(STEPS):
        share, means, variance = _maximise(z, posterior)
        # (s, m): log of prior × density of each component, without the constant.
        below, above = (
            np.log(prior)[:, None]
            - (z - mean[:, None]) ** 2 / (2 * variance[:, None])
            - 0.5 * np.log(variance)[:, None]
            for prior, mean in ((1 - share, means[:, 0]), (share, means[:, 1]))
        )
        total = np.logaddexp(below, above)
        posterior = np.exp(above - total)
        likelihood = total.sum(axis=1)
        if np.all(likelihood - previous < 1e-9 * m):
            break
        previous = likelihood
    best = int(np.argmax(likelihood))
    (lower_mean, upper_mean), upper_share, var = means[best], float(share[best]), float(variance[best])
    # One standardised Gaussian has log-likelihood −m/2, without the same constant.
    bic_one, bic_two = 2 * np.log(m) + m, 4 * np.log(m) - 2 * likelihood[best]
    smallest = min(upper_share, 1 - upper_share)
    if not (bic_two < bic_one and smallest >= SMALLEST_SHARE and smallest * m >= FEWEST_IN_COMPONENT - 0.5):
        return None
    distance = float(upper_mean - lower_mean)
    if distance <= 0:
        return None
    slope = distance / var
    threshold = float(lower_mean + upper_mean) / 2 + np.log((1 - upper_share) / upper_share) / slope
    return (slope, float(threshold)) if z[0] <= threshold < z[-1] else None


def _maximise(
    z: NDArray[np.float64], posterior: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """EM's second half: share of the upper component (s,), means (s, 2) and shared variance (s,), with its floor."""
    m = z.size
    weight = np.clip(np.stack([m - posterior.sum(axis=1), posterior.sum(axis=1)], axis=1), 1e-9, m - 1e-9)
    means = np.stack([(1 - posterior) @ z, posterior @ z], axis=1) / weight
    squares = (1 - posterior) * (z - means[:, :1]) ** 2 + posterior * (z - means[:, 1:]) ** 2
    variance = np.maximum(squares.mean(axis=1), SMALLEST_DEVIATION**2)
    return weight[:, 1] / m, means, variance
