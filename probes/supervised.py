"""Supervised probes: linear scores of one state per text, fitted on labels. The baselines of every label-free probe.

Axes: n texts, l layers, d width. Every method here is fitted in the row space of the training states where n < d: what
lies outside it is the same for all of them, so nothing is lost, and a fold of the cross-validation costs n³ and not d³.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from probes._arrays import ArrayLike, Floats, as_layers, as_pairs, row_blocks
from probes._labels import as_labels
from probes.saving import save_probe

FOLDS = 5
FLAT = 1e-6  # a feature that varies by less than this share of its size is constant, but for rounding


class SupervisedProbe(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the supervised probes: score = wᵀx + b, one (w, b) per layer.

    Fitted attributes:
        weight_: (l, d) float64.
        bias_: (l,) float64.
        quality_: (l,) AUROC of each layer, the mean over cross-validation folds of the training labels; NaN where there
            is one layer only.
        best_layer_: the layer with the highest quality.
        classes_: the two labels; the second is the flagged one.
        layered_: whether the states had a layer axis.
    """

    state_names: ClassVar[tuple[str, ...]] = ("weight_", "bias_", "quality_")
    standardised: ClassVar[bool] = False  # whether each feature is divided by its standard deviation first

    weight_: torch.Tensor
    bias_: torch.Tensor
    quality_: torch.Tensor
    classes_: NDArray[Any]
    layered_: bool

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Fit every layer, and where there are several rate each by cross-validation.

        Args:
            x: (n, d) or (n, l, d) states.
            y: (n,) labels of two kinds, 0 and 1 as a rule.

        Raises:
            ValueError: shapes or labels do not fit, values are not finite, there is one class only, or a layer's states
                are all alike.
        """
        states, self.layered_ = as_layers(x, "x")
        y = as_labels(y, len(states))
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is multiclass: {len(self.classes_)} labels"
            )
        if len(self.classes_) < 2:
            raise ValueError(f"every label is {self.classes_[0]!r}: one class only; a supervised probe needs both")
        weights, biases, quality = [], [], []
        # Many small problems: several threads cost more than they give, above all beside other work.
        with threadpool_limits(1):
            for layer in range(states.shape[1]):
                x_layer = states[:, layer].double().numpy()
                weight, bias, auroc = self._fit_one(x_layer, labels, layer, states.shape[1] > 1)
                weights.append(weight)
                biases.append(bias)
                quality.append(auroc)
        self.weight_ = torch.from_numpy(np.stack(weights))
        self.bias_ = torch.tensor(biases, dtype=torch.float64)
        self.quality_ = torch.tensor(quality, dtype=torch.float64)
        self.n_features_in_ = states.shape[-1]
        return self

    def fit_pairs(self, x_pos: ArrayLike, x_neg: ArrayLike, y: ArrayLike) -> Self:
        """`fit` on the differences of contrast pairs, both (n, d) or (n, l, d)."""
        return self.fit(_differences(x_pos, x_neg), y)

    def score_pairs(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Floats:
        """`score` of the differences of contrast pairs."""
        return self.score(_differences(x_pos, x_neg))

    def _fit_one(self, x: Floats, y: NDArray[np.int64], layer: int, rate: bool) -> tuple[Floats, float, float]:
        """Weight, bias, and cross-validated AUROC (NaN if it is not asked for) of one layer (n, d)."""
        mean = x.mean(0)
        spread = x.std(0)
        # A constant feature says nothing, and its rounding must not be blown up to a signal.
        varies = spread > FLAT * np.abs(x).max(0)
        if not varies.any():
            raise ValueError(f"layer {layer}: all states are alike, so there is no direction to find")
        scale = np.where(varies, spread if self.standardised else 1.0, np.inf)
        z, back = row_space((x - mean) / scale)
        width = int(varies.sum())
        weight, bias = self._fit_layer(z, y, width)
        full = (weight @ back) / scale
        quality = self._rate(z, y, width) if rate else float("nan")
        return full, float(bias - full @ mean), quality

    @abstractmethod
    def _fit_layer(self, z: Floats, y: NDArray[np.int64], width: int) -> tuple[Floats, float]:
        """Weight (k,) and bias from centred coordinates (n, k) of states of some width, and labels 0 or 1."""

    def _rate(self, z: Floats, y: NDArray[np.int64], width: int) -> float:
        folds = min(FOLDS, int(np.bincount(y).min()))
        if folds < 2:
            return 0.5
        rated = []
        # Shuffled with a fixed seed: data sorted by topic would give folds of one topic each.
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=0).split(z, y):
            weight, _ = self._fit_layer(z[train], y[train], width)
            # AUROC within each fold: scores of different folds have different zeros.
            rated.append(roc_auc_score(y[test], z[test] @ weight))
        return float(np.mean(rated))

    @property
    def best_layer_(self) -> int:
        return int(self.quality_.nan_to_num(0.0).argmax())

    def score(self, x: ArrayLike) -> Floats:
        """(n,) scores of (n, d) states, or (n, l) of (n, l, d); log-odds-like, higher = flagged.

        A text's scores are the same in every batch, to the last bit.
        """
        if not hasattr(self, "weight_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        states, layered = as_layers(x, "x")
        layers, width = self.weight_.shape
        if states.shape[-1] != width:
            raise ValueError(
                f"X has {states.shape[-1]} features, but {type(self).__name__} is expecting {width} features as input"
            )
        if states.shape[1] != layers:
            raise ValueError(f"x has {states.shape[1]} layers; the probe was fitted on {layers}")
        parts = []
        for _, rows in row_blocks(states):
            # numpy's sum adds up each row on its own; a matrix product would not.
            product = np.ascontiguousarray((rows.double() * self.weight_).numpy())
            parts.append(product.sum(-1) + self.bias_.numpy())
        scores = np.concatenate(parts)
        return scores if layered else scores[:, 0]

    def score_best(self, x: ArrayLike) -> Floats:
        """(n,) scores at the best layer."""
        scores = self.score(x)
        return scores[:, self.best_layer_] if scores.ndim == 2 else scores

    def decision_function(self, x: ArrayLike) -> Floats:
        """The scores, under the name that scikit-learn looks for."""
        return self.score(x)

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """(n,) or (n, l) verdicts: the flagged label where the score is strictly above 0."""
        flagged = self.score(x) > 0
        return np.asarray(self.classes_[flagged.astype(np.int64)])

    def best(self) -> Self:
        """The best layer alone, as a probe of (n, d) states."""
        layer = slice(self.best_layer_, self.best_layer_ + 1)
        probe: Self = type(self)(**self.get_params())
        for name in self.state_names:
            setattr(probe, name, getattr(self, name)[layer].clone())
        probe.classes_, probe.layered_, probe.n_features_in_ = self.classes_, False, self.n_features_in_
        return probe

    def save(self, folder: str | Path) -> None:
        """Write probe.json and probe.safetensors; `load_probe` reads them."""
        if not hasattr(self, "weight_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        arrays = {name: getattr(self, name) for name in self.state_names}
        plain = {"classes_": self.classes_.tolist(), "layered_": self.layered_, "n_features_in_": self.n_features_in_}
        save_probe(Path(folder), self, arrays, plain, {})

    def restore(self) -> None:
        """Called after loading: what JSON holds as a list is an array again."""
        self.classes_ = np.asarray(self.classes_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def row_space(x: Floats) -> tuple[Floats, Floats]:
    """Coordinates z (n, k) and an orthonormal basis (k, d) with z @ basis = x (n, d); k = d and the identity where n ≥ d."""
    n, width = x.shape
    if n >= width:
        return x, np.eye(width)
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = values > 1e-12 * max(float(values[-1]), 1e-300)
    lengths = np.sqrt(values[kept])
    return vectors[:, kept] * lengths, (vectors[:, kept] / lengths).T @ x


def class_means(z: Floats, y: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(k,) means of the cleared and of the flagged rows."""
    return z[y == 0].mean(0), z[y == 1].mean(0)


