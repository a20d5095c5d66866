"""Signs without labels: a direction and its opposite fit contrast pairs equally well, so something else has to decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from probes._arrays import Floats


@dataclass(frozen=True)
class Sign:
    """Signs (l,), each −1 or 1, and how clear each is: (l,), 0 (a guess) to 1."""

    signs: Floats
    confidence: Floats


def by_reference(scores: Floats, reference: Floats) -> Sign:
    """Scores (n, l) shall rise with a reference (n,); confidence is the absolute rank correlation.

    Raises:
        ValueError: another number of reference scores, or one that is not finite.
    """
    if reference.shape != (len(scores),):
        raise ValueError(f"{len(reference)} reference scores for {len(scores)} fitted texts")
    wrong = np.flatnonzero(~np.isfinite(reference))
    if len(wrong):
        raise ValueError(f"reference score {wrong[0]} is {reference[wrong[0]]}; leave out texts that have no score")
    agreement = rank_correlation(scores, reference)
    return Sign(np.where(agreement < 0, -1.0, 1.0), np.abs(agreement))


def by_anchors(scores: Floats, flagged: NDArray[Any]) -> Sign:
    """Flagged anchors shall score above cleared ones; confidence is |2·AUROC − 1|.

    Raises:
        ValueError: other values than 0 and 1, or not both of them.
    """
    if flagged.shape != (len(scores),) or not np.isin(flagged, (0, 1)).all() or len(np.unique(flagged)) < 2:
        raise ValueError(f"anchors need {len(scores)} values 0 or 1, and both of them; got {flagged.tolist()}")
    ranks = rankdata(scores, axis=0)
    high = flagged == 1
    positives, negatives = int(high.sum()), int((~high).sum())
    auroc = (ranks[high].sum(0) - positives * (positives + 1) / 2) / (positives * negatives)
    return Sign(np.where(auroc < 0.5, -1.0, 1.0), np.abs(2 * auroc - 1))


def by_prior(scores: Floats, share: float) -> Sign:
    """The group above the natural split shall have the expected share; confidence is how much better that sign fits.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the expected share of flagged texts is {share}; it lies between 0 and 1")
    above = np.array([best_split(column)[0] for column in scores.T]) / len(scores)
    keep, turn = np.abs(above - share), np.abs((1 - above) - share)
    return Sign(np.where(turn < keep, -1.0, 1.0), np.abs(turn - keep))


def rank_correlation(scores: Floats, reference: Floats) -> Floats:
    """(l,) Spearman correlations of (n, l) scores with an (n,) reference; 0 where either is constant."""
    a = rankdata(scores, axis=0)
    b = rankdata(reference)[:, None]
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray(np.divide((a * b).sum(0), norm, out=np.zeros(a.shape[1]), where=norm > 0))


def best_split(values: Floats) -> tuple[int, float]:
    """The best split in two: how many values lie above its threshold, and the share of variance that it explains.

    The best threshold of all n − 1, by Otsu's criterion (1979); (n, 0) where all values are equal.
    """
    ordered = np.sort(values)
    centred = ordered - ordered.mean()
    total = float((centred**2).sum())
    n = len(values)
    if total <= 0 or n < 2:
        return n, 0.0
    below = np.arange(1, n)
    # With group means m₁ and m₂ and overall mean 0 the variance between groups is n₁m₁² + n₂m₂², where n₁m₁ = −n₂m₂ is
    # the running sum.
    running = np.cumsum(centred)[:-1]
    between = running**2 * (1 / below + 1 / (n - below))
    place = int(between.argmax())
    return n - 1 - place, float(between[place] / total)


def split_share(scores: Floats) -> Floats:
    """(l,) share of each layer's variance that the best split in two explains, for (n, l) scores."""
    return np.array([best_split(column)[1] for column in scores.T])
