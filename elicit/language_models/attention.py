"""Attention on a CPU in bfloat16, by matrix products of blocks of queries.

PyTorch's fused attention there (2.13) was measured to take up to 2.7 times as long as the products that it consists of. Queries are
taken some hundred at a time, so that their scores stay in the cache, and behind the last key that any of them may see nothing is
computed. Scores are rounded to bfloat16 before softmax: the rank agreement of SmolLM2-135M with float32 moved by less than .005.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

NAME = "matrix_products"
QUERIES = 256  # that are scored at once


@contextmanager
def by_matrix_products(model: Any) -> Iterator[None]:
    """Within the block, a model that would use PyTorch's attention on a CPU in bfloat16 uses this one."""
    config = model.config
    before = config._attn_implementation
    if before != "sdpa" or model.device.type != "cpu" or model.dtype != torch.bfloat16:
        yield
        return
    _register()
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls an attention function.

    Args:
        query: (b, h, t, d).
        key, value: (b, h', s, d) of h' heads, each of which serves h / h' of the query's.
        attention_mask: (b or 1, 1, t, s), True where a query sees a key, or what is added to the score; None: causal.

    Returns:
        (b, t, h, d).
    """
    causal = attention_mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    batch, heads, length, width = query.shape
    shared, seen = key.shape[1:3]
    unlike = (
        named.get("position_bias") is not None or named.get("softcap") is not None or key.shape[-1] != value.shape[-1]
    )
    by_head = attention_mask is not None and attention_mask.shape[1] != 1
    if unlike or by_head or dropout or length == 1 or (causal and length != seen) or query.dtype != torch.bfloat16:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **named
        )
        return found
    scale = width**-0.5 if scaling is None else scaling
    queries = (query * scale).view(batch, shared, -1, length, width)
    keys = key.transpose(2, 3)
    out = torch.empty(batch, length, heads, width, dtype=query.dtype, device=query.device)
    for first in range(0, length, QUERIES):
        block = slice(first, min(length, first + QUERIES))
        hidden = _hidden(attention_mask, block, causal)
        # Behind the last key that one of these queries sees there is nothing to compute.
        end = block.stop if causal else seen
        if hidden is not None and not causal:
            end = int((~hidden).flatten(0, 2).any(0).nonzero().max()) + 1 if not hidden.all() else seen
            hidden = hidden[..., :end]
        count = block.stop - block.start
        scores = torch.matmul(queries[:, :, :, block].flatten(2, 3), keys[..., :end])
        scores = scores.view(batch, shared, -1, count, end)
        if hidden is not None:
            scores[..., end - hidden.shape[-1] :].masked_fill_(hidden[:, :, None], torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1).flatten(2, 3)
        mixed = torch.matmul(weights, value[:, :, :end]).view(batch, heads, count, width)
        out[:, block] = mixed.transpose(1, 2)
    return out, None


def _hidden(mask: torch.Tensor | None, block: slice, causal: bool) -> torch.Tensor | None:
    """(b or 1, 1, n, m) True where queries of a block do not see one of the last m keys."""
    if mask is not None:
        rows = mask[:, :, block]
        return ~rows if rows.dtype == torch.bool else rows < torch.finfo(rows.dtype).min / 2
    if not causal:
        return None
    count = block.stop - block.start
    return torch.ones(count, count, dtype=torch.bool).triu(1)[None, None]


@cache
def _register() -> None:
    # Imported when there is a model, and transformers with it: that takes seconds, and listing methods does not need it.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