def within_classes(z: Floats, y: NDArray[np.int64]) -> Floats:
    """(n, k) rows minus their class's mean."""
    low, high = class_means(z, y)
    return np.where((y == 1)[:, None], z - high, z - low)


def gaussian_log_odds(weight: Floats, z: Floats, y: NDArray[np.int64]) -> tuple[Floats, float]:
    """Weight and bias whose scores are log-odds, if both classes' projections are normal with one variance, and as frequent."""
    low, high = class_means(z, y)
    gap = float(weight @ (high - low))
    variance = float(((within_classes(z, y) @ weight) ** 2).mean())
    # Classes without spread along the weight are separated by any slope; this one keeps scores in a usable range.
    slope = gap / max(variance, 1e-4 * gap**2, 1e-300)
    scaled = slope * weight
    return scaled, -float(scaled @ (low + high)) / 2


def _differences(x_pos: ArrayLike, x_neg: ArrayLike) -> torch.Tensor:
    """x_pos − x_neg in float64, in the shape that they came in."""
    pos, neg, layered = as_pairs(x_pos, x_neg)
    if pos.shape[1] > 1:
        raise ValueError("several prompt variants (n, v, l, d): average their states or stack them as texts first")
    difference = pos[:, 0].double() - neg[:, 0].double()
    return difference if layered else difference[:, 0]
