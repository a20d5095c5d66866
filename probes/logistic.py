"""Logistic regression on states: the probe that most papers compare with (Alain & Bengio, 2016, arXiv 1610.01644)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from probes._arrays import Floats
from probes.supervised import SupervisedProbe


class LogisticProbe(SupervisedProbe):
    """L2-regularised logistic regression on standardised states, classes weighted equally.

    Args:
        strength: inverse regularisation C, on states divided by √d: the penalty does not depend on the model's width.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def _fit_layer(self, x: Floats, y: NDArray[np.int64]) -> tuple[Floats, float]:
        mean = x.mean(0)
        spread = x.std(0)
        # A feature that never varies gets no weight.
        scale = np.where(spread > 1e-9 * (np.abs(mean) + 1e-30), spread, np.inf) * np.sqrt(x.shape[1])
        model = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=500)
        model.fit((x - mean) / scale, y)
        weight = model.coef_[0] / scale
        return weight, float(model.intercept_[0] - weight @ mean)
