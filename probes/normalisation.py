"""Normalisations of contrast pairs: what is taken out of the states before a direction is sought.

A text's normalised states depend on the text and on the stored statistics alone, never on the batch that it is scored
in.

Axes: n texts, v prompt variants (templates), l layers, d width. Statistics are kept per layer and template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator

from probes._arrays import ArrayLike, Floats, as_pairs, row_blocks

Pair = tuple[torch.Tensor, torch.Tensor]
State = dict[str, torch.Tensor]


class Normalisation(BaseEstimator, ABC):  # type: ignore[misc]
    """Base: subclasses say what is stored for one layer, and how it is applied to all layers.

    Fitted attributes: those in `state_names`, float64 with the layer axis first.
    """

    state_names: ClassVar[tuple[str, ...]]

    def fit(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Self:
        """Store statistics of (n, d), (n, l, d) or (n, v, l, d) states under the flagged and under the cleared answer.

        Raises:
            ValueError: shapes differ, values are not finite, or there is one pair only.
        """
        pos, neg, _ = as_pairs(x_pos, x_neg)
        check_enough(pos)
        layers = [self.fit_layer(pos[:, :, k].double(), neg[:, :, k].double()) for k in range(pos.shape[2])]
        self.take_products()  # nobody needs them here
        return self.set_state(layers)

    def transform(self, x_pos: ArrayLike, x_neg: ArrayLike) -> tuple[Floats, Floats]:
        """Both halves, normalised, in the shape that they came in."""
        pos, neg, _ = as_pairs(x_pos, x_neg)
        parts = [self.apply(p.double(), q.double()) for _, p, q in row_blocks(pos, neg)]
        shape = tuple(np.shape(x_pos))
        halves = [torch.cat([part[half] for part in parts]).numpy().reshape(shape) for half in (0, 1)]
        return halves[0], halves[1]

    def set_state(self, layers: list[State]) -> Self:
        """Take the statistics of every layer, as `fit_layer` gave them."""
        for name in self.state_names:
            setattr(self, name, torch.stack([state[name] for state in layers]))
        return self

    @abstractmethod
    def fit_layer(self, pos: torch.Tensor, neg: torch.Tensor) -> State:
        """Statistics of one layer from (n, v, d) float64 states."""

    def take_products(self) -> torch.Tensor | None:
        """(2nv, 2nv) float32 inner products of the rows that `fit_layer` saw last, normalised, positive halves first.

        None where they were not had on the way. They are given away: ask once.
        """
        return None

    @abstractmethod
    def apply(self, pos: torch.Tensor, neg: torch.Tensor) -> Pair:
        """(n, v, l, d) float64 states, normalised. Elementwise or row by row, so that a batch changes nothing."""


class ClassNorm(Normalisation):
    """Burns normalisation: each half's mean is taken out, so that what the answer word itself adds is gone.

    Burns et al. (2022), arXiv 2212.03827, §2.2; per template where there are several. One scale for the whole layer and
    not one per feature: a rotation of the states then changes nothing.

    Args:
        scale: whether to divide by the root mean square of the centred states.
    """

    state_names = ("mean_pos_", "mean_neg_", "scale_")

    mean_pos_: torch.Tensor  # (l, v, d)
    mean_neg_: torch.Tensor  # (l, v, d)
    scale_: torch.Tensor  # (l,)

    def __init__(self, scale: bool = True) -> None:
        self.scale = scale

    def fit_layer(self, pos: torch.Tensor, neg: torch.Tensor) -> State:
        mean_pos, mean_neg = pos.mean(0), neg.mean(0)
        scale = root_mean_square(pos - mean_pos, neg - mean_neg) if self.scale else torch.ones((), dtype=pos.dtype)
        return {"mean_pos_": mean_pos, "mean_neg_": mean_neg, "scale_": scale}

    def apply(self, pos: torch.Tensor, neg: torch.Tensor) -> Pair:
        scale = self.scale_[:, None]
        return (pos - self.mean_pos_.transpose(0, 1)) / scale, (neg - self.mean_neg_.transpose(0, 1)) / scale


class SharedNorm(Normalisation):
    """One mean for both halves and all templates, and one scale: the answer word stays in the states."""

    state_names = ("mean_", "scale_")

    mean_: torch.Tensor  # (l, d)
    scale_: torch.Tensor  # (l,)

    def fit_layer(self, pos: torch.Tensor, neg: torch.Tensor) -> State:
        mean = (pos.mean((0, 1)) + neg.mean((0, 1))) / 2
        return {"mean_": mean, "scale_": root_mean_square(pos - mean, neg - mean)}

    def apply(self, pos: torch.Tensor, neg: torch.Tensor) -> Pair:
        return (pos - self.mean_) / self.scale_[:, None], (neg - self.mean_) / self.scale_[:, None]


def root_mean_square(pos: torch.Tensor, neg: torch.Tensor) -> torch.Tensor:
    """Scalar root mean square of two tensors; 1 where both are zero, so that dividing by it is safe."""
    norm = torch.stack([torch.linalg.vector_norm(half) for half in (pos, neg)])  # no squares of the whole in between
    scale = torch.linalg.vector_norm(norm) / (2 * pos.numel()) ** 0.5
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def check_enough(pos: torch.Tensor) -> None:
    """Raise where there is one pair only."""
    if len(pos) < 2:
        raise ValueError("one pair (n=1) has no direction of variation; a contrast probe needs at least two")
