"""A random direction: what a probe scores by chance. Any method has to beat it after the same choice of sign and layer."""

from __future__ import annotations

import torch

from probes.contrast import ContrastProbe
from probes.normalisation import Normalisation


class RandomProbe(ContrastProbe):
    """One Gaussian direction, the same for every layer.

    Args:
        norm: normalisation of the states; `ClassNorm()` if None.
        random_state: of the direction.
    """

    def __init__(self, norm: Normalisation | None = None, random_state: int = 0) -> None:
        self.norm = norm
        self.random_state = random_state

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        random = torch.Generator().manual_seed(self.random_state)
        direction = torch.randn(pos.shape[-1], generator=random)
        return {"direction_": (direction / direction.norm()).repeat(len(pos), 1)}
