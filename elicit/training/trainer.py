"""transformers' `Trainer` with the verdict loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from elicit.language_models.engine import expand_cache


class VerdictTrainer(Trainer):  # type: ignore[misc]
    """transformers' `Trainer` with the verdict loss. `heads` are the token ids before the text, one list per domain."""

    def __init__(self, *arguments: Any, heads: Sequence[Sequence[int]], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.heads = heads
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch, whatever its number of tokens

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Mean cross-entropy, over the batch's rows, of the verdict token against the whole vocabulary."""
        alone = model is self.model and not self.args.gradient_checkpointing
        verdict_logits = _shared_head_logits if alone else _whole_logits
        device = inputs["verdicts"].device
        total = torch.zeros((), device=device)
        for domain in sorted(set(inputs["domains"].tolist())):
            rows = inputs["domains"] == domain
            # The decoder is called on its own, outside the forward that accelerate puts under autocast.
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
                logits = verdict_logits(model, self.heads[domain], inputs["suffixes"][rows], inputs["lengths"][rows])
            total = total + functional.cross_entropy(logits.float(), inputs["verdicts"][rows], reduction="sum")
        loss = total / len(inputs["verdicts"])
        return (loss, {}) if return_outputs else loss


def _shared_head_logits(model: Any, head: Sequence[int], suffixes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(b, vocabulary) logits at the verdict; the head runs once and its keys and values carry gradients of all rows."""
    causal = model.get_base_model()
    decoder = causal.get_decoder()
    suffixes = suffixes[:, : int(lengths.max())]
    start = decoder(input_ids=torch.tensor([list(head)], device=suffixes.device), use_cache=True).past_key_values
    hidden = decoder(input_ids=suffixes, past_key_values=expand_cache(start, len(suffixes)), use_cache=True)
    rows = torch.arange(len(suffixes), device=suffixes.device)
    return torch.as_tensor(causal.get_output_embeddings()(hidden.last_hidden_state[rows, lengths - 1]))


def _whole_logits(model: Any, head: Sequence[int], suffixes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(b, vocabulary) logits at the verdict through the wrapped model's own forward, padded on the left: for DDP and FSDP."""
    width = int(lengths.max()) + len(head)
    ids = torch.zeros((len(suffixes), width), dtype=torch.long, device=suffixes.device)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths.tolist()):
        ids[row, width - length :] = suffixes[row, :length]
        ids[row, width - length - len(head) : width - length] = torch.tensor(list(head), device=ids.device)
        mask[row, width - length - len(head) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False)
    return torch.as_tensor(output.logits[:, -1])


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Tells a progress bar about optimiser steps."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step, self._done = step, 0

    def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        self._step(state.global_step - self._done)
        self._done = state.global_step
