"""Signs without labels: by agreement with scores that exist already."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from probes._arrays import Floats


def rank_correlation(scores: Floats, reference: Floats) -> Floats:
    """(l,) Spearman correlations of (n, l) scores with an (n,) reference; 0 where either is constant."""
    a = rankdata(scores, axis=0)
    b = rankdata(reference)[:, None]
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray(np.divide((a * b).sum(0), norm, out=np.zeros(a.shape[1]), where=norm > 0))
