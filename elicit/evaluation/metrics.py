"""Agreement of scores with labels, vectorised over many weightings of the same texts.

Every metric takes scores, verdicts or probabilities of n texts, their labels (1 = flagged), and a weight matrix (r, n):
one row per resample, each entry how often the text counts. It gives (r,) values, NaN where a row leaves it undefined.
Ordinary values come from one row of ones. The texts are sorted once for all rows.

Values equal those of scikit-learn with `sample_weight`; definitions: Fawcett (2006) for ROC, `average_precision_score`
for average precision, Cohen (1960) for kappa, Naeini, Cooper & Hauskrecht (2015) for ECE, Brier (1950).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ECE_BINS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCounts:
    """Weight of the texts at or above each distinct score, from the highest to the lowest: the ROC curve, unscaled.

    Tied scores share one threshold, so no metric depends on the order of tied texts.

    Attributes:
        hits: (r, t) weight of flagged texts at or above the threshold.
        false_alarms: (r, t) weight of cleared texts at or above it.
    """

    hits: Floats
    false_alarms: Floats

    @classmethod
    def of(cls, scores: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> ThresholdCounts:
        """Counts of (n,) scores with (n,) labels under (r, n) weights. Scores may be infinite, never NaN."""
        values = np.asarray(scores, dtype=np.float64)
        truth, weight = _checked(values, labels, weights)
        if np.isnan(values).any():
            raise ValueError("unscored texts (NaN) cannot be ranked; leave them out")
        order = np.argsort(-values, kind="stable")
        ranked = values[order]
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        weight = weight[:, order]
        hits = np.cumsum(weight * truth[order], axis=1)
        everything = np.cumsum(weight, axis=1)
        if len(ends) < len(ranked):
            hits, everything = hits[:, ends], everything[:, ends]
        return cls(hits, everything - hits)

    def auroc(self) -> Floats:
        """(r,) see `auroc`."""
        # Trapezoids: a step to the right under the mean height of its two ends, so that a tie counts half.
        width, height = _steps(self.false_alarms), self.hits - _steps(self.hits) / 2
        return _ratio(np.einsum("rt,rt->r", width, height), self.hits[:, -1] * self.false_alarms[:, -1])

    def average_precision(self) -> Floats:
        """(r,) see `average_precision`."""
        precision = np.nan_to_num(_ratio(self.hits, self.hits + self.false_alarms))
        return _ratio(np.einsum("rt,rt->r", _steps(self.hits), precision), self.hits[:, -1])

    def tpr_at_fpr(self, target: float) -> tuple[Floats, Floats]:
        """(r,) and (r,): see `tpr_at_fpr`."""
        positives, negatives = self.hits[:, -1], self.false_alarms[:, -1]
        # The tolerance keeps 1 of 100 within 1 % whatever the rounding of 0.01 · 100.
        allowed = self.false_alarms <= (target * negatives * (1 + 1e-9))[:, None]
        # Both counts only grow along a row, so the largest allowed ones belong to the lowest allowed threshold.
        best = np.where(allowed, self.hits, 0.0).max(axis=1)
        alarms = np.where(allowed, self.false_alarms, 0.0).max(axis=1)
        neither = positives * negatives == 0
        rates = _ratio(best, positives), _ratio(alarms, negatives)
        for rate in rates:
            rate[neither] = np.nan
        return rates


@dataclass(frozen=True)
class Confusion:
    """Weight of the four kinds of verdict, each (r,)."""

    hits: Floats
    false_alarms: Floats
    misses: Floats
    rejections: Floats

    @classmethod
    def of(cls, flagged: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Confusion:
        """Counts of (n,) verdicts with (n,) labels under (r, n) weights."""
        verdict = np.asarray(flagged, dtype=np.float64)
        truth, weight = _checked(verdict, labels, weights)
        kinds = np.stack([verdict * truth, verdict * (1 - truth), (1 - verdict) * truth, (1 - verdict) * (1 - truth)])
        hits, false_alarms, misses, rejections = (weight @ kinds.T).T
        return cls(hits, false_alarms, misses, rejections)

    def accuracy(self) -> Floats:
        """(r,) see `accuracy`."""
        right = self.hits + self.rejections
        return _ratio(right, right + self.false_alarms + self.misses)

    def balanced_accuracy(self) -> Floats:
        """(r,) see `balanced_accuracy`."""
        sensitivity = _ratio(self.hits, self.hits + self.misses)
        specificity = _ratio(self.rejections, self.rejections + self.false_alarms)
        return (sensitivity + specificity) / 2

    def f1(self) -> Floats:
        """(r,) see `f1`."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)

    def kappa(self) -> Floats:
        """(r,) see `kappa`."""
        # (observed − expected) / (1 − expected), multiplied out: exact for whole weights.
        flagged, cleared = self.hits + self.false_alarms, self.misses + self.rejections
        positives, negatives = self.hits + self.misses, self.false_alarms + self.rejections
        better = 2 * (self.hits * self.rejections - self.misses * self.false_alarms)
        return _ratio(better, flagged * negatives + positives * cleared)


