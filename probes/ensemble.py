"""Ensembles of weak directions, weighted by their consensus: the spectral meta-learner (Parisi, Strino, Nadler &
Kluger, 2014, PNAS 111(4)).

Each member splits the texts in two. If members err independently given the truth, the off-diagonal of the covariance
of their verdicts has rank one, and its leading eigenvector holds by how much each member's balanced accuracy exceeds one
half, sign included and up to a factor, without a label. A member's share in the ensemble's direction is its entry;
members whose verdicts go with no other's get no weight.
"""

from __future__ import annotations

import torch

from probes._eigen import canonical_sign
from probes.contrast import ContrastProbe
from probes.normalisation import Normalisation

POWER = 15  # products with the covariance: members need to be good, not exact


class EnsembleProbe(ContrastProbe):
    """Consensus-weighted directions.

    Args:
        members: "random", Gaussian directions multiplied once with the differences' covariance, which a direction of
            larger variance attracts; or "principal", the leading principal components of random halves of the features.
        size: how many members m.
        norm: normalisation of the states; `ClassNorm()` if None.
        random_state: of the members.

    Fitted attributes beside those of `ContrastProbe`:
        weights_: (l, m) each member's weight.
        consensus_: (l,) share of the squared covariances of members that one common cause explains, 0 to 1.
    """

    state_names = (*ContrastProbe.state_names, "weights_", "consensus_")

    weights_: torch.Tensor
    consensus_: torch.Tensor

    def __init__(
        self, members: str = "random", size: int = 64, norm: Normalisation | None = None, random_state: int = 0
    ) -> None:
        self.members = members
        self.size = size
        self.norm = norm
        self.random_state = random_state

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = (pos - neg).flatten(1, 2)
        directions = self._directions(rows)
        scores = torch.einsum("lmd,lnd->lmn", directions, rows)
        spread = scores.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-30)
        directions, verdicts = directions / spread, torch.sign(scores).double()
        # Verdicts that are mostly "no" agree by that alone.
        verdicts = verdicts - verdicts.mean(-1, keepdim=True)
        covariance = torch.bmm(verdicts, verdicts.transpose(1, 2)) / verdicts.shape[-1]
        covariance = covariance - torch.diag_embed(torch.diagonal(covariance, dim1=1, dim2=2))
        values, vectors = torch.linalg.eigh(covariance)
        weights = vectors[..., -1]
        explained = values[:, -1].square() / values.square().sum(-1).clamp(min=1e-30)
        return {
            "direction_": canonical_sign(torch.einsum("lm,lmd->ld", weights, directions.double())),
            "weights_": weights,
            "consensus_": explained,
        }

    def _directions(self, rows: torch.Tensor) -> torch.Tensor:
        """(l, m, d) members for (l, n, d) differences."""
        if self.members not in ("random", "principal"):
            raise ValueError(f"members is {self.members!r}; it is 'random' or 'principal'")
        random = torch.Generator().manual_seed(self.random_state)
        shape = (self.size, rows.shape[-1])
        directions = torch.randn(shape, generator=random).expand(len(rows), -1, -1)
        seen = torch.rand(shape, generator=random) < 0.5 if self.members == "principal" else torch.ones(shape).bool()
        for _ in range(POWER if self.members == "principal" else 1):
            along = torch.einsum("lmd,lnd->lmn", directions * seen, rows)
            directions = torch.einsum("lmn,lnd->lmd", along, rows) * seen
            directions = directions / directions.norm(dim=-1, keepdim=True).clamp(min=1e-30)
        return directions
