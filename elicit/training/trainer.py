"""transformers' `Trainer` with the verdict loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from elicit.language_models.engine import FAILURES, sliding_window

# Attention within a pack costs the square of its tokens, and every further pack costs the launch of all kernels.
PACK_TOKENS = {"cpu": 768, "cuda": 4096}


class VerdictTrainer(Trainer):  # type: ignore[misc]
    """transformers' `Trainer` with the verdict loss. `heads` are the token ids before the text, one list per domain."""

    def __init__(self, *arguments: Any, heads: Sequence[Sequence[int]], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.heads = heads
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch, whatever its number of tokens
        self._packable: bool | None = None  # not known before the first batch

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Weighted mean cross-entropy, over the batch's verdicts, of the verdict token against the whole vocabulary."""
        verdicts, weights, domains = inputs["verdicts"], inputs["weights"], inputs["domains"]
        total = torch.zeros((), device=verdicts.device)
        for domain in sorted(set(domains.tolist())):
            head, rows = self.heads[domain], torch.nonzero(domains == domain)[:, 0]
            batch = [inputs[name][rows] for name in ("suffixes", "lengths", "reads")]
            packed = self._packed(model, head, *batch)
            room = PACK_TOKENS.get(verdicts.device.type, 4096)
            for part in packs(batch[1], room - len(head)) if packed else [slice(None)]:
                suffixes, lengths, reads = (values[part] for values in batch)
                chosen = rows[part]
                there = reads >= 0
                logits = (packed_logits if packed else padded_logits)(model, head, suffixes, lengths, reads)
                losses = functional.cross_entropy(logits.float(), verdicts[chosen][there], reduction="none")
                total = total + (weights[chosen][there] * losses).sum()
        loss = total / weights.sum()
        return (loss, {}) if return_outputs else loss

    def _packed(
        self, model: Any, head: Sequence[int], suffixes: torch.Tensor, lengths: torch.Tensor, reads: torch.Tensor
    ) -> bool:
        """Whether these rows go through the model in packs."""
        if model is not self.model:
            return False  # wrapped for several devices, where every process must call forward equally often
        window = sliding_window(model)
        if window is not None and len(head) + int(lengths.max()) > window:
            return False  # a mask of our own would undo the window
        if self._packable is None:
            self._packable = self._check(model, head, suffixes[:2], lengths[:2], reads[:2])
        return self._packable

    def _check(self, model: Any, *batch: Any) -> bool:
        """Whether packing gives the logits of padded rows: an architecture with state, say, carries it from row to row."""
        training = model.training
        model.eval()  # dropout would make them differ
        with torch.no_grad():
            right = padded_logits(model, *batch).float()
            try:
                wrong = (packed_logits(model, *batch).float() - right).norm(dim=-1) / right.norm(dim=-1)
            except FAILURES as error:
                reason, difference = f"{type(error).__name__}: {error}", float("inf")
            else:
                difference = float(wrong.max())
                reason = f"packed logits differ by {difference:.3g} of their norm"
        model.train(training)
        if difference <= max(1e-3, 8 * torch.finfo(model.dtype).eps):
            return True
        name = type(model.get_base_model()).__name__
        warnings.warn(f"{name} is trained on padded batches ({reason})", RuntimeWarning, stacklevel=2)
        return False


def packs(lengths: torch.Tensor, room: int) -> Iterator[slice]:
    """Consecutive rows of together at most `room` tokens; a longer row is a pack of its own."""
    start, used = 0, 0
    for row, length in enumerate(lengths.tolist()):
        if row > start and used + length > room:
            yield slice(start, row)
            start, used = row, 0
        used += length
    yield slice(start, len(lengths))


def packed_logits(
    model: Any, head: Sequence[int], suffixes: torch.Tensor, lengths: torch.Tensor, reads: torch.Tensor
) -> torch.Tensor:
    """(m, vocabulary) logits at m verdicts, from one sequence: the head once, then every row, which sees the head and itself.

    No token is padding, none is computed twice, and the head's gradient is that of all rows.

    Args:
        model: of transformers.
        head: token ids that every row begins with.
        suffixes: (b, t) further token ids, padded on the right.
        lengths: (b,) of the suffixes.
        reads: (b, k) places of a suffix that stand before a verdict, −1 where there are fewer than k.
    """
    device, count = suffixes.device, len(head)
    starts = lengths.cumsum(0) - lengths
    own = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    row = torch.cat([torch.full((count,), -1, device=device), own])  # -1: the head, which every row sees
    within = torch.arange(len(own), device=device) - starts[own]
    ids = torch.cat([torch.tensor(list(head), device=device, dtype=torch.long), suffixes[own, within]])
    positions = torch.cat([torch.arange(count, device=device), count + within])
    order = torch.arange(len(ids), device=device)
    allowed = ((row[:, None] == row) | (row == -1)) & (order[:, None] >= order)
    mask = torch.zeros(allowed.shape, dtype=model.dtype, device=device)
    mask = mask.masked_fill(~allowed, torch.finfo(model.dtype).min)[None, None]
    verdicts = (count + starts[:, None] + reads)[reads >= 0]
    output = model(
        input_ids=ids[None], attention_mask=mask, position_ids=positions[None], logits_to_keep=verdicts, use_cache=False
    )
    return torch.as_tensor(output.logits[0])


def padded_logits(
    model: Any, head: Sequence[int], suffixes: torch.Tensor, lengths: torch.Tensor, reads: torch.Tensor
) -> torch.Tensor:
    """As `packed_logits`, from rows padded on the left."""
    width = int(lengths.max()) + len(head)
    ids = torch.zeros((len(suffixes), width), dtype=torch.long, device=suffixes.device)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths.tolist()):
        ids[row, width - length :] = suffixes[row, :length]
        ids[row, width - length - len(head) : width - length] = torch.tensor(list(head), device=ids.device)
        mask[row, width - length - len(head) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    there = reads >= 0
    columns, column = torch.unique((width - lengths[:, None] + reads)[there], return_inverse=True)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    return torch.as_tensor(output.logits[torch.nonzero(there)[:, 0], column])


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Tells a progress bar about optimiser steps."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step, self._done = step, 0

    def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        self._step(state.global_step - self._done)
        self._done = state.global_step