def auroc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) probability that a flagged text scores above a cleared one, ties counting half.

    Depends on ranks only, not on any threshold or on the share of flagged texts. Undefined without both classes.
    """
    return ThresholdCounts.of(scores, labels, weights).auroc()


def average_precision(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) mean precision over the flagged texts, as a step function without interpolation; tied texts enter together.

    Depends on the share of flagged texts, which is what a random ranking gets. Undefined without flagged texts.
    """
    return ThresholdCounts.of(scores, labels, weights).average_precision()


def tpr_at_fpr(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike, target: float) -> tuple[Floats, Floats]:
    """(r,) share of flagged texts caught, and (r,) share of cleared texts flagged, at the lowest threshold allowed.

    A threshold is allowed when its false-positive rate is at most `target`; there is no interpolation between thresholds,
    since no deployable threshold lies there, so the achieved rate can be lower, down to 0. The threshold is chosen on the
    very texts that are measured, in each row anew: this describes the ranking, not a threshold frozen beforehand.
    Undefined without both classes.
    """
    return ThresholdCounts.of(scores, labels, weights).tpr_at_fpr(target)


def accuracy(flagged: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) share of right verdicts, given (n,) verdicts. A constant verdict gets the share of the larger class."""
    return Confusion.of(flagged, labels, weights).accuracy()


def balanced_accuracy(flagged: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) mean of the accuracies within each class; a constant verdict gets .5. Undefined without both classes."""
    return Confusion.of(flagged, labels, weights).balanced_accuracy()


def f1(flagged: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) harmonic mean of precision and recall of "flagged"; 0 when nothing right is flagged.

    Depends on the share of flagged texts. Undefined when no text is flagged, neither by label nor by verdict.
    """
    return Confusion.of(flagged, labels, weights).f1()


def kappa(flagged: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) Cohen's kappa: agreement beyond what two independent raters with these shares would reach.

    0 for a constant verdict, 1 for a perfect one. Undefined when verdicts and labels are all of one and the same class.
    """
    return Confusion.of(flagged, labels, weights).kappa()


def expected_calibration_error(probability: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) expected calibration error over 10 bins of equal width of the probability of "flagged".

    Mean over the texts of |mean probability − share flagged| of their bin. Biased upward on few texts, and more so on
    resamples: read a small value as "not visibly miscalibrated".
    """
    p = np.asarray(probability, dtype=np.float64)
    truth, weight = _checked(p, labels, weights)
    bins = np.minimum((p * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    surplus = np.zeros((len(p), ECE_BINS))
    surplus[np.arange(len(p)), bins] = p - truth
    return _ratio(np.abs(weight @ surplus).sum(axis=1), weight.sum(axis=1))


def brier(probability: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> Floats:
    """(r,) mean squared difference between the probability of "flagged" and the label; always .25 for p = .5."""
    p = np.asarray(probability, dtype=np.float64)
    truth, weight = _checked(p, labels, weights)
    return _ratio(weight @ (p - truth) ** 2, weight.sum(axis=1))


def _checked(values: Floats, labels: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    """Labels (n,) and weights (r, n) as float64: whole weights then sum exactly."""
    truth, weight = np.asarray(labels, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or values.shape != truth.shape or weight.ndim != 2 or weight.shape[1] != len(values):
        raise ValueError(f"shapes do not fit: values {values.shape}, labels {truth.shape}, weights {weight.shape}")
    if not len(values):
        raise ValueError("there is no text to measure")
    return truth, weight


def _steps(cumulative: Floats) -> Floats:
    """(r, t) increments of cumulative counts that start at 0."""
    return np.diff(cumulative, axis=1, prepend=0.0)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where whole is 0."""
    quotient = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient
