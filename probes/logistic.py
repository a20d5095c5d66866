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
        strength: inverse regularisation C, on states of mean square norm 1: the penalty does not depend on the model's
            width.
    """

    standardised = True

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def _fit_layer(self, z: Floats, y: NDArray[np.int64], width: int) -> tuple[Floats, float]:
        scale = np.sqrt((z**2).sum(1).mean())
        model = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=500)
        model.fit(z / scale, y)
        return model.coef_[0] / scale, float(model.intercept_[0])
