"""Linear discriminant analysis with a shrunk covariance (Ledoit & Wolf, 2004, J. Multivariate Analysis 88(2))."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probes._arrays import Floats
from probes.supervised import SupervisedProbe, class_means, gaussian_log_odds, within_classes


class LDAProbe(SupervisedProbe):
    """w = Σ̂⁻¹(μ₁ − μ₀) with Σ̂ = (1 − s)·Σ + s·tr(Σ)/d·I, Σ pooled within the classes; classes weighted equally.

    scikit-learn's own estimator shrinks standardised features, so that its direction depends on the axes; this one
    turns with the states.

    Args:
        shrinkage: s between 0 and 1, or "auto" for Ledoit and Wolf's estimate. At 0 with n < d the pseudo-inverse is
            used. d counts the features that vary.
    """

    def __init__(self, shrinkage: float | Literal["auto"] = "auto") -> None:
        self.shrinkage = shrinkage

    def _fit_layer(self, z: Floats, y: NDArray[np.int64], width: int) -> tuple[Floats, float]:
        low, high = class_means(z, y)
        centred = within_classes(z, y)
        covariance = centred.T @ centred / len(z)
        share = ledoit_wolf(centred, covariance, width) if self.shrinkage == "auto" else self.shrinkage
        if not 0 <= share <= 1:
            raise ValueError(f"shrinkage is {share}; it is 'auto' or lies between 0 and 1")
        floor = share * float(np.trace(covariance)) / width
        shrunk = (1 - share) * covariance + floor * np.eye(len(low))
        if not centred.any():  # classes without any spread: their difference is all there is
            return gaussian_log_odds(high - low, z, y)
        if share < 1e-9:
            return gaussian_log_odds(np.asarray(np.linalg.lstsq(shrunk, high - low, rcond=1e-9)[0], np.float64), z, y)
        return gaussian_log_odds(np.asarray(np.linalg.solve(shrunk, high - low), np.float64), z, y)


def ledoit_wolf(rows: Floats, covariance: Floats, width: int) -> float:
    """Ledoit and Wolf's share s for (n, k) centred rows in d = width dimensions, of which k hold all of them."""
    n = len(rows)
    square = float((covariance**2).sum())
    distance = square - float(np.trace(covariance)) ** 2 / width
    error = (float(((rows**2).sum(1) ** 2).mean()) - square) / n
    return max(0.0, min(1.0, error / distance)) if distance > 0 else 1.0
