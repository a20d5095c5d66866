"""Logits of many short sequences from one long one: nothing is padding, and what sequences begin with stands there once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from elicit.language_models.batches import shares_by_length
from elicit.training.packed_attention import rows_of

Batch = Mapping[str, torch.Tensor]


class Pack(NamedTuple):
    """Sequences in a row: first the beginnings that they share, then each sequence's own tokens.

    Attributes:
        ids: (t,) token ids.
        positions: (t,) as if each sequence stood alone behind its beginning.
        mask: (1, 1, t, t) additive: a token sees its own sequence and its own beginning, up to itself.
        reads: (m,) places after which tokens are learnt, sequence by sequence.
        parts: what stands where: ("head", number) or ("row", number within the batch), and the number of its tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    reads: torch.Tensor
    parts: list[tuple[tuple[str, int], int]]


def pack_of(batch: Batch, heads: Sequence[Sequence[int]], dtype: torch.dtype) -> Pack:
    """Lay out a batch as `collate` gives it; `heads` are the beginnings by number."""
    suffixes, lengths, own_head = batch["suffixes"], batch["lengths"], batch["heads"]
    device = suffixes.device
    used = sorted(set(own_head.tolist()))
    begin = torch.tensor([len(heads[number]) for number in used], device=device)
    which = torch.tensor([used.index(number) for number in own_head.tolist()], device=device)
    row = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    starts = lengths.cumsum(0) - lengths
    within = torch.arange(len(row), device=device) - starts[row]
    shared = [token for number in used for token in heads[number]]
    ids = torch.cat([torch.tensor(shared, device=device, dtype=torch.long), suffixes[row, within]])
    begins = torch.cat([torch.arange(int(count), device=device) for count in begin] or [row[:0]])
    positions = torch.cat([begins, begin[which][row] + within])
    # Of each token, which beginning it belongs to or follows; and which sequence it is part of, −1 within a beginning.
    head = torch.cat([torch.repeat_interleave(torch.arange(len(used), device=device), begin), which[row]])
    member = torch.cat([torch.full((len(shared),), -1, device=device), row])
    order = torch.arange(len(ids), device=device)
    sees = (member[:, None] == member) | (member == -1)
    allowed = sees & (head[:, None] == head) & (order[:, None] >= order)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)
    mask = mask[None, None]
    if device.type == "cpu":  # elsewhere nothing asks for it
        # The mask carries what it is made of: it comes to every layer, again where activations are computed again.
        setattr(mask, "rows", rows_of(begin.tolist(), lengths.tolist(), which.tolist(), device))  # noqa: B010
    reads = (len(shared) + starts[:, None] + batch["reads"])[batch["reads"] >= 0]
    parts = [(("head", number), len(heads[number])) for number in used]
    parts += [(("row", number), length) for number, length in enumerate(lengths.tolist())]
    return Pack(ids, positions, mask, reads, parts)


def packed_logits(model: Any, batch: Batch, heads: Sequence[Sequence[int]]) -> torch.Tensor:
    """(m, vocabulary) logits before the m tokens that a batch learns, from one sequence.

    No token is computed twice, and a beginning's gradient is that of all sequences which follow it.
    """
    pack = pack_of(batch, heads, inner(model).dtype)
    output = model(
        input_ids=pack.ids[None],
        attention_mask=pack.mask,
        position_ids=pack.positions[None],
        logits_to_keep=pack.reads,
        use_cache=False,
    )
    return torch.as_tensor(output.logits[0])


def padded_logits(model: Any, batch: Batch, heads: Sequence[Sequence[int]]) -> torch.Tensor:
    """As `packed_logits`, from rows padded on the left: what every architecture and every wrapper understands."""
    suffixes, lengths, reads = batch["suffixes"], batch["lengths"], batch["reads"]
    begins = [list(heads[number]) for number in batch["heads"].tolist()]
    full = torch.tensor([len(begin) for begin in begins], device=lengths.device) + lengths
    width = int(full.max())
    ids = torch.zeros((len(begins), width), dtype=torch.long, device=suffixes.device)
    mask = torch.zeros_like(ids)
    for row, (begin, length) in enumerate(zip(begins, lengths.tolist(), strict=True)):
        ids[row, width - length :] = suffixes[row, :length]
        ids[row, width - length - len(begin) : width - length] = torch.tensor(begin, device=ids.device)
        mask[row, width - length - len(begin) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    there = reads >= 0
    columns, column = torch.unique((width - lengths[:, None] + reads)[there], return_inverse=True)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    return torch.as_tensor(output.logits[torch.nonzero(there)[:, 0], column])


def inner(model: Any) -> Any:
    """The model itself, where several processes train it through a wrapper."""
    return getattr(model, "module", model)


def share_of(batch: Batch, number: int, count: int) -> dict[str, torch.Tensor]:
    """The rows of a batch that one of several processes takes; where there are too few rows, one that counts nothing."""
    shares = shares_by_length(batch["lengths"].tolist(), count)
    if number < len(shares):
        return {name: values[shares[number]] for name, values in batch.items()}
    return {name: values[:1] * (0 if name in ("weights", "counts") else 1) for name, values in batch.items()}


def packs(batch: Batch, heads: Sequence[Sequence[int]], room: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batch in parts whose tokens, with their beginnings, are at most `room`; a longer row is a part of its own.

    Rows with one beginning come together, so that few parts repeat it.
    """
    lengths, numbers = batch["lengths"].tolist(), batch["heads"].tolist()
    part: list[int] = []
    held: set[int] = set()
    used = 0
    for row in sorted(range(len(lengths)), key=lambda row: numbers[row]):
        more = lengths[row] + (0 if numbers[row] in held else len(heads[numbers[row]]))
        if part and used + more > room:
            yield {name: values[part] for name, values in batch.items()}
            part, held, used = [], set(), 0
            more = lengths[row] + len(heads[numbers[row]])
        part.append(row)
        held.add(numbers[row])
        used += more
    if part:
        yield {name: values[part] for name, values in batch.items()}
