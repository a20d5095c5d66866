"""Two-means on the normalised differences: the clustering that Farquhar et al. (2023, arXiv 2312.10029) compare CCS with."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from probes._eigen import canonical_sign
from probes.contrast import ContrastProbe
from probes.normalisation import Normalisation


class KMeansProbe(ContrastProbe):
    """The direction from one cluster's centre to the other's; the score is 0 halfway between them.

    Args:
        restarts: of k-means.
        norm: normalisation of the states; `ClassNorm()` if None.
        random_state: of the first centres.

    Fitted attributes beside those of `ContrastProbe`:
        inertia_: (l,) share of the differences' variance that is left within the clusters.
    """

    state_names = (*ContrastProbe.state_names, "inertia_")

    inertia_: torch.Tensor

    def __init__(self, restarts: int = 10, norm: Normalisation | None = None, random_state: int = 0) -> None:
        self.restarts = restarts
        self.norm = norm
        self.random_state = random_state

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        directions, offsets, inertia = [], [], []
        for rows in (pos - neg).flatten(1, 2):
            # k-means draws its first centres by place; in this order the same texts give the same clusters however they
            # are given.
            rows = rows[rows.norm(dim=-1).argsort()]
            with threadpool_limits(1):  # a small problem: several threads cost more than they give
                means = KMeans(2, n_init=self.restarts, random_state=self.random_state).fit(rows.numpy())
            low, high = torch.from_numpy(np.asarray(means.cluster_centers_, dtype=np.float64))
            direction = canonical_sign(high - low)
            directions.append(direction)
            offsets.append((direction * (low + high)).sum() / 4)
            inertia.append(float(means.inertia_) / float((rows - rows.mean(0)).double().square().sum()))
        return {
            "direction_": torch.stack(directions),
            "offset_": torch.stack(offsets),
            "inertia_": torch.tensor(inertia, dtype=torch.float64),
        }
