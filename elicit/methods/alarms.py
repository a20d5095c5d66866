"""Figures and alarms that every search shares: what makes a labelling doubtful, seen without any label that somebody gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elicit.monitors.calibration import Calibration

ERRORS = 2.0  # standard errors within which a figure can be chance
DRIFT = 0.25  # share of the labels that may leave the verdicts
LOW_MASS = 0.5  # below it, most of the probability is on words that are no verdict


def label_entropy(log_odds: NDArray[np.float64]) -> float:
    """Mean over (n,) labels of the bits by which each is undecided: 0 = sure of all, 1 = of none."""
    p = 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
    bits = p * np.log2(np.maximum(p, 1e-12)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-12))
    return round(float(-bits.mean()), 4)


def degenerate(labels: NDArray[np.bool_]) -> list[str]:
    """An alarm where nearly all of (n,) labels are alike."""
    share = float(labels.mean())
    return [f"degenerate: {max(share, 1 - share):.0%} of the labels are alike"] if min(share, 1 - share) < 0.02 else []


def one_group(calibration: Calibration) -> list[str]:
    """An alarm where the verdicts that labels start from do not fall into two groups.

    Nothing then says that they tell the classes apart, and by the median half of them are flagged and half of the labels sure,
    whatever they mean.
    """
    if calibration.kind == "mixture":
        return []
    return [
        "the verdicts do not fall into two groups: they may not tell the classes apart, and how sure a label is says only how far "
        "from the middle its text stands"
    ]


def drifted(share: float | None) -> list[str]:
    """An alarm where many labels are not those of the monitor's own verdicts."""
    if share is None or share <= DRIFT:
        return []
    return [f"{share:.0%} of the labels left the monitor's verdict: it may have found another feature"]


def low_mass(verdict_mass: NDArray[np.float64]) -> list[str]:
    """An alarm where a model puts little of its probability, (n,) with NaN where it is not known, on the verdict words."""
    if not np.isfinite(verdict_mass).any():
        return []
    mass = float(np.nanmean(verdict_mass))
    if mass >= LOW_MASS:
        return []
    return [f"only {mass:.0%} of the model's probability is on the verdict words: the question is often not answered"]


def unread(readings: Sequence[NDArray[np.float64]]) -> list[str]:
    """An alarm where verdicts behind examples could not be read; a search goes on without them."""
    missing = sum(int(np.isnan(read).sum()) for read in readings)
    if not missing:
        return []
    return [f"{missing} of {sum(map(len, readings))} verdicts behind examples could not be read, and count for nothing"]


def of_contexts(
    verdict_mass: NDArray[np.float64], readings: Sequence[NDArray[np.float64]], examples: Sequence[object]
) -> list[str]:
    """Alarms of a method that reads verdicts behind examples: of verdicts alone, of those, and of its monitor's examples."""
    return [*low_mass(verdict_mass), *unread(readings), *without_examples(examples)]


def without_examples(examples: Sequence[object]) -> list[str]:
    """An alarm where no example leaves room for the text behind it."""
    return (
        []
        if examples
        else ["no example leaves half of the model's context to a text: texts are asked about without any"]
    )


def left_out(searched: int, texts: Sequence[str]) -> list[str]:
    """An alarm where a search looked at a part of the texts only; the empty ones do not count."""
    given = sum(bool(text.strip()) for text in texts)
    if searched >= given:
        return []
    return [
        f"{searched} of {given} texts were searched and have labels; the monitor scores the others as it scores new ones"
    ]
