"""VINC: variance, invariance, negative covariance (EleutherAI, 2024, "VINC-S: Closed-form Optionally-supervised Knowledge
Elicitation with Paraphrase Invariance"; `EigenFitter` of their library elk).

With normalised states of n texts, v prompt variants and two answers, maximise over unit θ

    θᵀ [ w·Cov_between − (1 − γ)·Cov_within − γ·Cov(x̄⁺, x̄⁻) ] θ

Cov_between: of the texts' means over variants, averaged over the two answers (variance). Cov_within: of a text's
variants about their mean (invariance). Cov(x̄⁺, x̄⁻): symmetrised cross-covariance of the means (a consistent feature
is opposite under the two answers). The d × d matrix is never formed: it is only multiplied with vectors.
"""

from __future__ import annotations

import torch

from probes._eigen import combine, leading_eigenpairs, project, starting_vectors
from probes._gram import centred, gram
from probes.contrast import ContrastProbe
from probes.crc import eigen_state
from probes.normalisation import Normalisation


class VINC(ContrastProbe):
    """Top eigenvector of the matrix above. Closed form, without restarts or seed.

    With one variant there is no invariance to speak of; with w = 0 as well, the matrix is −γ·Cov(x⁺, x⁻), which is
    ¼γ·[Cov(x⁺ − x⁻) − Cov(x⁺ + x⁻)]: large differences, small sums.

    Args:
        variance: weight w.
        negation: weight γ of negative covariance, 0 to 1; what is left is the weight of invariance.
        norm: normalisation of the states; `ClassNorm()` if None.

    Fitted attributes beside those of `ContrastProbe`:
        eigenvalues_: (l, 2) the objective along the first two directions.
        eigen_gap_: (l,) their difference relative to the larger.
    """

    state_names = (*ContrastProbe.state_names, "eigenvalues_", "eigen_gap_")

    eigenvalues_: torch.Tensor
    eigen_gap_: torch.Tensor

    def __init__(self, variance: float = 0.0, negation: float = 0.5, norm: Normalisation | None = None) -> None:
        self.variance = variance
        self.negation = negation
        self.norm = norm

    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        if not 0 <= self.negation <= 1:
            raise ValueError(f"negation is {self.negation}; it lies between 0 and 1")
        layers, texts, variants = pos.shape[:3]
        rows = torch.stack([pos, neg], 1).flatten(1, 3)
        rows = rows - rows.mean(1, keepdim=True)

        def coefficients(along: torch.Tensor) -> torch.Tensor:
            """From the rows' projections on a vector (l, 2nv), the weights with which they add up to its product."""
            by_text = along.reshape(layers, 2, texts, variants)
            mean = by_text.mean(-1, keepdim=True)
            between = mean - mean.mean(2, keepdim=True)
            weighted = (
                self.variance * between - self.negation * between.flip(1) - (1 - self.negation) * (by_text - mean)
            )
            return (weighted / (2 * texts * variants)).flatten(1)

        if rows.shape[1] >= rows.shape[2]:
            return eigen_state(
                *leading_eigenpairs(lambda v: combine(coefficients(project(rows, v)), rows), starting_vectors(rows))
            )
        # With fewer rows than features the eigenvectors are combinations of rows, and everything happens in their Gram
        # matrix.
        products = gram(rows) if self._products is None else centred(self._products)
        values, weights = leading_eigenpairs(
            coefficients, starting_vectors(products), metric=lambda a: project(products, a)
        )
        return eigen_state(values, torch.einsum("lkm,lmd->lkd", weights, rows))
