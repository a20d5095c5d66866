"""Contrastive representation clustering (Burns et al., 2022, arXiv 2212.03827, appendix): where do differences vary most?

With c = φ(x⁺) − φ(x⁻):

`CRC`          top principal component of c (their TPC).
`BimodalCRC`   the direction along which c falls into two groups about 0 most clearly (their BSS): it minimises
               [var{θᵀc | θᵀc < 0} + var{θᵀc | θᵀc ≥ 0}] / var{θᵀc}.
"""

from __future__ import annotations

import torch

from probes._eigen import canonical_sign, principal_components
from probes._lbfgs import Direct, minimise
from probes._starts import starting_directions
from probes.contrast import ContrastProbe
from probes.normalisation import Normalisation


class CRC(ContrastProbe):
    """Top principal component of the normalised differences. Closed form, without restarts or seed.

    Args:
        norm: normalisation of the states; `ClassNorm()` if None.

    Fitted attributes beside those of `ContrastProbe`:
        eigenvalues_: (l, 2) variances along the first two components.
        eigen_gap_: (l,) 1 − second / first. Near 0, a second direction is as good a candidate, and the first one is
            arbitrary.
    """

    state_names = (*ContrastProbe.state_names, "eigenvalues_", "eigen_gap_")

    eigenvalues_: torch.Tensor
    eigen_gap_: torch.Tensor

    def __init__(self, norm: Normalisation | None = None) -> None:
        self.norm = norm

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        return top_component((pos - neg).flatten(1, 2))


class BimodalCRC(ContrastProbe):
    """Bimodal salience search.

    Args:
        restarts: starts r per layer: the leading principal component of the differences, then random ones.
        iterations: most L-BFGS steps of each, where the paper has a fixed number of Adam's.
        components: leading principal components that are searched. In all d dimensions some direction splits any n
            texts in two.
        norm: normalisation of the states; `ClassNorm()` if None.
        random_state: of the random starts.

    Fitted attributes beside those of `ContrastProbe`:
        losses_: (l, r) final ratio of every restart.
    """

    state_names = (*ContrastProbe.state_names, "losses_")

    losses_: torch.Tensor

    def __init__(
        self,
        restarts: int = 20,
        iterations: int = 100,
        components: int = 4,
        norm: Normalisation | None = None,
        random_state: int = 0,
    ) -> None:
        self.restarts = restarts
        self.iterations = iterations
        self.components = components
        self.norm = norm
        self.random_state = random_state

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        differences = (pos - neg).flatten(1, 2)
        _, axes = principal_components(differences, self.components, loose=1e-5)
        c = torch.einsum("lnd,lkd->lnk", differences, axes)
        theta = starting_directions(c, self.restarts, self.random_state)
        models = Direct(c, theta)
        vectors, losses = minimise(models, split_ratio, 0.0, self.iterations, 1e-6)
        chosen = vectors[torch.arange(len(c)), losses.argmin(-1), :-1]
        return {"direction_": canonical_sign(torch.einsum("lk,lkd->ld", chosen, axes)), "losses_": losses.double()}


def split_ratio(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance within the groups below and above 0 relative to the whole, and its derivative.

    (…, n) projections → (…), (…, n). A group of one has no variance, so that a split which leaves fewer than two on a
    side counts as no split: infinite, derivative 0.
    """
    n = t.shape[-1]
    total_mean = t.mean(-1, keepdim=True)
    total = (t - total_mean).square().mean(-1, keepdim=True)
    within = torch.zeros_like(total)
    by = torch.zeros_like(t)
    valid = total > 0
    for group in (t < 0, t >= 0):
        size = group.sum(-1, keepdim=True)
        valid = valid & (size >= 2)
        count = size.clamp(min=1)
        away = torch.where(group, t - (t * group).sum(-1, keepdim=True) / count, torch.zeros_like(t))
        within = within + away.square().sum(-1, keepdim=True) / count
        by = by + 2 * away / count
    safe = torch.where(valid, total, torch.ones_like(total))
    ratio = within / safe
    derivative = by / safe - ratio / safe * 2 * (t - total_mean) / n
    return (
        torch.where(valid, ratio, torch.full_like(ratio, torch.inf))[..., 0],
        torch.where(valid, derivative, torch.zeros_like(derivative)),
    )


def top_component(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Direction, eigenvalues and gap of the second moment of (l, m, d) rows."""
    return eigen_state(*principal_components(rows))


def eigen_state(values: torch.Tensor, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Fitted state from (l, 2) eigenvalues and (l, 2, d) eigenvectors."""
    pair = values.double()
    size = pair.abs().amax(1).clamp(min=1e-30)
    return {
        "direction_": canonical_sign(vectors[:, 0]),
        "eigenvalues_": pair,
        "eigen_gap_": (pair[:, 0] - pair[:, 1]) / size,
    }
