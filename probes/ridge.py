"""Ridge regression on labels ±1: least squares, the cheapest of the regularised baselines (Hoerl & Kennard, 1970)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from probes._arrays import Floats
from probes.supervised import SupervisedProbe, gaussian_log_odds


class RidgeProbe(SupervisedProbe):
    """Ridge regression, classes weighted equally; scaled to log-odds along its direction.

    Args:
        penalty: weight α of the squared norm per text, on states of mean square norm 1: it does not depend on n, width
            or scale.
    """

    def __init__(self, penalty: float = 0.01) -> None:
        self.penalty = penalty

    def _fit_layer(self, z: Floats, y: NDArray[np.int64], width: int) -> tuple[Floats, float]:
        scale = np.sqrt((z**2).sum(1).mean())
        balance = len(y) / (2 * np.bincount(y))[y]
        model = Ridge(alpha=self.penalty * len(y), solver="cholesky")
        model.fit(z / scale, 2.0 * y - 1, sample_weight=balance)
        return gaussian_log_odds(np.asarray(model.coef_, dtype=np.float64).ravel() / scale, z, y)
