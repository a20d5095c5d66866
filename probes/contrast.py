"""Contrast probes: a direction along which a text's states under the two answers differ consistently. No labels.

Every probe here is linear in normalised states φ(x): with a direction θ and an offset c stored at fitting,

    score = ½ · θᵀ[φ(x⁺) − φ(x⁻)] − c.

Axes: n texts, v prompt variants, l layers, d width. Input is (n, d), (n, l, d) or (n, v, l, d); scores of several
prompt variants are averaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from probes._arrays import ArrayLike, Floats, as_pairs, row_blocks
from probes.normalisation import ClassNorm, Normalisation, SharedNorm, check_enough
from probes.saving import save_probe
from probes.signs import Sign, by_anchors, by_prior, by_reference, split_share

CHUNK = 1 << 23  # entries of normalised states that are worked on together, all layers of a small model at once


class ContrastProbe(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the label-free probes: `fit(x_pos, x_neg)` has no place for labels.

    Fitted attributes:
        direction_: (l, d) direction θ of each layer.
        offset_: (l,) offset c.
        norm_: the fitted normalisation.
        quality_: (l,) how good each layer's solution looks without labels, higher is better. Unless a probe says
            otherwise, the share of its fitted scores' variance that a split into two groups explains: 0.64 for a bell
            curve, 1 for two points.
        best_layer_: the layer with the highest quality.
        sign_agreement_: (l,) how clearly the sign was decided, 0 (a guess) to 1; 0 before one of the `orient` methods.
        sign_confidence_: the same of the best layer.
        layered_: whether the states had a layer axis.
    """

    state_names: ClassVar[tuple[str, ...]] = ("direction_", "offset_", "quality_", "sign_agreement_")
    scaled: ClassVar[bool] = True  # whether θ is rescaled so that fitted scores have mean square 1

    direction_: torch.Tensor
    offset_: torch.Tensor
    quality_: torch.Tensor
    sign_agreement_: torch.Tensor
    norm_: Normalisation
    layered_: bool

    norm: Normalisation | None
    # (l, 2nv, 2nv) inner products of the rows that `_solve` is given, where the normalisation had computed them already.
    _products: torch.Tensor | None = None

    def fit(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Self:
        """Fit all layers.

        Args:
            x_pos: (n, d), (n, l, d) or (n, v, l, d) states under the flagged answer.
            x_neg: the same texts' states under the cleared answer.

        Raises:
            ValueError: shapes differ, values are not finite, n < 2, or all pairs of a layer are alike.
        """
        pos, neg, self.layered_ = as_pairs(x_pos, x_neg)
        check_enough(pos)
        self.variants_ = pos.shape[1]
        self.norm_ = clone(self.norm) if self.norm is not None else self._default_norm()
        statistics, found, scores = [], [], []
        n, variants, layers, width = pos.shape
        size = max(1, CHUNK // (2 * n * variants * width))
        for first in range(0, layers, size):
            chunk = range(first, min(layers, first + size))
            products: list[torch.Tensor | None] = []
            halves = pos.new_empty((2, len(chunk), n, variants, width), dtype=torch.float32)
            for place, layer in enumerate(chunk):
                p, q = pos[:, :, layer].double(), neg[:, :, layer].double()
                self._check_varied(p, q, layer)
                state = self.norm_.fit_layer(p, q)
                products.append(self.norm_.take_products())
                statistics.append(state)
                p, q = self.norm_.set_state([state]).apply(p[:, :, None], q[:, :, None])
                halves[0, place], halves[1, place] = p[:, :, 0], q[:, :, 0]
            known = [product for product in products if product is not None]
            self._products = torch.stack(known) if len(known) == len(chunk) else None
            part = self._solve(halves[0], halves[1])
            self._products = None
            halfway = torch.einsum("lnvd,ld->nl", halves[0] - halves[1], part["direction_"].float()) / (2 * variants)
            scores.append(halfway.double())
            found.append(part)
        self.norm_.set_state(statistics)
        state = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        self._take(state, torch.cat(scores, 1))
        return self

    @abstractmethod
    def _solve(self, pos: torch.Tensor, neg: torch.Tensor) -> dict[str, torch.Tensor]:
        """Fitted state of some layers from (l, n, v, d) float32 normalised states: `direction_` at least, layer axis first."""

    def _default_norm(self) -> Normalisation:
        return ClassNorm()

    def _check_varied(self, pos: torch.Tensor, neg: torch.Tensor, layer: int) -> None:
        """Raise where all pairs of a layer are alike, to the precision that float32 states have."""
        difference = pos - neg
        # Centred here as well: a normalisation that leaves the answer word in has a mean difference.
        difference -= difference.mean(0)
        spread = torch.linalg.vector_norm(difference)
        if float(spread) <= 1e-6 * float(torch.linalg.vector_norm(pos) + torch.linalg.vector_norm(neg)):
            raise ValueError(
                f"layer {layer}: all pairs differ in the same way (pair 0 like every other), so there is no direction to "
                "find; give texts that differ, or leave the layer out"
            )

    def _take(self, state: dict[str, torch.Tensor], scores: torch.Tensor) -> None:
        """Set the fitted attributes; scores: (n, l), before the offset."""
        if self.scaled:
            size = (scores - scores.mean(0)).square().mean(0).sqrt()
            size = torch.where(size > 0, size, torch.ones_like(size))
            state["direction_"] = state["direction_"].double() / size[:, None]
            if "offset_" in state:
                state["offset_"] = state["offset_"].double() / size
            scores = scores / size
        state["direction_"] = state["direction_"].double()
        offset = state.setdefault("offset_", torch.zeros(len(state["direction_"]), dtype=torch.float64))
        for name, value in state.items():
            setattr(self, name, value)
        self._fitted_scores: Floats | None = (scores - offset).numpy()
        if "quality_" not in state:
            self.quality_ = torch.from_numpy(split_share(self._fitted_scores))
        self.sign_agreement_ = torch.zeros(len(self.direction_), dtype=torch.float64)

    @property
    def best_layer_(self) -> int:
        return int(self.quality_.argmax())

    @property
    def sign_confidence_(self) -> float:
        return float(self.sign_agreement_[self.best_layer_])

    def score(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Floats:
        """(n,) scores of (n, d) states, or (n, l) of (n, l, d) or (n, v, l, d); higher = flagged.

        A text's scores are the same in every batch, to the last bit.
        """
        pos, neg, layered = as_pairs(x_pos, x_neg)
        self._check_fitted()
        layers, width = self.direction_.shape
        if pos.shape[2:] != (layers, width):
            raise ValueError(f"states have (l, d) = {tuple(pos.shape[2:])}; the probe was fitted on {(layers, width)}")
        if pos.shape[1] != self.variants_:
            raise ValueError(f"states have {pos.shape[1]} prompt variants; the probe was fitted on {self.variants_}")
        parts = []
        for _, p, q in row_blocks(pos, neg):
            p, q = self.norm_.apply(p.double(), q.double())
            # numpy's sum adds up each row on its own; a matrix product would not.
            product = np.ascontiguousarray(((p - q) * self.direction_).numpy())
            parts.append(product.sum(-1).mean(1) / 2 - self.offset_.numpy())
        scores = np.concatenate(parts)
        return scores if layered else scores[:, 0]

    def score_best(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Floats:
        """(n,) scores at the best layer."""
        scores = self.score(x_pos, x_neg)
        return scores[:, self.best_layer_] if scores.ndim == 2 else scores

    def predict(self, x_pos: ArrayLike, x_neg: ArrayLike) -> NDArray[np.int64]:
        """(n,) or (n, l) verdicts: 1 where the score is strictly above 0."""
        return (self.score(x_pos, x_neg) > 0).astype(np.int64)

    def transform(self, x_pos: ArrayLike, x_neg: ArrayLike) -> Floats:
        """(n, l) scores, always with a layer axis: features for a model on top."""
        scores = self.score(x_pos, x_neg)
        return scores if scores.ndim == 2 else scores[:, None]

    def orient(self, reference: NDArray[Any]) -> Self:
        """Choose each layer's sign so that scores of the fitted texts rise with a reference that is itself label-free.

        Args:
            reference: (n,) scores of the texts that the probe was fitted on, in their order: a monitor's verdict
                log-odds, say.
        """
        return self._turn(by_reference(self._remembered(), np.asarray(reference, dtype=np.float64)))

    def orient_by_anchors(self, x_pos: ArrayLike, x_neg: ArrayLike, flagged: NDArray[Any]) -> Self:
        """Choose each layer's sign by a few statements whose answer is certain.

        Args:
            x_pos, x_neg: states of the m anchors, shaped like those that the probe was fitted on.
            flagged: (m,) 1 where the anchor is flagged, else 0; both kinds are needed.
        """
        return self._turn(by_anchors(self.transform(x_pos, x_neg), np.asarray(flagged)))

    def orient_by_prior(self, share: float) -> Self:
        """Choose each layer's sign so that the flagged group of fitted texts is as large as expected.

        Args:
            share: of texts that are expected to be flagged, 0 to 1. At one half it says nothing, and the confidence is
                0.
        """
        return self._turn(by_prior(self._remembered(), share))

    def _turn(self, sign: Sign) -> Self:
        turn = torch.from_numpy(sign.signs)
        self.direction_ = self.direction_ * turn[:, None]
        self.offset_ = self.offset_ * turn
        if self._fitted_scores is not None:
            self._fitted_scores = self._fitted_scores * sign.signs
        self.sign_agreement_ = torch.from_numpy(sign.confidence)
        return self

    def _remembered(self) -> Floats:
        self._check_fitted()
        if self._fitted_scores is None:
            raise ValueError(
                "a loaded probe does not hold the scores of its fitted texts; orient it before it is saved"
            )
        return self._fitted_scores

    def _check_fitted(self) -> None:
        if not hasattr(self, "direction_"):
            raise ValueError(f"this {type(self).__name__} is not fitted yet; call fit(x_pos, x_neg) first")

    def best(self) -> Self:
        """The best layer alone, as a probe of (n, d) states."""
        layer = slice(self.best_layer_, self.best_layer_ + 1)
        probe: Self = type(self)(**self.get_params(deep=False))
        probe.norm_ = clone(self.norm_)
        for source, copy in ((self, probe), (self.norm_, probe.norm_)):
            for name in source.state_names:
                setattr(copy, name, getattr(source, name)[layer].clone())
        probe.layered_, probe.variants_ = False, self.variants_
        probe._fitted_scores = None if self._fitted_scores is None else self._fitted_scores[:, layer]
        return probe

    def save(self, folder: str | Path) -> None:
        """Write probe.json and probe.safetensors; `load_probe` reads them."""
        self._check_fitted()
        parts: tuple[tuple[str, ContrastProbe | Normalisation], ...] = (("", self), ("norm_.", self.norm_))
        arrays = {prefix + name: getattr(part, name) for prefix, part in parts for name in part.state_names}
        save_probe(
            Path(folder), self, arrays, {"layered_": self.layered_, "variants_": self.variants_}, {"norm_": self.norm_}
        )

    def restore(self) -> None:
        """Called after loading: the scores of the fitted texts are not kept on disk."""
        self._fitted_scores = None


class AnswerWordProbe(ContrastProbe):
    """Base of the probes that leave the answer word's own direction in the states."""

    def _default_norm(self) -> Normalisation:
        return SharedNorm()
