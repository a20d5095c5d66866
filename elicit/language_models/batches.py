"""Batches by token budget: texts of like length together, so that next to nothing is spent on padding."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def batches_by_length(lengths: Sequence[int], budget: int, most_rows: int | None = None) -> Iterator[list[int]]:
    """Positions of the sequences, longest first, in batches of at most `budget` tokens with padding.

    A sequence longer than the budget is a batch of its own. Longest first: memory runs out in the first batch or never.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        width = max(1, lengths[order[start]])
        rows = max(1, budget // width)
        if most_rows is not None:
            rows = min(rows, most_rows)
        yield order[start : start + rows]
        start += rows


def shares_by_length(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Positions of the sequences in at most `count` shares of about as many tokens each; none of them is empty."""
    shares = [(0, number, list[int]()) for number in range(count)]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        tokens, number, rows = heapq.heappop(shares)  # the shortest share so far
        rows.append(row)
        heapq.heappush(shares, (tokens + max(1, lengths[row]), number, rows))
    return [sorted(rows) for _, _, rows in sorted(shares, key=lambda share: share[1]) if rows]


def pad_right(sequences: Sequence[Sequence[int]], pad: int = 0) -> torch.Tensor:
    """(b, longest) token ids. Causal attention never lets a padded position on the right reach the tokens before it."""
    width = max(len(sequence) for sequence in sequences)
    out = torch.full((len(sequences), width), pad, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
    return out


def halving_on_out_of_memory(work: Callable[[list[int]], T], rows: list[int]) -> Iterator[tuple[list[int], T]]:
    """`work(rows)`, on ever smaller parts of the batch while memory runs out."""
    try:
        result = work(rows)
    except RuntimeError as error:
        if len(rows) == 1 or not _is_out_of_memory(error):
            raise
    else:
        yield rows, result
        return
    # Only here, behind the except block, are the error, its frames and the tensors in them gone.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    yield from halving_on_out_of_memory(work, rows[:middle])
    yield from halving_on_out_of_memory(work, rows[middle:])


BUDGETS = {"cpu": 1024, "cuda": 16_384}  # tokens per batch, at most


def padded(lengths: Sequence[int], budget: int) -> int:
    """Tokens of the sequences in their batches, padding included."""
    return sum(len(batch) * max(1, lengths[batch[0]]) for batch in batches_by_length(lengths, budget))


def token_budget(model: torch.nn.Module) -> int:
    """Tokens per batch that fit the memory beside the weights; more than 16,384 gain nothing.

    On a CPU some hundred tokens keep the cores busy, and larger activations no longer fit their caches. In bfloat16 readings depend
    a little on their batch, so it must not depend on what else the memory holds at the moment; where that is too much, batches are
    halved.
    """
    parameter = next(model.parameters())
    if parameter.device.type != "cuda":
        return BUDGETS["cpu"]
    _, total = torch.cuda.mem_get_info(parameter.device)
    weights = sum(each.nbytes for each in model.parameters() if each.device == parameter.device)
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    per_token = parameter.element_size() * (12 * config.hidden_size + 2 * config.num_hidden_layers * config.hidden_size)
    fitting = max(512, 0.5 * (total - weights) / per_token)
    # A power of two: an adapter more or less does not change it.
    return min(BUDGETS["cuda"], 1 << int(math.log2(fitting)))


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
