"""Leading eigenvectors of matrices that are only known as products, of every layer at once.

A d × d matrix such as a covariance costs n·d² to form and d³ to decompose; its product with a vector costs n·d.
Lanczos' method with full reorthogonalisation (Golub & Van Loan, 2013, §10.3) needs some dozens of such products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Product = Callable[[torch.Tensor], torch.Tensor]
STEPS = 300  # beyond this the gap is too small for the eigenvector to mean anything
CHECK_EVERY = 10


def leading_eigenpairs(
    product: Product,
    start: torch.Tensor,
    count: int = 2,
    tolerance: float = 1e-5,
    loose: float = 1e-2,
    metric: Product | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest eigenvalues, and their eigenvectors, of symmetric matrices that lie along the leading axis.

    Args:
        product: (l, d) vectors → (l, d) products with each layer's d × d matrix.
        start: (l, d) first vectors.
        count: how many pairs k.
        tolerance: of the residual of the first pair, relative to the layer's largest absolute eigenvalue.
        loose: the same of the other pairs.
        metric: products with a positive semidefinite matrix K, if the matrices are symmetric in ⟨v, w⟩ = vᵀKw and not
            in vᵀw; `product` then gets Kv in place of v, which is known already.

    Returns:
        (l, k) values, descending, and (l, k, d) vectors of norm 1 (in the metric). Vectors have no sign of their own.
        Where a matrix has fewer directions than k, zeros fill up.
    """
    layers, width = start.shape
    steps = min(width, STEPS)
    basis = start.new_zeros((layers, steps, width))
    images = basis if metric is None else torch.zeros_like(basis)
    diagonal, beside = start.new_zeros((layers, steps)), start.new_zeros((layers, steps))
    rest = start
    image = rest if metric is None else metric(rest)
    norm = (rest * image).sum(-1).clamp(min=0).sqrt()
    exhausted = norm == 0
    below, filled = torch.zeros_like(norm), torch.zeros_like(exhausted)
    for step in range(steps):
        safe = torch.where(exhausted, torch.full_like(norm, torch.inf), norm)[:, None]
        basis[:, step] = rest / safe
        if metric is not None:
            images[:, step] = image / safe
        rest = product(images[:, step])
        # Zeros stand in for a layer that is done; a value below its spectrum keeps them out of the leading pairs.
        below = torch.where(exhausted & ~filled, -1 - 2 * diagonal[:, : step + 1].abs().amax(-1), below)
        filled = exhausted
        diagonal[:, step] = torch.where(exhausted, below, (rest * images[:, step]).sum(-1))
        # Twice is enough (Giraud & Langou, 2005) to keep the basis orthogonal to working precision.
        for _ in range(2):
            inner = project(images[:, : step + 1], rest)
            rest = rest - combine(inner, basis[:, : step + 1])
        image = rest if metric is None else metric(rest)
        norm = (rest * image).sum(-1).clamp(min=0).sqrt()
        size = diagonal[:, : step + 1].abs().amax(-1) + beside[:, : step + 1].amax(-1) + norm
        exhausted = norm <= 20 * torch.finfo(start.dtype).eps * size
        beside[:, step] = torch.where(exhausted, torch.zeros_like(norm), norm)
        last = step + 1 == steps or bool(exhausted.all())
        if last or (step + 1) % CHECK_EVERY == 0:
            values, mix = _tridiagonal(diagonal[:, : step + 1], beside[:, :step])
            residual = norm[:, None] * mix[:, -1, -count:].abs() / values.abs().amax(-1, keepdim=True).clamp(min=1e-30)
            converged = (residual[:, -1] <= tolerance) & (residual <= loose).all(-1) & (step + 1 >= count)
            if last or bool((exhausted | converged).all()):
                break
    kept = min(count, values.shape[-1])
    top = mix[..., -kept:].flip(-1)
    found, vectors = start.new_zeros((layers, count)), start.new_zeros((layers, count, width))
    found[:, :kept] = values[:, -kept:].flip(-1)
    vectors[:, :kept] = torch.einsum("lsd,lsk->lkd", basis[:, : mix.shape[1]], top)
    return found, vectors


def project(rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(l, m) products of (l, m, d) rows with (l, d) vectors.

    Layer by layer: a batched product with one column is several times slower than a matrix-vector product.
    """
    return torch.stack([layer @ vector for layer, vector in zip(rows, vectors, strict=True)])


def combine(weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(l, d) sums of (l, m, d) rows with (l, m) weights."""
    return torch.stack([weight @ layer for weight, layer in zip(weights, rows, strict=True)])


def principal_components(
    rows: torch.Tensor, count: int = 2, tolerance: float = 1e-5, loose: float = 1e-2
) -> tuple[torch.Tensor, torch.Tensor]:
    """`leading_eigenpairs` of the second moment of (l, m, d) rows."""

    def product(vectors: torch.Tensor) -> torch.Tensor:
        return combine(project(rows, vectors), rows) / rows.shape[1]

    return leading_eigenpairs(product, starting_vectors(rows), count, tolerance, loose)


def _tridiagonal(diagonal: torch.Tensor, beside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending eigenvalues and eigenvectors of the (l, s, s) matrices with these (l, s) and (l, s − 1) diagonals."""
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def starting_vectors(like: torch.Tensor) -> torch.Tensor:
    """(l, d) first vectors for matrices of (l, …, d) rows: always the same, in no particular direction."""
    vector = torch.randn(like.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return vector.to(like.dtype).repeat(len(like), 1)


def canonical_sign(direction: torch.Tensor) -> torch.Tensor:
    """(…, d) directions with their largest entry positive.

    An eigenvector has no sign; a fitted probe must have the same every time.
    """
    largest = direction.abs().argmax(-1, keepdim=True)
    return direction * torch.sign(direction.gather(-1, largest))
