"""Least-squares concept erasure (Belrose et al., 2023, "LEACE: Perfect linear concept erasure in closed form", arXiv
2306.03819).

With Σ = Cov(x) and C = Cov(x, z), the affine map

    r(x) = x − C (Cᵀ Σ⁻¹ C)⁺ Cᵀ Σ⁻¹ (x − μ)

leaves no covariance between r(x) and z, so that no linear classifier does better on r(x) than a constant, and changes x
least among all affine maps that do so. Σ is shrunk towards a multiple of the identity (Bodnar, Gupta & Parolya, 2014,
arXiv 1308.2608), without which it has no inverse where n ≤ d; erasure is exact whatever Σ is, only "least" is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from sklearn.base import BaseEstimator

from probes._arrays import ArrayLike, Floats, as_tensor
from probes._gram import gram
from probes.normalisation import Normalisation, Pair, State, root_mean_square

LEAST_LEFT = 0.1  # share of the rows' squares that erasing has to leave for inner products to be reckoned from theirs


class LEACE(BaseEstimator):  # type: ignore[misc]
    """Erase a concept z from states x of one layer. Data can come at once (`fit`) or in parts (`update`).

    Args:
        shrink: whether to shrink the covariance.

    Fitted attributes, float64:
        mean_: (d,) mean μ.
        left_, right_: (d, k) factors: r(x) = x − left · rightᵀ(x − μ).
    """

    def __init__(self, shrink: bool = True) -> None:
        self.shrink = shrink

    def fit(self, x: ArrayLike, z: ArrayLike) -> Self:
        """Fit on (n, d) states and an (n,) or (n, k) concept: numbers, or one column per class.

        Raises:
            ValueError: shapes differ, n < 2, or values are not finite.
        """
        for name in ("_count", "_sum", "_squares", "_sum_z", "_cross", "mean_", "left_", "right_"):
            self.__dict__.pop(name, None)
        self.update(x, z)
        if getattr(self, "_count", 0) < 2:
            raise ValueError("LEACE needs at least two texts")
        return self

    def update(self, x: ArrayLike, z: ArrayLike) -> Self:
        """Add texts. The result is that of one `fit` on all of them, up to rounding."""
        states, concept = as_tensor(x, "x").double(), as_tensor(z, "z").double()
        concept = concept[:, None] if concept.ndim == 1 else concept
        if states.ndim != 2 or concept.ndim != 2 or len(states) != len(concept):
            raise ValueError(
                f"x has shape {tuple(states.shape)} and z {tuple(concept.shape)}; they must be (n, d) and (n, k)"
            )
        for name, tensor in (("x", states), ("z", concept)):
            bad = (~torch.isfinite(tensor)).any(-1).nonzero()
            if len(bad):
                raise ValueError(f"{name}: example {int(bad[0])} has NaN or infinite values")
        if not len(states):
            return self
        if not hasattr(self, "_count"):
            self._count, self._sum = 0, states.new_zeros(states.shape[1])
            self._squares = states.new_zeros((states.shape[1], states.shape[1]))
            self._sum_z = states.new_zeros(concept.shape[1])
            self._cross = states.new_zeros((states.shape[1], concept.shape[1]))
            # Sums are taken about the first text, so that a large common shift costs no digits.
            self._origin, self._origin_z = states[0].clone(), concept[0].clone()
        if states.shape[1] != len(self._origin) or concept.shape[1] != len(self._origin_z):
            raise ValueError(f"x and z have {states.shape[1]} and {concept.shape[1]} columns; earlier texts had others")
        states, concept = states - self._origin, concept - self._origin_z
        self._count += len(states)
        self._sum += states.sum(0)
        self._sum_z += concept.sum(0)
        self._squares += states.T @ states
        self._cross += states.T @ concept
        if self._count >= 2:
            mean, mean_z = self._sum / self._count, self._sum_z / self._count
            covariance = self._squares / self._count - torch.outer(mean, mean)
            cross = self._cross / self._count - torch.outer(mean, mean_z)
            if self.shrink:
                covariance = shrunk(covariance, self._count)
            self.mean_ = mean + self._origin
            self.left_, self.right_ = erasing_factors(
                cross, lambda c: torch.linalg.lstsq(covariance, c, driver="gelsd")[0]
            )
        return self

    def transform(self, x: ArrayLike) -> Floats:
        """(n, d) states without the concept.

        Raises:
            ValueError: it is not fitted, or the states have another width.
        """
        if not hasattr(self, "left_"):
            raise ValueError("this LEACE is not fitted yet: it needs at least two texts")
        states = as_tensor(x, "x").double()
        if states.ndim != 2 or states.shape[1] != len(self.mean_):
            raise ValueError(f"x has shape {tuple(states.shape)}; it must be (n, {len(self.mean_)})")
        return (self.mean_ + erase(states - self.mean_, self.left_, self.right_)).numpy()


class ErasureNorm(Normalisation):
    """Burns normalisation that cannot see which half a state belongs to: the answer word is erased by LEACE, per
    template.

    After `ClassNorm` the answer word has no mean left; after this it has no direction left either, so that a text whose
    answer words differ more than usual is no outlier.

    Fitted attributes:
        mean_: (l, d) mean of all states.
        left_, right_: (l, d, 2v − 1) factors of the erasure.
        scale_: (l,) root mean square of what is left.
    """

    state_names = ("mean_", "left_", "right_", "scale_")

    mean_: torch.Tensor
    left_: torch.Tensor
    right_: torch.Tensor
    scale_: torch.Tensor
    _products: torch.Tensor | None = None

    def fit_layer(self, pos: torch.Tensor, neg: torch.Tensor) -> State:
        rows = torch.cat([pos.flatten(0, 1), neg.flatten(0, 1)])
        mean = rows.mean(0)
        rows -= mean
        # Covariance with the indicator of each half and template: its share of all states times its mean's distance
        # from theirs. The last one's follows from the others', with which it adds up to 0.
        means = torch.cat([pos.mean(0), neg.mean(0)])
        solver = ShrunkSolver(rows)
        left, right = erasing_factors((means[:-1] - mean).T / len(means), solver)
        along, of_left = rows @ right, rows @ left
        left_out = rows.addmm_(along, left.T, alpha=-1)
        scale = root_mean_square(left_out, left_out)
        left_over = float(scale) ** 2 * rows.numel()
        if solver.gram is not None and left_over > LEAST_LEFT * float(torch.trace(solver.gram)):
            # (Z − A Lᵀ)(Z − A Lᵀ)ᵀ from ZZᵀ, with A = Z R: another product of all rows would cost as much as all the rest. Where
            # nearly all is erased, what is left would be the difference of large float32 numbers.
            crossed = along @ of_left.T
            self._products = (solver.gram - crossed - crossed.T + along @ (left.T @ left) @ along.T) / scale**2
        return {"mean_": mean, "left_": left, "right_": right, "scale_": scale}

    def take_products(self) -> torch.Tensor | None:
        products, self._products = self._products, None
        return products if products is None else products.float()

    def apply(self, pos: torch.Tensor, neg: torch.Tensor) -> Pair:
        halves = []
        for half in (pos, neg):
            layers = [
                erase(half[:, :, k] - self.mean_[k], self.left_[k], self.right_[k]) / self.scale_[k]
                for k in range(half.shape[2])
            ]
            halves.append(torch.stack(layers, 2))
        return halves[0], halves[1]


class ShrunkSolver:
    """Σ̂⁻¹c for the shrunk covariance of (n, d) centred rows, by the smaller of the n × n and the d × d system."""

    def __init__(self, rows: torch.Tensor) -> None:
        n, width = rows.shape
        self.rows = rows
        self.small = n < width
        # With fewer rows than features the floor is at least tr/(n·d), far above what float32 rounds away.
        self.gram = gram(rows.float()).to(rows.dtype) if self.small else None
        products = (self.gram if self.gram is not None else gram(rows.T)) / n
        # The Gram matrix and the covariance have the same trace and Frobenius norm.
        self.keep, self.floor = shrinkage(float(torch.trace(products)), float(products.square().sum()), n, width)
        products *= self.keep
        products.diagonal().add_(self.floor)
        self.factor = torch.linalg.cholesky(products)

    def __call__(self, c: torch.Tensor) -> torch.Tensor:
        if not self.small:
            return torch.cholesky_solve(c, self.factor)
        # Woodbury: (a·XᵀX/n + b·I)⁻¹ = [I − a/n·Xᵀ(a·XXᵀ/n + b·I)⁻¹X] / b
        inner = torch.cholesky_solve(self.rows @ c, self.factor)
        return (c - self.keep / len(self.rows) * (self.rows.T @ inner)) / self.floor


def erase(away: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """x − left · rightᵀx for (…, d) distances from the mean; row by row, so that a batch changes nothing."""
    x = away
    for k in range(left.shape[1]):
        x = x - (away * right[:, k]).sum(-1, keepdim=True) * left[:, k]
    return x


def erasing_factors(
    cross: torch.Tensor, solve: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(d, k) factors C(CᵀΣ⁻¹C)⁺ and Σ⁻¹C for a cross-covariance C (d, k), whose columns are brought to one length first.

    The erasure is the same whatever the columns' lengths are; the pseudo-inverse would take a short one for rounding.
    """
    length = torch.linalg.vector_norm(cross, dim=0)
    cross = cross / torch.where(length > 0, length, torch.ones_like(length))
    right = solve(cross)
    inner = cross.T @ right
    return cross @ torch.linalg.pinv((inner + inner.T) / 2, rtol=1e-10, hermitian=True), right


def shrunk(covariance: torch.Tensor, n: int) -> torch.Tensor:
    """(d, d) covariance of n texts, shrunk."""
    width = len(covariance)
    keep, floor = shrinkage(float(torch.trace(covariance)), float(covariance.square().sum()), n, width)
    return keep * covariance + floor * torch.eye(width, dtype=covariance.dtype)


def shrinkage(trace: float, square: float, n: int, width: int) -> tuple[float, float]:
    """a and b of a·S + b·I (Bodnar et al., 2014, with target I): from tr S, ‖S‖², texts n and width d."""
    spread = square - trace**2 / width
    moved = min(1.0, max(1e-6, (trace**2 / n) / spread)) if spread > 0 else 1.0
    return 1 - moved, moved * trace / width if trace > 0 else 1.0
