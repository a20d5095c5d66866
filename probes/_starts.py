"""Where searches with several restarts begin."""

from __future__ import annotations

import torch

from probes._eigen import principal_components


def starting_directions(differences: torch.Tensor, restarts: int, random_state: int) -> torch.Tensor:
    """(l, r, d) directions of norm 1 for (l, m, d) differences: their leading principal component, then random ones.

    Random starts alone miss a weak direction that the leading component already points at, since in d dimensions they
    are nearly orthogonal to it. Every layer has the same random starts, so that adding or reordering layers changes no
    layer's solution.

    Raises:
        ValueError: no restart at all.
    """
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}; at least 1 is needed")
    _, principal = principal_components(differences, count=1, tolerance=1e-2)  # a start needs no more
    random = torch.Generator().manual_seed(random_state)
    others = torch.randn((restarts - 1, differences.shape[-1]), generator=random)
    others = (others / others.norm(dim=-1, keepdim=True)).expand(len(differences), -1, -1)
    return torch.cat([principal, others.to(principal.dtype)], 1)
