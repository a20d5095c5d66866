"""L-BFGS for many linear models at once, with line searches that cost no product with the data.

The problems are `loss(Zθ + b) + ½·decay·(‖θ‖² + b²)`, one per layer and restart. Logits are linear in the parameters,
so that along a search direction they are `u + t·Δu`: once Δu is known, every step length t is tried in time n, and an
iteration costs one product with the data however long its line search is.

Two representations give the same iterates:

`Direct`     θ itself: an iteration is a product with Z and one with Zᵀ, 2·N·d.
`RowSpace`   θ = c·θ₀ + Zᵀa (representer form; Schölkopf et al., 2001): gradients stay in this form, and inner products
             and logits come from the Gram matrix K = ZZᵀ, so an iteration is one product with K, N². Right where N
             rows are fewer than 2·d.

A vector is held as its coefficients followed by its image under the metric, so that ⟨v, w⟩ = coefficients(v) · image(w)
in both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from probes._gram import gram

# (l, r, N) logits → (l, r) losses and (l, r, N) derivatives
LogitLoss = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

HISTORY = 10
SUFFICIENT = 1e-4  # Armijo's share of the decrease that the slope promises
CURVATURE = 0.9  # Wolfe's share of the slope that may be left
TRIALS = 20


class LinearModels(ABC):
    """Linear models of l layers, with products in one of the two representations. Vectors: (l, r, m); logits: (l, r, N)."""

    @abstractmethod
    def start(self) -> torch.Tensor:
        """The starting vectors, with bias 0."""

    @abstractmethod
    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """Zθ + b."""

    @abstractmethod
    def gradient(self, by_logit: torch.Tensor, vectors: torch.Tensor, decay: float) -> torch.Tensor:
        """The vector Zᵀg + decay·θ (and its bias) from derivatives g by logit."""

    @abstractmethod
    def inner(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(l, r, i, j) inner products of (l, r, i, m) with (l, r, j, m)."""

    @abstractmethod
    def parameters(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """θ (l, r, d) and b (l, r)."""

    @abstractmethod
    def of(self, layers: torch.Tensor, restarts: torch.Tensor) -> LinearModels:
        """The same models of some layers and restarts only."""


class Direct(LinearModels):
    """Vectors are (θ, b)."""

    def __init__(self, z: torch.Tensor, theta: torch.Tensor) -> None:
        self.z, self.theta = z, theta

    def start(self) -> torch.Tensor:
        return torch.cat([self.theta, torch.zeros_like(self.theta[..., :1])], -1)

    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.einsum("lrd,lnd->lrn", vectors[..., :-1], self.z) + vectors[..., -1:]

    def gradient(self, by_logit: torch.Tensor, vectors: torch.Tensor, decay: float) -> torch.Tensor:
        weight = torch.einsum("lrn,lnd->lrd", by_logit, self.z)
        return torch.cat([weight, by_logit.sum(-1, keepdim=True)], -1) + decay * vectors

    def inner(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.einsum("lrim,lrjm->lrij", v, w)

    def parameters(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return vectors[..., :-1], vectors[..., -1]

    def of(self, layers: torch.Tensor, restarts: torch.Tensor) -> Direct:
        return Direct(_pick(self.z, layers), _pick(_pick(self.theta, layers), restarts, 1))


class RowSpace(LinearModels):
    """Vectors are (a, c, b) followed by their images (Ka + c·u₀, u₀·a + c‖θ₀‖², b), where u₀ = Zθ₀."""

    def __init__(self, z: torch.Tensor, theta: torch.Tensor, products: torch.Tensor | None = None) -> None:
        self.z, self.theta = z, theta
        self.gram = gram(z) if products is None else products
        self.logits0 = torch.einsum("lrd,lnd->lrn", theta, z)
        self.square0 = theta.square().sum(-1, keepdim=True)

    def start(self) -> torch.Tensor:
        zero, one = torch.zeros_like(self.square0), torch.ones_like(self.square0)
        return torch.cat([torch.zeros_like(self.logits0), one, zero, self.logits0, self.square0, zero], -1)

    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        rows = self.z.shape[1]
        return vectors[..., rows + 2 : -2] + vectors[..., -1:]

    def gradient(self, by_logit: torch.Tensor, vectors: torch.Tensor, decay: float) -> torch.Tensor:
        bias = by_logit.sum(-1, keepdim=True)
        of_start = (by_logit * self.logits0).sum(-1, keepdim=True)
        image = torch.einsum("lrn,lnm->lrm", by_logit, self.gram)
        return torch.cat([by_logit, torch.zeros_like(bias), bias, image, of_start, bias], -1) + decay * vectors

    def inner(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        size = self.z.shape[1] + 2
        return torch.einsum("lrim,lrjm->lrij", v[..., :size], w[..., size:])

    def parameters(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self.z.shape[1]
        spanned = torch.einsum("lrn,lnd->lrd", vectors[..., :rows], self.z)
        return spanned + vectors[..., rows : rows + 1] * self.theta, vectors[..., -1]

    def of(self, layers: torch.Tensor, restarts: torch.Tensor) -> RowSpace:
        part = object.__new__(RowSpace)
        part.z, part.gram = _pick(self.z, layers), _pick(self.gram, layers)
        part.theta = _pick(_pick(self.theta, layers), restarts, 1)
        part.logits0 = _pick(_pick(self.logits0, layers), restarts, 1)
        part.square0 = _pick(_pick(self.square0, layers), restarts, 1)
        return part


def linear_models(z: torch.Tensor, theta: torch.Tensor, products: torch.Tensor | None = None) -> LinearModels:
    """The cheaper representation for (l, N, d) rows, their (l, N, N) inner products where these are known, and (l, r, d) starts."""
    return RowSpace(z, theta, products) if z.shape[1] < 2 * z.shape[2] else Direct(z, theta)


def minimise(
    models: LinearModels, loss: LogitLoss, decay: float, iterations: int, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise `loss(Zθ + b) + ½·decay·(‖θ‖² + b²)` for every layer and restart from its own start.

    Args:
        models: data and starts.
        loss: of logits, with its derivative.
        decay: weight of the squared norm, 0 or more.
        iterations: most steps.
        tolerance: a problem rests once ten steps together gained less than this share of its loss.

    Returns:
        (l, r, m) vectors and (l, r) objectives.
    """
    whole = models.start()
    found = torch.zeros(whole.shape[:2], dtype=whole.dtype)
    layers, restarts = torch.arange(whole.shape[0]), torch.arange(whole.shape[1])
    at, logits = whole, models.logits(whole)
    value, by_logit = loss(logits)
    square = models.inner(at[:, :, None], at[:, :, None])[..., 0, 0]
    value = value + decay / 2 * square
    gradient = models.gradient(by_logit, at, decay)
    history = _History(at)
    earlier = [value]
    resting = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(iterations):
        direction = history.direction(models, gradient)
        slope = models.inner(direction[:, :, None], gradient[:, :, None])[..., 0, 0]
        downhill = slope < 0
        resting = resting | ~downhill
        direction = torch.where(resting[..., None], torch.zeros_like(direction), direction)
        along = models.logits(direction)
        products = models.inner(torch.stack([at, direction], 2), direction[:, :, None])[..., 0]
        search = _Line(loss, decay, logits, along, square, products)
        first = 1 / slope.abs().sqrt().clamp(min=1.0) if not history.count else torch.ones_like(value)
        length, new_value, by_logit = search.wolfe(value, torch.where(resting, torch.zeros_like(slope), slope), first)
        step = length[..., None] * direction
        at, logits = at + step, logits + length[..., None] * along
        square = square + 2 * length * products[..., 0] + length.square() * products[..., 1]
        new_gradient = models.gradient(by_logit, at, decay)
        history.add(models, step, new_gradient - gradient)
        value, gradient = new_value, new_gradient
        earlier.append(value)
        if len(earlier) > 10:
            gained = earlier.pop(0) - value
            resting = resting | (gained <= tolerance * value.abs())
        if bool(resting.all(1).any()) or bool(resting.all(0).any()):
            # What rests is put away, so that the rest costs what the rest costs.
            whole[layers[:, None], restarts] = at
            found[layers[:, None], restarts] = value
            if bool(resting.all()):
                return whole, found
            rows, columns = (~resting.all(1)).nonzero()[:, 0], (~resting.all(0)).nonzero()[:, 0]
            layers, restarts, models = layers[rows], restarts[columns], models.of(rows, columns)
            at, logits, gradient, value, square, resting, *earlier = (
                _pick(_pick(part, rows), columns, 1)
                for part in (at, logits, gradient, value, square, resting, *earlier)
            )
            history.keep(rows, columns)
    whole[layers[:, None], restarts] = at
    found[layers[:, None], restarts] = value
    return whole, found


class _History:
    """The last steps and changes of gradient, and the two-loop recursion (Nocedal & Wright, 2006, algorithm 7.4).

    Rows 2i and 2i + 1 of a buffer hold step i and its change; their inner products are kept beside them, so that the recursion
    itself is on (l, r) numbers (Chen et al., 2014, vector-free L-BFGS).
    """

    def __init__(self, like: torch.Tensor) -> None:
        layers, restarts, size = like.shape
        self.buffer = like.new_zeros((layers, restarts, 2 * HISTORY, size))
        self.products = like.new_zeros((layers, restarts, 2 * HISTORY, 2 * HISTORY))
        self.rho = like.new_zeros((layers, restarts, HISTORY))
        self.scale = like.new_ones((layers, restarts))
        self.count = 0

    def add(self, models: LinearModels, step: torch.Tensor, change: torch.Tensor) -> None:
        place = self.count % HISTORY
        self.count += 1
        rows = 2 * min(self.count, HISTORY)
        pair = slice(2 * place, 2 * place + 2)
        self.buffer[:, :, pair] = torch.stack([step, change], 2)
        products = models.inner(self.buffer[:, :, :rows], self.buffer[:, :, pair])
        self.products[:, :, :rows, pair] = products
        self.products[:, :, pair, :rows] = products.transpose(2, 3)
        curvature, square = products[:, :, 2 * place, 1], products[:, :, 2 * place + 1, 1]
        # A pair without positive curvature counts as absent, problem by problem.
        usable = curvature > 1e-10 * square
        self.rho[..., place] = torch.where(usable, 1 / curvature.clamp(min=1e-30), torch.zeros_like(curvature))
        self.scale = torch.where(usable, curvature / square.clamp(min=1e-30), self.scale)

    def keep(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        self.buffer, self.products, self.rho, self.scale = (
            _pick(_pick(part, rows), columns, 1) for part in (self.buffer, self.products, self.rho, self.scale)
        )

    def direction(self, models: LinearModels, gradient: torch.Tensor) -> torch.Tensor:
        """−Hg, where H approximates the inverse Hessian."""
        if not self.count:
            return -gradient
        held = min(self.count, HISTORY)
        order = [(self.count - held + i) % HISTORY for i in range(held)]  # the oldest first
        buffer, products = self.buffer[:, :, : 2 * held], self.products[:, :, : 2 * held, : 2 * held]
        with_gradient = models.inner(buffer, gradient[:, :, None])[..., 0]
        # Hg = scale·g + the buffer's rows weighted with these; the product with the direction so far is kept up to date.
        weights = torch.zeros_like(with_gradient)
        so_far = with_gradient
        for i in reversed(order):
            alpha = self.rho[..., i] * so_far[..., 2 * i]
            weights[..., 2 * i + 1] = -alpha
            so_far = so_far - alpha[..., None] * products[..., 2 * i + 1]
        alphas = -weights[..., 1::2]
        weights, so_far = self.scale[..., None] * weights, self.scale[..., None] * so_far
        for i in order:
            beta = alphas[..., i] - self.rho[..., i] * so_far[..., 2 * i + 1]
            weights[..., 2 * i] = beta
            so_far = so_far + beta[..., None] * products[..., 2 * i]
        return -(self.scale[..., None] * gradient + torch.einsum("lrh,lrhm->lrm", weights, buffer))


class _Line:
    """The objective along θ + t·p."""

    def __init__(
        self,
        loss: LogitLoss,
        decay: float,
        logits: torch.Tensor,
        along: torch.Tensor,
        square: torch.Tensor,
        products: torch.Tensor,
    ) -> None:
        self.loss, self.decay, self.logits, self.along = loss, decay, logits, along
        self.square, self.cross, self.ahead = square, products[..., 0], products[..., 1]

    def at(self, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Value, slope, and derivatives by logit."""
        value, by_logit = self.loss(self.logits + length[..., None] * self.along)
        norm = self.square + 2 * length * self.cross + length.square() * self.ahead
        slope = (by_logit * self.along).sum(-1) + self.decay * (self.cross + length * self.ahead)
        return value + self.decay / 2 * norm, slope, by_logit

    def wolfe(
        self, value: torch.Tensor, slope: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Lengths that meet the weak Wolfe conditions, with the values and derivatives there.

        By doubling and bisection, which kinks do not mislead (Lewis & Overton, 2013).
        """
        low, high, length = torch.zeros_like(value), torch.full_like(value, torch.inf), first
        best_length, best_value = torch.zeros_like(value), value
        best_by_logit = None
        done = slope == 0
        for _ in range(TRIALS):
            trial, trial_slope, by_logit = self.at(length)
            decreased = trial <= value + SUFFICIENT * length * slope
            better = decreased & (trial <= best_value) & ~done
            best_length, best_value = torch.where(better, length, best_length), torch.where(better, trial, best_value)
            by = torch.zeros_like(by_logit) if best_by_logit is None else best_by_logit
            best_by_logit = torch.where(better[..., None], by_logit, by)
            done = done | (decreased & (trial_slope >= CURVATURE * slope))
            if bool(done.all()):
                break
            low, high = torch.where(decreased, length, low), torch.where(decreased, high, length)
            length = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        stayed = best_length == 0
        if best_by_logit is None or bool(stayed.any()):
            _, _, by_logit = self.at(torch.zeros_like(value))
            by = by_logit if best_by_logit is None else best_by_logit
            best_by_logit = torch.where(stayed[..., None], by_logit, by)
        return best_length, best_value, best_by_logit


def _pick(tensor: torch.Tensor, index: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """`index_select`, but no copy where nothing is left out."""
    return tensor if len(index) == tensor.shape[axis] else tensor.index_select(axis, index)
