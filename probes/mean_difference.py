"""Difference of class means (mass-mean probing: Marks & Tegmark, 2023, "The geometry of truth", arXiv 2310.06824)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes._arrays import Floats
from probes.supervised import SupervisedProbe, class_means, gaussian_log_odds, within_classes


class MeanDifference(SupervisedProbe):
    """w ∝ μ₁ − μ₀, or Σ⁺(μ₁ − μ₀) with the pooled covariance Σ within the classes; scaled to log-odds along w.

    Args:
        whiten: whether to correct for the covariance (the paper's form for texts like the training texts).
    """

    def __init__(self, whiten: bool = False) -> None:
        self.whiten = whiten

    def _fit_layer(self, z: Floats, y: NDArray[np.int64], width: int) -> tuple[Floats, float]:
        low, high = class_means(z, y)
        weight = high - low
        centred = within_classes(z, y)
        if self.whiten and centred.any():
            # The paper's cut-off for directions in which the classes have next to no variance.
            weight = np.linalg.pinv(centred.T @ centred / len(z), rcond=1e-3, hermitian=True) @ weight
        return gaussian_log_odds(weight, z, y)
