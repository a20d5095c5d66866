"""Gram matrices at little more than half the price of a general product: what lies above the diagonal is copied."""

from __future__ import annotations

import torch

BLOCKS = 4


def gram(rows: torch.Tensor) -> torch.Tensor:
    """(…, n, n) inner products of (…, n, d) rows."""
    n = rows.shape[-2]
    size = max(1, -(-n // BLOCKS))
    out = rows.new_empty((*rows.shape[:-1], n))
    for start in range(0, n, size):
        stop = min(n, start + size)
        block = rows[..., start:stop, :] @ rows[..., :stop, :].mT
        out[..., start:stop, :stop] = block
        out[..., :start, start:stop] = block[..., :start].mT
    return out


def centred(products: torch.Tensor) -> torch.Tensor:
    """(…, n, n) inner products of rows, as they are about the rows' mean."""
    across = products.mean(-1, keepdim=True)
    return products - across - across.mT + across.mean(-2, keepdim=True)
