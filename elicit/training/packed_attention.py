"""Attention within a pack, sequence by sequence: what a sequence does not see is not computed.

A pack of t tokens under a mask costs t² scores a head, nearly all of them hidden. Here sequences of like length are laid side by
side, each behind the beginning that it shares, so that a pack costs about what its sequences cost alone. On a CPU the fused
attention of PyTorch (2.13) takes twice the time of plain products where it has a mask and a gradient, and knows no such layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.nn import functional

NAME = "packed_rows"
LIKE = 2  # the longest sequence of a group has at most so many times the tokens of the shortest


class Group(NamedTuple):
    """Sequences of like length; places of tokens in the pack, 0 where there is none.

    Attributes:
        own: (m, l) of m sequences' own tokens.
        seen: (m, s) of the tokens that they see: those of their beginning, then their own.
        hidden: (m, 1, 1, l, s) True where a token does not see another one.
    """

    own: torch.Tensor
    seen: torch.Tensor
    hidden: torch.Tensor


class Rows(NamedTuple):
    """The sequences of a pack.

    Attributes:
        groups: of sequences, beginnings among them.
        order: (t,) of every token of the pack, its place among the groups' tokens, those that fill up included.
    """

    groups: list[Group]
    order: torch.Tensor


def rows_of(begin: Sequence[int], lengths: Sequence[int], which: Sequence[int], device: torch.device) -> Rows:
    """Lay out a pack that holds beginnings first and then sequences, in this order.

    Args:
        begin: tokens of each beginning, perhaps none.
        lengths: (n,) tokens of each sequence behind its beginning.
        which: (n,) the beginning of each.
        device: of what is given.
    """
    counts = torch.tensor([*begin, *lengths])
    starts = counts.cumsum(0) - counts
    before = torch.tensor([-1] * len(begin) + list(which))  # the beginning that a sequence sees: a beginning has none
    order = torch.empty(int(counts.sum()), dtype=torch.long)
    groups, taken = list[Group](), 0
    by_length = [at for at in torch.argsort(counts, descending=True, stable=True).tolist() if counts[at]]
    while by_length:
        longest = int(counts[by_length[0]])
        members = torch.tensor([at for at in by_length if LIKE * int(counts[at]) > longest])
        by_length = by_length[len(members) :]
        count, start, parent = counts[members], starts[members], before[members]
        column = torch.arange(longest)
        there = column < count[:, None]
        own = (start[:, None] + column) * there
        first, width = starts[parent.clamp(min=0)], counts[parent.clamp(min=0)] * (parent >= 0)
        ahead = torch.arange(int(width.max()))
        known = ahead < width[:, None]
        seen = torch.cat([(first[:, None] + ahead) * known, own], 1)
        sees = torch.cat([known[:, None].expand(-1, longest, -1), (column[:, None] >= column) & there[:, None]], 2)
        order[own[there]] = (taken + torch.arange(own.numel()).view(own.shape))[there]
        taken += own.numel()
        groups.append(Group(*(each.to(device) for each in (own, seen, ~sees[:, None, None]))))
    return Rows(groups, order.to(device))


@contextmanager
def by_sequence(model: Any) -> Iterator[None]:
    """Within the block, a model that would use PyTorch's attention on a CPU uses this one."""
    before = model.config._attn_implementation
    if model.device.type != "cpu" or before != "sdpa":
        yield
        return
    _register()
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls an attention function.

    Args:
        query: (b, h, t, d).
        key, value: (b, h', s, d) of h' heads, each of which serves h / h' of the query's.
        attention_mask: (b or 1, 1, t, s) what is added to the scores; that of a pack has its `Rows` as `rows`.

    Returns:
        (b, t, h, d).
    """
    if named.get("position_bias") is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **named
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    how = (scale, softcap, dropout if module.training else 0.0)
    rows: Rows | None = getattr(attention_mask, "rows", None)
    if rows is None:
        return _mixed(query, key, value, attention_mask, *how).transpose(1, 2).contiguous(), None
    # (t, h · d): a token's states lie together, and are fetched together.
    queries, keys, values = (states[0].transpose(0, 1).flatten(1) for states in (query, key, value))
    shared = torch.cat([keys, values], 1)
    parts = []
    for own, seen, hidden in rows.groups:
        asked = functional.embedding(own, queries).view(*own.shape, query.shape[1], -1).transpose(1, 2)
        both = torch.split(functional.embedding(seen, shared), [keys.shape[1], values.shape[1]], -1)
        k, v = (each.view(*seen.shape, key.shape[1], -1).transpose(1, 2) for each in both)
        parts.append(_mixed(asked, k, v, hidden, *how).transpose(1, 2).reshape(own.numel(), -1))
    out = functional.embedding(rows.order, torch.cat(parts))
    return out.view(1, len(out), query.shape[1], -1), None


def _mixed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    dropout: float,
) -> torch.Tensor:
    """(b, h, t, d) values by softmax of scores, which is taken in float32."""
    heads, length = query.shape[1:3]
    groups = key.shape[1]
    scores = query.reshape(len(query), groups, -1, query.shape[-1]) @ key.transpose(2, 3) * scale
    scores = scores.view(len(query), groups, heads // groups, length, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask.unsqueeze(1)
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = functional.dropout(weights, dropout)
    mixed = weights.view(len(query), groups, -1, weights.shape[-1]) @ value
    return mixed.view(len(query), heads, length, -1)


@cache
def _register() -> None:
    # Imported when there is a model, and transformers with it: that takes seconds, and listing methods does not need it.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
