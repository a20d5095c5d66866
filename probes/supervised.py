"""Supervised probes: linear scores of one state per text, fitted on labels. The baselines of every label-free probe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from probes._arrays import ArrayLike, Floats, as_labels, as_layers
from probes.saving import save_probe


class SupervisedProbe(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the supervised probes: score = wᵀx + b, one (w, b) per layer.

    Fitted attributes:
        weight_: (l, d) float64.
        bias_: (l,) float64.
        quality_: (l,) cross-validated AUROC of each layer on the training labels.
        best_layer_: the layer with the highest quality.
        layered_: whether the states had a layer axis.
    """

    state_names: ClassVar[tuple[str, ...]] = ("weight_", "bias_", "quality_")

    weight_: torch.Tensor
    bias_: torch.Tensor
    quality_: torch.Tensor
    layered_: bool

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Fit every layer, and rate each by cross-validation.

        Args:
            x: (n, d) or (n, l, d) states.
            y: (n,) labels 0 or 1.

        Raises:
            ValueError: shapes or labels do not fit, values are not finite, or there is one class only.
        """
        states, self.layered_ = as_layers(x, "x")
        labels = as_labels(y, len(states))
        arrays = states.numpy().astype(np.float64)
        fitted = [self._fit_layer(arrays[:, layer], labels) for layer in range(arrays.shape[1])]
        self.weight_ = torch.from_numpy(np.stack([weight for weight, _ in fitted]))
        self.bias_ = torch.tensor([bias for _, bias in fitted], dtype=torch.float64)
        quality = [self._rate_layer(arrays[:, layer], labels) for layer in range(arrays.shape[1])]
        self.quality_ = torch.tensor(quality, dtype=torch.float64)
        return self

    @abstractmethod
    def _fit_layer(self, x: Floats, y: NDArray[np.int64]) -> tuple[Floats, float]:
        """Weight (d,) and bias from states (n, d)."""

    def _rate_layer(self, x: Floats, y: NDArray[np.int64]) -> float:
        folds = min(5, int(np.bincount(y).min()))
        if folds < 2:
            return 0.5
        scores = np.zeros(len(y))
        # Folds are split in the order given, not at random: the same data give the same layer.
        for train, test in StratifiedKFold(folds).split(x, y):
            weight, bias = self._fit_layer(x[train], y[train])
            scores[test] = x[test] @ weight + bias
        return float(roc_auc_score(y, scores))

    @property
    def best_layer_(self) -> int:
        return int(self.quality_.argmax())

    def score(self, x: ArrayLike) -> Floats:
        """(n,) or (n, l) log-odds-like scores, higher = flagged."""
        states, layered = as_layers(x, "x")
        if states.shape[1:] != self.weight_.shape:
            raise ValueError(
                f"states have (l, d) = {tuple(states.shape[1:])}; the probe was fitted on {tuple(self.weight_.shape)}"
            )
        scores = ((states.double() * self.weight_).sum(-1) + self.bias_).numpy()
        return np.asarray(scores if layered else scores[:, 0])

    def predict(self, x: ArrayLike) -> Any:
        """(n,) or (n, l) verdicts: 1 where the score is strictly above 0."""
        return (self.score(x) > 0).astype(np.int64)

    def best(self) -> Self:
        """The best layer alone, as a probe of (n, d) states."""
        layer = slice(self.best_layer_, self.best_layer_ + 1)
        probe = type(self)(**self.get_params())
        for name in self.state_names:
            setattr(probe, name, getattr(self, name)[layer].clone())
        probe.layered_ = False
        return probe

    def save(self, folder: Path) -> None:
        """Write probe.json and probe.safetensors; `load_probe` reads them."""
        arrays = {name: getattr(self, name) for name in self.state_names}
        save_probe(Path(folder), type(self).__name__, self.get_params(), arrays, {"layered_": self.layered_})
