"""Consensus of weak directions."""

from __future__ import annotations

import numpy as np
import torch

from probes import EnsembleProbe


class Given(EnsembleProbe):
    """Members along the axes."""

    def _directions(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.eye(rows.shape[-1]).expand(len(rows), -1, -1)


def test_verdicts_that_are_mostly_no_do_not_agree_by_that_alone() -> None:
    """Five members see one rare feature and two see another, independent one: the verdicts of all are mostly "no"."""
    random = np.random.default_rng(0)
    truth, other = (random.random((2, 20_000)) < 0.1) * 2 - 1

    def seen(feature: np.ndarray, count: int) -> np.ndarray:
        errs = random.random((count, len(feature))) < 0.1
        return np.where(errs, -feature, feature)

    signs = torch.from_numpy(np.concatenate([seen(truth, 5), seen(other, 2)]).T.astype(np.float32))
    state = Given()._solve(signs[None, :, None] / 2, -signs[None, :, None] / 2)
    weights = state["weights_"][0].abs().numpy()
    assert weights[:5].min() > 10 * weights[5:].max()
