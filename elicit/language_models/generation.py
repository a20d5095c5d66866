"""Answers in the model's own words: batched, the common beginning computed once, and sampled so that batches do not matter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elicit.language_models.batches import batches_by_length, halving_on_out_of_memory, pad_right
from elicit.language_models.decoder import sliding_window
from elicit.language_models.engine import FAILURES, Engine, Progress, expand_cache

CPU_ROWS = 4  # times as many rows in a batch as where texts are only read


@dataclass(frozen=True)
class Generation:
    """What a model wrote about one text.

    Attributes:
        text: its words, without the token that ends an answer.
        ids: (t,) its token ids, likewise.
        finished: True when the model ended by itself, False when its tokens ran out.
        reason: why there is no answer, else None.
    """

    text: str
    ids: tuple[int, ...] = ()
    finished: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: answers end after this many.
        stop: token ids that end an answer.
        temperature: of the softmax that is sampled from; 0 takes the likeliest token.
        seed: of the sampling; what is drawn for a text depends on the seed and on its prompt, never on its batch.
    """

    max_tokens: int
    stop: frozenset[int]
    temperature: float = 0.0
    seed: int = 0

    def uniforms(self, prompt: Sequence[int]) -> NDArray[np.float64]:
        """(max_tokens,) numbers in [0, 1), one for each token of the answer to this prompt."""
        return np.random.default_rng([self.seed, *prompt]).random(self.max_tokens)

    def choose(self, logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """(b,) tokens from (b, v) float32 logits and (b,) uniform numbers, by inversion of the distribution function."""
        if self.temperature == 0:
            return logits.argmax(-1)
        cumulative = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
        chosen = torch.searchsorted(cumulative, uniforms[:, None].to(cumulative) * cumulative[:, -1:], right=True)
        return chosen[:, 0].clamp(max=logits.shape[1] - 1)


@torch.inference_mode()
def generate(
    engine: Engine,
    prefix: Sequence[int],
    suffixes: Sequence[Sequence[int]],
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Token ids that follow n prompts which share a prefix; an answer that ended by itself ends with a stop token.

    Args:
        engine: of the language model.
        prefix: token ids with which every prompt begins; computed once.
        suffixes: (n,) token ids that follow.
        sampling: how tokens are chosen.
        progress: called with the number of answers done.
    """
    answers: list[list[int]] = [[] for _ in suffixes]
    window = sliding_window(engine.model)
    longest = len(prefix) + max(map(len, suffixes), default=0) + sampling.max_tokens
    # A mask of our own would undo a window of attention.
    batched = engine.fast and engine.generates_in_batches and (window is None or longest <= window)
    start = engine.start(prefix) if batched else None
    draws = [sampling.uniforms([*prefix, *suffix]) for suffix in suffixes]

    def work(rows: list[int]) -> list[list[int]]:
        chosen, uniforms = [suffixes[row] for row in rows], np.stack([draws[row] for row in rows])
        if batched:
            return _batch(engine, start, len(prefix), chosen, uniforms, sampling)
        return [_alone(engine, [*prefix, *chosen[0]], uniforms[0], sampling)]

    # What a batch holds in the end: prefix, prompts and answers of all its rows.
    lengths = [len(suffix) + sampling.max_tokens for suffix in suffixes]
    # A step reads all weights for one token a row: on a CPU, whose batches are small, few rows would mostly wait for them.
    room = engine.room(prefix) * (CPU_ROWS if engine.model.device.type == "cpu" else 1)
    for batch in batches_by_length(lengths, room, None if batched else 1):
        for rows, found in halving_on_out_of_memory(work, batch):
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
            if progress:
                progress(len(rows))
    return answers


def _batch(
    engine: Engine,
    start: Any,
    prefix: int,
    suffixes: Sequence[Sequence[int]],
    uniforms: NDArray[np.float64],
    sampling: Sampling,
) -> list[list[int]]:
    """Answers to a batch. Prompts are padded on the right; the gap between a prompt and its answer is masked."""
    device = engine.model.device
    lengths = torch.tensor([len(suffix) for suffix in suffixes], device=device)
    width = int(lengths.max())
    answers: list[list[int]] = [[] for _ in suffixes]
    alive = list(range(len(suffixes)))
    past = expand_cache(start, len(suffixes)) if start is not None else None
    logits, past = engine.next_logits(pad_right(suffixes), past, lengths - 1)
    for step in range(sampling.max_tokens):
        tokens = sampling.choose(logits, torch.from_numpy(uniforms[alive, step]))
        for row, token in zip(alive, tokens.tolist(), strict=True):
            answers[row].append(token)
        going = [i for i, row in enumerate(alive) if answers[row][-1] not in sampling.stop]
        if not going or step + 1 == sampling.max_tokens:
            break
        if len(going) < len(alive):
            keep = torch.tensor(going, device=device)
            past.batch_select_indices(keep)
            alive, tokens, lengths = [alive[i] for i in going], tokens[keep], lengths[keep]
        logits, past = _step(engine, past, tokens, prefix, width, lengths, step)
    return answers


def _alone(engine: Engine, prompt: list[int], uniforms: NDArray[np.float64], sampling: Sampling) -> list[int]:
    """The answer to one prompt by whole forward passes: slow, and right for every architecture."""
    answer: list[int] = []
    for uniform in uniforms:
        ids = torch.tensor([[*prompt, *answer]], device=engine.model.device)
        engine.meter.tokens += ids.numel()
        logits = engine.model(input_ids=ids, use_cache=False).logits[:, -1].float()
        answer.append(int(sampling.choose(logits, torch.tensor([uniform]))))
        if answer[-1] in sampling.stop:
            break
    return answer


def _step(
    engine: Engine,
    past: Any,
    tokens: torch.Tensor,
    prefix: int,
    width: int,
    lengths: torch.Tensor,
    step: int,
) -> tuple[torch.Tensor, Any]:
    """(b, v) logits after answer token number `step` of each row, and the longer cache.

    The cache holds the prefix, `width` places of which a row's prompt fills the first `lengths`, and the answers so far.
    """
    place = torch.arange(prefix + width + step + 1, device=tokens.device)
    gap = (place >= prefix + lengths[:, None]) & (place < prefix + width)
    dtype = engine.model.dtype
    mask = torch.zeros(gap.shape, dtype=dtype, device=tokens.device).masked_fill(gap, torch.finfo(dtype).min)
    positions = (prefix + lengths + step)[:, None]
    return engine.next_logits(tokens[:, None], past, torch.zeros_like(lengths), mask[:, None, None], positions)


@torch.inference_mode()
def check_generation(engine: Engine, prefix: Sequence[int], suffixes: Sequence[Sequence[int]]) -> None:
    """Compare the second token's logits of two prompts of unlike length, in a batch, with the model's own.

    An architecture that disagrees writes its answers one by one through whole forward passes, and one line says so.
    """
    if not engine.fast:
        return
    lengths = torch.tensor([len(suffix) for suffix in suffixes], device=engine.model.device)
    first = torch.full_like(lengths, suffixes[0][0])
    prompts = [[*prefix, *suffix, int(first[0])] for suffix in suffixes]
    right = torch.stack(
        [engine.model(torch.tensor([ids], device=lengths.device), use_cache=False).logits[0, -1] for ids in prompts]
    ).float()
    try:
        start = engine.start(prefix)
        past = expand_cache(start, len(suffixes)) if start is not None else None
        _, past = engine.next_logits(pad_right(suffixes), past, lengths - 1)
        found, _ = _step(engine, past, first, len(prefix), int(lengths.max()), lengths, 0)
    except FAILURES as error:
        reason, difference = f"{type(error).__name__}: {error}", float("inf")
    else:
        # What all logits of a row share changes no probability, and rounding moves it most.
        found, right = (logits - logits.mean(dim=-1, keepdim=True) for logits in (found, right))
        difference = float(((found - right).norm(dim=-1) / right.norm(dim=-1)).max())
        reason = f"in a batch its logits differ by {difference:.3g} of their norm"
    engine.generates_in_batches = difference <= max(1e-3, 8 * torch.finfo(engine.model.dtype).eps)
    if not engine.generates_in_batches:
        name = type(engine.model).__name__
        warnings.warn(f"{name} writes its answers one by one ({reason})", RuntimeWarning, stacklevel=2)
