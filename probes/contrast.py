"""Contrast probes: a direction along which a text's states under the two answers differ consistently. No labels.

Every probe here is linear: with per-class means μ⁺, μ⁻ and a scale σ stored at fitting,

    score = ½ · θᵀ[(x⁺ − μ⁺)/σ − (x⁻ − μ⁻)/σ].

The means take out what the answer words themselves contribute (Burns et al., 2022, arXiv 2212.03827, §2.2); one scale per layer
and not one per feature, so that a rotation of the states changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator

from probes._arrays import ArrayLike, Floats, as_pairs
from probes.saving import save_probe
from probes.signs import rank_correlation


class ContrastProbe(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the label-free probes: `fit(x_pos, x_neg)` has no place for labels.

    Fitted attributes:
        direction_: (l, d) unit-free direction θ of each layer.
        mean_pos_, mean_neg_: (l, d) means of the two halves.
        scale_: (l,) root mean square of the centred states.
        quality_: (l,) how good each layer's solution looks without labels, higher is better.
        best_layer_: the layer with the highest quality.
        sign_confidence_: how clearly `orient` decided the sign, 0 (a guess) to 1; 0 before.
        layered_: whether the states had a layer axis.
    """

    state_names: ClassVar[tuple[str, ...]] = ("direction_", "mean_pos_", "mean_neg_", "scale_", "quality_")

    direction_: torch.Tensor
    mean_pos_: torch.Tensor
    mean_neg_: torch.Tensor
    scale_: torch.Tensor
    quality_: torch.Tensor
    sign_confidence_: float
    layered_: bool

    def fit(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Self:
        """Fit all layers at once.

        Args:
            x_pos: (n, d) or (n, l, d) states under the flagged answer.
            x_neg: the same texts' states under the cleared answer.

        Raises:
            ValueError: shapes differ, values are not finite, n < 2, or all pairs are alike.
        """
        pos, neg, self.layered_ = as_pairs(x_pos, x_neg)
        if len(pos) < 2:
            raise ValueError("one pair has no direction of variation; a contrast probe needs at least two")
        self.mean_pos_, self.mean_neg_ = pos.mean(0), neg.mean(0)
        pos, neg = pos - self.mean_pos_, neg - self.mean_neg_
        # einsum and not a norm over a concatenation: states of many layers are large, and this makes no copy.
        square = torch.einsum("nld,nld->l", pos, pos) + torch.einsum("nld,nld->l", neg, neg)
        self.scale_ = (square / (2 * pos.shape[0] * pos.shape[2])).sqrt()
        spread = (pos - neg).square().mean((0, 2)).sqrt()
        flat = (spread <= 1e-6 * (self.mean_pos_.abs().amax(-1) + self.mean_neg_.abs().amax(-1) + 1e-30)).nonzero()
        if len(flat):
            raise ValueError(
                f"layer {flat[0].item()}: all pairs differ in the same way, so there is no direction to find; "
                "give texts that differ, or leave the layer out"
            )
        scale = self.scale_[:, None]
        self.direction_, self.quality_ = self._directions(pos / scale, neg / scale)
        self.sign_confidence_ = 0.0
        self._fitted_scores = self._layer_scores(pos, neg)
        return self

    @abstractmethod
    def _directions(self, pos: torch.Tensor, neg: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(l, d) directions and (l,) qualities from (n, l, d) centred and scaled states."""

    @property
    def best_layer_(self) -> int:
        return int(self.quality_.argmax())

    def score(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Floats:
        """(n,) or (n, l) log-odds-like scores, higher = flagged."""
        pos, neg, layered = as_pairs(x_pos, x_neg)
        if pos.shape[1:] != self.mean_pos_.shape:
            raise ValueError(
                f"states have (l, d) = {tuple(pos.shape[1:])}; the probe was fitted on {tuple(self.mean_pos_.shape)}"
            )
        scores = self._layer_scores(pos - self.mean_pos_, neg - self.mean_neg_)
        return scores if layered else scores[:, 0]

    def predict(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Any:
        """(n,) or (n, l) verdicts: 1 where the score is strictly above 0."""
        return (self.score(x_pos, x_neg) > 0).astype(np.int64)

    def orient(self, reference: Floats) -> Self:
        """Choose each layer's sign so that scores of the fitted texts rise with a reference that is itself label-free.

        Args:
            reference: (n,) scores of the texts that the probe was fitted on, in their order: a monitor's log-odds, say.
        """
        if len(reference) != len(self._fitted_scores):
            raise ValueError(f"{len(reference)} reference scores for {len(self._fitted_scores)} fitted texts")
        agreement = rank_correlation(self._fitted_scores, np.asarray(reference, dtype=np.float64))
        signs = np.where(agreement < 0, -1.0, 1.0)
        self.direction_ = self.direction_ * torch.from_numpy(signs).float()[:, None]
        self._fitted_scores = self._fitted_scores * signs
        self.sign_confidence_ = float(abs(agreement[self.best_layer_]))
        return self

    def best(self) -> Self:
        """The best layer alone, as a probe of (n, d) states."""
        layer = slice(self.best_layer_, self.best_layer_ + 1)
        probe = type(self)(**self.get_params())
        for name in self.state_names:
            setattr(probe, name, getattr(self, name)[layer].clone())
        probe.sign_confidence_, probe.layered_ = self.sign_confidence_, False
        probe._fitted_scores = self._fitted_scores[:, layer]
        return probe

    def save(self, folder: Path) -> None:
        """Write probe.json and probe.safetensors; `load_probe` reads them."""
        save_probe(
            Path(folder),
            type(self).__name__,
            self.get_params(),
            {name: getattr(self, name) for name in self.state_names},
            {"sign_confidence_": self.sign_confidence_, "layered_": self.layered_},
        )

    def _layer_scores(self, pos: torch.Tensor, neg: torch.Tensor) -> Floats:
        """(n, l) scores of centred states. In float64: a text's score must not depend on how a batch is cut."""
        difference = (pos.double() - neg.double()) * (0.5 / self.scale_.double())[:, None]
        return np.asarray((difference * self.direction_.double()).sum(-1).numpy())
