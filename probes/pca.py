"""Principal component of raw pair differences: linear artificial tomography (Zou et al., 2023, arXiv 2310.01405, §3.1).

The paper takes differences in random order and re-centres them, so that what all pairs share does not dominate. In
expectation over the orders that is the second moment of the differences about 0; it is used here directly, so that
nothing depends on chance.

Other than for `CRC`, the answer word stays in the states: where it dominates, this probe finds it, which is the
comparison's point.
"""

from __future__ import annotations

import torch

from probes.contrast import AnswerWordProbe
from probes.crc import top_component
from probes.normalisation import Normalisation


class PCAProbe(AnswerWordProbe):
    """Top eigenvector of the differences' second moment; the mean of fitted scores is taken as their zero.

    Args:
        norm: normalisation of the states; `SharedNorm()` if None.

    Fitted attributes beside those of `ContrastProbe`:
        eigenvalues_: (l, 2) second moments along the first two directions.
        eigen_gap_: (l,) 1 − second / first.
    """

    state_names = (*AnswerWordProbe.state_names, "eigenvalues_", "eigen_gap_")

    eigenvalues_: torch.Tensor
    eigen_gap_: torch.Tensor

    def __init__(self, norm: Normalisation | None = None) -> None:
        self.norm = norm

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        difference = (pos - neg).flatten(1, 2)
        state = top_component(difference)
        state["offset_"] = torch.einsum("ld,ld->l", difference.mean(1), state["direction_"]).double() / 2
        return state
