"""Cluster normalisation (Laurito et al., 2024, "Cluster-norm for unsupervised probing of knowledge", arXiv 2407.18712).

A distractor that varies from text to text — a random word, an opinion — survives Burns normalisation, because it
differs *within* each half. Texts that share it lie together, so the pairs are clustered on their midpoints ½(x⁺ + x⁻),
where the answer cancels, and each cluster's own class means are taken out.

Two things differ from the paper: clusters are found by k-means on the leading principal components of the midpoints and
not by HDBSCAN, and a new text gets the means of its nearest cluster, where the paper's code falls back to Burns
normalisation on test data.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from probes._eigen import principal_components
from probes.normalisation import Normalisation, Pair, State, root_mean_square


class ClusterNorm(Normalisation):
    """Per-cluster class means.

    Args:
        clusters: how many clusters k to look for; a multiple of how many values the distractor is expected to take.
        components: principal components c of the midpoints that are clustered on.
        smallest: a cluster with fewer pairs gets the means of all pairs: its own would take the signal out as well.
        random_state: of k-means.

    Fitted attributes:
        midpoint_: (l, d) mean of the midpoints.
        axes_: (l, c, d) leading principal components of the centred midpoints.
        centres_: (l, k, c) cluster centres on those components.
        mean_pos_, mean_neg_: (l, k, v, d) class means of each cluster.
        scale_: (l,) root mean square of what is left.
    """

    state_names = ("midpoint_", "axes_", "centres_", "mean_pos_", "mean_neg_", "scale_")

    midpoint_: torch.Tensor
    axes_: torch.Tensor
    centres_: torch.Tensor
    mean_pos_: torch.Tensor
    mean_neg_: torch.Tensor
    scale_: torch.Tensor

    def __init__(self, clusters: int = 2, components: int = 4, smallest: int = 10, random_state: int = 0) -> None:
        self.clusters = clusters
        self.components = components
        self.smallest = smallest
        self.random_state = random_state

    def fit_layer(self, pos: torch.Tensor, neg: torch.Tensor) -> State:
        midpoints = ((pos + neg) / 2).mean(1)
        midpoint = midpoints.mean(0)
        centred = midpoints - midpoint
        axes = principal_components(centred[None], self.components, loose=1e-5)[1][0]
        count = min(self.clusters, len(pos))
        # k-means draws its first centres by place; in this order the same texts give the same clusters however they are
        # given.
        places = (centred @ axes.T)[centred.norm(dim=-1).argsort()]
        with threadpool_limits(1):  # a small problem: several threads cost more than they give
            means = KMeans(count, n_init=10, random_state=self.random_state).fit(places.numpy())
        centres = torch.from_numpy(np.asarray(means.cluster_centers_, dtype=np.float64))
        member = nearest(centred @ axes.T, centres)
        mean_pos, mean_neg = [], []
        for cluster in range(self.clusters):
            mine = member == cluster
            chosen = mine if int(mine.sum()) >= self.smallest else torch.ones_like(mine)
            mean_pos.append(pos[chosen].mean(0))
            mean_neg.append(neg[chosen].mean(0))
        absent = centres.new_full((self.clusters - count, centres.shape[1]), torch.finfo(torch.float64).max ** 0.25)
        stacked_pos, stacked_neg = torch.stack(mean_pos), torch.stack(mean_neg)
        return {
            "midpoint_": midpoint,
            "axes_": axes,
            "centres_": torch.cat([centres, absent]),
            "mean_pos_": stacked_pos,
            "mean_neg_": stacked_neg,
            "scale_": root_mean_square(pos - stacked_pos[member], neg - stacked_neg[member]),
        }

    def apply(self, pos: torch.Tensor, neg: torch.Tensor) -> Pair:
        halves: list[list[torch.Tensor]] = [[], []]
        for layer in range(pos.shape[2]):
            midpoints = ((pos[:, :, layer] + neg[:, :, layer]) / 2).mean(1) - self.midpoint_[layer]
            # Row by row and not as one matrix product, whose rounding depends on the number of rows.
            places = torch.stack([(midpoints * axis).sum(-1) for axis in self.axes_[layer]], -1)
            member = nearest(places, self.centres_[layer])
            halves[0].append((pos[:, :, layer] - self.mean_pos_[layer][member]) / self.scale_[layer])
            halves[1].append((neg[:, :, layer] - self.mean_neg_[layer][member]) / self.scale_[layer])
        return torch.stack(halves[0], 2), torch.stack(halves[1], 2)


def nearest(places: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """(n,) index of the centre (k, c) nearest to each place (n, c)."""
    return (places[:, None] - centres).square().sum(-1).argmin(-1)
