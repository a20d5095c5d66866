"""Contrast-consistent search (Burns, Ye, Klein & Steinhardt, 2022, "Discovering Latent Knowledge", arXiv 2212.03827).

With p⁺ = σ(θᵀx⁺ + b) and p⁻ = σ(θᵀx⁻ + b), minimise the mean over pairs of

    [p⁺ − (1 − p⁻)]²  +  min(p⁺, p⁻)²         (consistency + confidence, eq. 2–4)

from several random starts; the lowest loss wins. All layers and restarts are one batched problem: one einsum per evaluation, and
one L-BFGS that keeps a history per problem.
"""

from __future__ import annotations

import torch

from probes._lbfgs import minimise
from probes.contrast import ContrastProbe


class CCS(ContrastProbe):
    """Contrast-consistent search.

    Args:
        restarts: random starts r per layer.
        iterations: most L-BFGS steps.
        random_state: of the starts.

    Fitted attributes beside those of `ContrastProbe`:
        losses_: (l, r) final loss of every restart. Restarts that end at much the same loss in different places are a sign that
            there is more than one consistent direction.
    """

    losses_: torch.Tensor

    def __init__(self, restarts: int = 10, iterations: int = 200, random_state: int = 0) -> None:
        self.restarts = restarts
        self.iterations = iterations
        self.random_state = random_state

    def _directions(self, pos: torch.Tensor, neg: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        layers, width = pos.shape[1:]
        random = torch.Generator().manual_seed(self.random_state)
        start = torch.randn((self.restarts, width), generator=random)
        start /= start.norm(dim=-1, keepdim=True)
        # Every layer starts from the same directions, so that adding or reordering layers changes no layer's solution.
        theta = torch.cat([start, torch.zeros(self.restarts, 1)], -1).repeat(layers, 1, 1)
        pos, neg = pos.transpose(0, 1).contiguous(), neg.transpose(0, 1).contiguous()
        theta, losses = minimise(lambda at: ccs_loss_and_gradient(at, pos, neg), theta, self.iterations)
        self.losses_ = losses
        best = losses.argmin(-1)
        rows = torch.arange(layers)
        return theta[rows, best, :-1], -losses[rows, best]


def ccs_loss_and_gradient(
    theta: torch.Tensor, pos: torch.Tensor, neg: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss (l, r) and its gradient (l, r, d + 1) for parameters (l, r, d + 1), bias last, on states (l, n, d)."""
    weight, bias = theta[..., :-1], theta[..., -1:]
    p = torch.sigmoid(torch.baddbmm(bias, weight, pos.transpose(1, 2)))  # (l, r, n)
    q = torch.sigmoid(torch.baddbmm(bias, weight, neg.transpose(1, 2)))
    consistency, least = p + q - 1, torch.minimum(p, q)
    loss = (consistency.square() + least.square()).mean(-1)
    shared = 2 * consistency
    by_p = (shared + 2 * least * (p <= q)) * p * (1 - p) / p.shape[-1]
    by_q = (shared + 2 * least * (q < p)) * q * (1 - q) / p.shape[-1]
    gradient = torch.bmm(by_p, pos) + torch.bmm(by_q, neg)
    return loss, torch.cat([gradient, (by_p + by_q).sum(-1, keepdim=True)], -1)
