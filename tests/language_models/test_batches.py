"""Batches by token budget, and what happens when memory runs out."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from elicit.language_models.batches import (
    batches_by_length,
    halving_on_out_of_memory,
    pad_right,
    padded,
    shares_by_length,
)


@pytest.mark.parametrize("budget", [1, 7, 30, 64, 10_000])
def test_every_row_once_longest_first_within_the_budget(budget):
    lengths = np.random.default_rng(0).integers(0, 30, 200).tolist()
    batches = list(batches_by_length(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    widths = [max(lengths[row] for row in batch) for batch in batches]
    assert widths == sorted(widths, reverse=True)
    assert all(len(batch) == 1 or len(batch) * width <= budget for batch, width in zip(batches, widths, strict=True))


def test_padding_is_counted():
    assert padded([3, 9, 5, 4], 18) == 2 * 9 + 2 * 4  # 9 with 5, 4 with 3
    assert padded([], 18) == 0


def test_at_most_so_many_rows():
    assert [len(batch) for batch in batches_by_length([1] * 10, 100, most_rows=4)] == [4, 4, 2]
    assert list(batches_by_length([], 100)) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_every_row_once_and_about_as_many_tokens(count):
    lengths = np.random.default_rng(0).geometric(0.05, 60).tolist()
    shares = shares_by_length(lengths, count)
    assert sorted(row for rows in shares for row in rows) == list(range(60))
    tokens = [sum(lengths[row] for row in rows) for rows in shares]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert shares_by_length([5, 9], 3) == [[1], [0]]  # no process is asked for nothing
    assert shares_by_length([], 3) == []


def test_padding():
    assert pad_right([[1, 2, 3], [4]], pad=9).tolist() == [[1, 2, 3], [4, 9, 9]]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_halving(error):
    tried = []

    def work(rows: list[int]) -> int:
        tried.append(len(rows))
        if len(rows) > 3:
            raise error
        return sum(rows)

    done = list(halving_on_out_of_memory(work, list(range(10))))
    assert [row for rows, _ in done for row in rows] == list(range(10))
    assert all(value == sum(rows) for rows, value in done)
    assert tried == [10, 5, 2, 3, 5, 2, 3]


def test_one_row_that_does_not_fit_and_other_errors_are_raised():
    def full(_rows: list[int]) -> None:
        raise torch.OutOfMemoryError("out of memory")

    def broken(rows: list[int]) -> None:
        tried.append(len(rows))
        raise RuntimeError("something else")

    tried: list[int] = []
    with pytest.raises(torch.OutOfMemoryError):
        list(halving_on_out_of_memory(full, [1, 2, 3]))
    with pytest.raises(RuntimeError, match="something else"):
        list(halving_on_out_of_memory(broken, [1, 2, 3]))
    assert tried == [3]


def test_what_the_failed_attempt_held_is_free_before_the_next():
    # An exception holds the frames that it went through, and they hold the tensors that filled the memory.
    class Block:
        pass

    held: list[weakref.ref] = []

    def work(rows: list[int]) -> int:
        assert all(block() is None for block in held)
        block = Block()
        held.append(weakref.ref(block))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return len(rows)

    assert len(list(halving_on_out_of_memory(work, list(range(4))))) == 4
