"""Contrast-consistent search (Burns, Ye, Klein & Steinhardt, 2022, "Discovering Latent Knowledge", arXiv 2212.03827).

With p⁺ = σ(θᵀφ(x⁺) + b) and p⁻ = σ(θᵀφ(x⁻) + b), minimise the mean over pairs of

    [p⁺ − (1 − p⁻)]²  +  min(p⁺, p⁻)²         (consistency + confidence, §2.2)

plus ½·λ(‖θ‖² + b²), from several starts; the lowest objective wins. All layers and restarts of a block are one batched
problem. The score is ½(logit p⁺ − logit p⁻): above 0 where the paper's ½(p⁺ + 1 − p⁻) is above one half, and without
its ties where that saturates.
"""

from __future__ import annotations

import torch

from probes._lbfgs import linear_models, minimise
from probes._starts import starting_directions
from probes.contrast import ContrastProbe
from probes.normalisation import Normalisation

SAME = 0.9  # restarts whose scores correlate above this found the same direction


class CCS(ContrastProbe):
    """Contrast-consistent search.

    Args:
        restarts: starts r per layer, each of norm 1: the leading principal component of the differences, then random
            ones.
        decay: weight λ of the squared norm. Without it any labelling of the texts reaches loss 0 where there are fewer
            pairs than features; EleutherAI's default of 0.01 leaves many spurious minima there, of which the lowest is
            rarely the truth. The more decay, the closer CCS comes to the direction in which differences have the
            largest mean absolute value.
        iterations: most L-BFGS steps.
        tolerance: a restart rests once ten steps together gain less than this share of its objective.
        norm: normalisation of the states; `ClassNorm()` if None.
        random_state: of the random starts.

    Fitted attributes beside those of `ContrastProbe` (quality_ is the negative loss):
        losses_: (l, r) final loss of every restart, without the decay.
        objectives_: (l, r) the same with the decay.
        clusters_: (l, r) which restarts found the same direction, numbered from the best one's, 0. Several clusters
            with much the same objective say that there is more than one consistent direction, of which truth may be
            none.
    """

    state_names = (*ContrastProbe.state_names, "losses_", "objectives_", "clusters_")
    scaled = False

    losses_: torch.Tensor
    objectives_: torch.Tensor
    clusters_: torch.Tensor

    def __init__(
        self,
        restarts: int = 10,
        decay: float = 1.0,
        iterations: int = 200,
        tolerance: float = 1e-3,
        norm: Normalisation | None = None,
        random_state: int = 0,
    ) -> None:
        self.restarts = restarts
        self.decay = decay
        self.iterations = iterations
        self.tolerance = tolerance
        self.norm = norm
        self.random_state = random_state

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = torch.cat([pos.flatten(1, 2), neg.flatten(1, 2)], 1)
        start = starting_directions((pos - neg).flatten(1, 2), self.restarts, self.random_state)
        models = linear_models(rows, start, self._products)
        vectors, objectives = minimise(models, ccs_loss, self.decay, self.iterations, self.tolerance)
        theta, _ = models.parameters(vectors)
        logits = models.logits(vectors)
        losses, _ = ccs_loss(logits)
        best = objectives.argmin(-1)
        layer = torch.arange(len(pos))
        return {
            "direction_": theta[layer, best],
            "quality_": -losses[layer, best].double(),
            "losses_": losses.double(),
            "objectives_": objectives.double(),
            "clusters_": solution_clusters(logits, objectives),
        }


def ccs_loss(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss (l, r) and its derivative (l, r, 2n) from logits (l, r, 2n): first those of the n positive halves."""
    probability = torch.sigmoid(logits)
    n = logits.shape[-1] // 2
    p, q = probability[..., :n], probability[..., n:]
    consistency, least = p + q - 1, torch.minimum(p, q)
    loss = (consistency.square().sum(-1) + least.square().sum(-1)) / n
    by_p = consistency + least * (p <= q)
    by_q = consistency + least * (q < p)
    slope = probability * (1 - probability) * (2 / n)
    return loss, torch.cat([by_p, by_q], -1) * slope


def solution_clusters(logits: torch.Tensor, objectives: torch.Tensor) -> torch.Tensor:
    """(l, r) cluster of each restart: scores (l, r, 2n) that correlate, whatever their sign; numbered by their best objective."""
    n = logits.shape[-1] // 2
    scores = logits[..., :n] - logits[..., n:]
    scores = scores - scores.mean(-1, keepdim=True)
    scores = scores / scores.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    alike = torch.bmm(scores, scores.transpose(1, 2)).abs() > SAME
    clusters = torch.full(objectives.shape, -1, dtype=torch.int64)
    for layer, order in enumerate(objectives.argsort(stable=True, dim=-1).tolist()):
        number = 0
        for restart in order:
            if clusters[layer, restart] < 0:
                clusters[layer, alike[layer, restart] & (clusters[layer] < 0)] = number
                clusters[layer, restart] = number
                number += 1
    return clusters
