"""What a reading says about a label, weighed without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elicit.monitors.calibration import Calibration

Floats = NDArray[np.float64]
# In a search no verdict counts for more than these log-odds: calibration of well separated scores is overconfident. (Monitors that
# a search gives leave verdicts as they are, in whose order the largest differ too.)
SURE = 6.0


def prior_log_odds(calibration: Calibration, verdicts: Floats) -> Floats:
    """(n,) log-odds of each label from its verdict alone."""
    return np.asarray(np.clip(calibration.slope * verdicts + calibration.intercept, -SURE, SURE))


@dataclass(frozen=True)
class Evidence:
    """What a prediction f says about its label: gain · (f − middle) in log-odds."""

    gain: float
    middle: float

    @classmethod
    def of(cls, predicted: Floats, labels: Floats) -> Evidence:
        """Two Gaussians of one variance, weighted by soft labels in (−1, 1); of nothing, no evidence."""
        if not len(predicted):
            return cls(0.0, 0.0)
        flagged = (1 + labels) / 2
        high = float((flagged * predicted).sum() / max(flagged.sum(), 1e-9))
        low = float(((1 - flagged) * predicted).sum() / max((1 - flagged).sum(), 1e-9))
        variance = float((flagged * (predicted - high) ** 2 + (1 - flagged) * (predicted - low) ** 2).mean())
        # Predictions that say the opposite of their labels are no evidence for the opposite.
        gain = max(0.0, high - low) / variance if variance > 1e-12 else 0.0
        return cls(gain, (high + low) / 2)

    def log_odds(self, predicted: Floats) -> Floats:
        return self.gain * (predicted - self.middle)
