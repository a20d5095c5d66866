"""Forward passes that compute what a verdict needs and no more.

* The tokens that all sequences begin with run once; their keys and values serve every batch.
* Batches are padded on the right without an attention mask and sorted by length.
* At the verdict positions alone, the final norm and the two rows of the output embedding are applied, in float32: log-odds of an
  untrained model differ so little between texts that bfloat16 in these last operations would reorder them.
* A contrast pair costs one prompt: both verdict tokens are appended, at the same position and blind to each other.

`Engine.check` compares all of this with the model's own forward pass; an architecture that disagrees is run the plain way.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from elicit.language_models.attention import by_matrix_products
from elicit.language_models.batches import batches_by_length, halving_on_out_of_memory, pad_right, token_budget
from elicit.language_models.decoder import decoder_layers, final_norm, sliding_window
from elicit.language_models.prompts import Verdict

Progress = Callable[[int], None]
# What architectures raise that do not understand what the fast path hands them.
FAILURES = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)
FULL_ROWS = 128  # positions whose logits over the whole vocabulary are held at once


@dataclass
class Meter:
    """Counts the tokens that go through a model."""

    tokens: int = 0


class Engine:
    """Verdict log-odds and hidden states of one causal language model.

    Attributes:
        model: a causal language model of transformers, in evaluation mode; LoRA layers may be injected.
        budget: tokens per batch.
        fast: False once `check` has found that the fast path does not give the model's own logits.
        one_pass: False once both answers in one pass were found to give other hidden states than two passes.
        generates_in_batches: False once an answer in a batch was found to differ from the answer to its prompt alone.
        meter: counts the tokens that go through the model.
    """

    def __init__(self, model: Any, budget: int | None = None, meter: Meter | None = None) -> None:
        self.model = model.eval()
        self.decoder = model.get_decoder()
        self.budget = budget or token_budget(model)
        self.fast = self.one_pass = self.generates_in_batches = True
        self.meter = meter or Meter()
        self._prefix: list[int] = []
        self._compared = 0

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder's layers, whose outputs are the hidden states."""
        return decoder_layers(self.decoder)[1]

    @torch.inference_mode()
    def log_odds(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        reads: Sequence[Sequence[int]],
        verdict: Verdict,
        progress: Progress | None = None,
        mass: dict[int, float] | None = None,
    ) -> list[NDArray[np.float32]]:
        """Verdict log-odds read at chosen positions of n sequences that share a prefix.

        Args:
            prefix: token ids with which every sequence begins.
            suffixes: (n,) token ids that follow.
            reads: (n,) positions within each suffix: after reading the token there, how likely is each verdict word next?
            verdict: the two verdict token ids.
            progress: called with the number of sequences done after each batch.
            mass: its keys are rows for which it is filled with the verdict mass at the row's last position. That takes the
                full softmax, so it is for a sample.

        Returns:
            (n,) arrays with logit(flagged) − logit(cleared) at each of the sequence's positions.
        """
        if not suffixes:
            return []
        if not self.fast:
            return self._plain_log_odds(prefix, suffixes, reads, verdict, progress, mass)
        out: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(suffixes)
        start = self.start(prefix)

        def work(rows: list[int]) -> torch.Tensor:
            at = _positions([reads[row] for row in rows])
            with self._before_norm() as norm:
                self._forward(pad_right([suffixes[row] for row in rows]), start)
            states = norm.gather(*at)
            if mass is not None:
                last = np.cumsum([len(reads[row]) for row in rows]) - 1
                for row, end in zip(rows, last, strict=True):
                    if row in mass:
                        mass[row] = _mass(self._head(states[end][None])[0], verdict)
            return self._two_row_head(states, verdict)

        for batch in batches_by_length([len(suffix) for suffix in suffixes], self.room(prefix)):
            for rows, values in halving_on_out_of_memory(work, batch):
                ends = np.cumsum([len(reads[row]) for row in rows])
                for row, part in zip(rows, np.split(values.float().cpu().numpy(), ends[:-1]), strict=True):
                    out[row] = part
                if progress:
                    progress(len(rows))
        return out

    @torch.inference_mode()
    def contrast_states(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        verdict: Verdict,
        layers: Sequence[int],
        progress: Progress | None = None,
        odds: dict[int, float] | None = None,
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Hidden states of n prompts under both answers, batch by batch. Layers above the last one asked for are not run.

        Args:
            prefix, suffixes, verdict, progress: as in `log_odds`; a suffix ends right before the verdict.
            layers: which layers' outputs.
            odds: filled with each row's verdict log-odds, which costs the layers above those asked for.

        Yields:
            rows, (b, 3, l, d) hidden states at the last prompt token, at the flagged and at the cleared verdict token, on the
            CPU in the model's dtype.
        """
        if not suffixes:
            return
        start = self.start(prefix)
        window = sliding_window(self.model)
        longest = max(range(len(suffixes)), key=lambda row: len(suffixes[row]))
        length = len(prefix) + len(suffixes[longest]) + 1
        together = self.fast and self.one_pass and (window is None or length <= window)

        def in_one_pass(rows: list[int]) -> torch.Tensor:
            chosen = [suffixes[row] for row in rows]
            lengths = [len(suffix) for suffix in chosen]
            ids = pad_right([[*suffix, verdict.flagged, verdict.cleared] for suffix in chosen])
            mask, positions = _contrast_mask(lengths, ids.shape[1], len(prefix), self.model.dtype)
            at = torch.tensor([[n - 1, n, n + 1] for n in lengths])
            with self._layer_states(layers, at, stop=odds is None) as states, self._last_odds(rows, at, verdict, odds):
                self._forward(ids, start, mask, positions)
            return states()

        def in_two_passes(rows: list[int]) -> torch.Tensor:
            answers = []
            for answer in (verdict.flagged, verdict.cleared):
                chosen = [[*suffixes[row], answer] for row in rows]
                at = torch.tensor([[len(suffix) - 2, len(suffix) - 1] for suffix in chosen])
                with self._layer_states(layers, at, stop=True) as states:
                    self._forward(pad_right(chosen), start)
                answers.append(states())
            return torch.stack([answers[0][:, 0], answers[0][:, 1], answers[1][:, 1]], 1)

        # Compared again for longer sequences: local attention and the like show only there.
        if together and length > self._compared:
            self._compared = length
            together = self._compare(lambda: in_one_pass([longest]), lambda: in_two_passes([longest]))
        if odds is not None and not together:
            reads = [[len(suffix) - 1] for suffix in suffixes]
            odds |= enumerate(float(value[0]) for value in self.log_odds(prefix, suffixes, reads, verdict))
            start = self.start(prefix)
        work = in_one_pass if together else in_two_passes
        lengths = [len(self._prefix) + len(suffix) + 2 for suffix in suffixes]
        # States of many layers are held beside the activations, so a batch is half as large; nothing is slower for it.
        for batch in batches_by_length(lengths, max(1, self.room(prefix) // 2)):
            for rows, states in halving_on_out_of_memory(work, batch):
                yield rows, states
                if progress:
                    progress(len(rows))

    @torch.inference_mode()
    def log_likelihoods(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        starts: Sequence[int],
        progress: Progress | None = None,
    ) -> list[NDArray[np.float32]]:
        """Log-probabilities of the last tokens of n sequences that share a prefix.

        Args:
            prefix: token ids with which every sequence begins.
            suffixes: (n,) token ids that follow.
            starts: (n,) the first place, at least 1, of each suffix whose token's log-probability is asked for.
            progress: called with the number of sequences done after each batch.

        Returns:
            (n,) arrays with the log-probability of each token from `starts` on, given all tokens before it.
        """
        out: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(suffixes)
        start = self.start(prefix)

        def work(rows: list[int]) -> list[torch.Tensor]:
            reads = [list(range(starts[row] - 1, len(suffixes[row]) - 1)) for row in rows]
            targets = torch.tensor([token for row in rows for token in suffixes[row][starts[row] :]])
            if self.fast:
                with self._before_norm() as norm:
                    self._forward(pad_right([suffixes[row] for row in rows]), start)
                states = norm.gather(*_positions(reads))
                # The whole vocabulary, for some positions at a time: for all of them it would take gigabytes.
                parts: Iterable[torch.Tensor] = (self._head(part) for part in torch.split(states, FULL_ROWS))
            else:
                ids = torch.tensor([[*prefix, *suffixes[rows[0]]]], device=self.model.device)
                self.meter.tokens += ids.numel()
                logits = self.model(input_ids=ids, use_cache=False).logits[0]
                parts = [logits[len(prefix) + starts[rows[0]] - 1 : -1].float()]
            found = [
                torch.log_softmax(part, -1).gather(1, right[:, None].to(part.device))[:, 0].cpu()
                for part, right in zip(
                    parts, torch.split(targets, FULL_ROWS if self.fast else len(targets)), strict=True
                )
            ]
            return list(torch.split(torch.cat(found), [len(read) for read in reads]))

        room = self.room(prefix)
        for batch in batches_by_length([len(suffix) for suffix in suffixes], room, None if self.fast else 1):
            for rows, values in halving_on_out_of_memory(work, batch):
                for row, value in zip(rows, values, strict=True):
                    out[row] = value.numpy()
                if progress:
                    progress(len(rows))
        return out

    def check(self, prefix: Sequence[int], suffixes: Sequence[Sequence[int]], verdict: Verdict) -> float:
        """Largest difference between the fast path's log-odds and the model's own; too large, and the plain path is taken."""
        own, eps = self._own_logits(prefix, suffixes, verdict), torch.finfo(self.model.dtype).eps
        self.fast, largest = True, 8.0  # log-odds that are smaller are allowed what these are
        try:
            fast = self._fast_logits(prefix, suffixes, verdict)
        except FAILURES as error:
            reason, difference, ratio = f"{type(error).__name__}: {error}", float("inf"), float("inf")
        else:
            difference = float((fast.diff(dim=1) - own.diff(dim=1)).abs().max())
            largest = max(largest, float(own.diff(dim=1).abs().max()))
            # A factor that is not known of changes logits by more than it changes small differences of them.
            ratio = float((fast - own).norm() / own.norm().clamp(min=1e-6))
            reason = (
                f"on the fast one its log-odds differ by {difference:.3g}, and its logits by {ratio:.2g} of their norm"
            )
        # Logits of some tens carry a rounding error of several units in the last place of the model's dtype, and those of a model
        # that was trained until it is sure a larger one.
        if not (difference <= max(1e-3, 16 * eps * largest) and ratio <= max(1e-3, 16 * eps)):
            self.fast = False
            warnings.warn(
                f"{type(self.model).__name__} runs on the plain path ({reason})", RuntimeWarning, stacklevel=2
            )
        return difference

    @torch.inference_mode()
    def _own_logits(self, prefix: Sequence[int], suffixes: Sequence[Sequence[int]], verdict: Verdict) -> torch.Tensor:
        """(n, 2) logits of the verdict words behind each suffix, from the model's own forward pass."""
        rows = []
        for suffix in suffixes:
            ids = torch.tensor([[*prefix, *suffix]], device=self.model.device)
            self.meter.tokens += ids.numel()
            logits = self.model(input_ids=ids, use_cache=False).logits[0, -1]
            rows.append(logits[[verdict.flagged, verdict.cleared]].float().cpu())
        return torch.stack(rows)

    @torch.inference_mode()
    def _fast_logits(self, prefix: Sequence[int], suffixes: Sequence[Sequence[int]], verdict: Verdict) -> torch.Tensor:
        """The same, from one batch behind the prefix's keys and values."""
        start, last = self.start(prefix), torch.tensor([len(suffix) - 1 for suffix in suffixes])
        with self._before_norm() as norm:
            self._forward(pad_right(suffixes), start)
        states = norm.gather(torch.arange(len(last)), last)
        return self._head(states, [verdict.flagged, verdict.cleared]).cpu()

    def _compare(self, one_pass: Callable[[], torch.Tensor], two_passes: Callable[[], torch.Tensor]) -> bool:
        """Whether both answers in one pass give the hidden states of two passes; if not, that is said and kept in mind."""
        right = two_passes().float()
        try:
            wrong = (one_pass().float() - right).norm(dim=-1) / right.norm(dim=-1)
        except FAILURES as error:
            reason, difference = f"{type(error).__name__}: {error}", float("inf")
        else:
            difference = float(wrong.max())
            reason = f"the hidden states of one pass differ by {difference:.3g} of their norm"
        # In bfloat16 two batchings differ by some 3 %, a second answer that sees the first by 25 %, a wrong position by 15 %.
        self.one_pass = difference <= max(1e-3, 8 * torch.finfo(self.model.dtype).eps)
        if not self.one_pass:
            name = type(self.model).__name__
            warnings.warn(f"{name} reads contrast pairs in two passes ({reason})", RuntimeWarning, stacklevel=3)
        return self.one_pass

    @torch.inference_mode()
    def _plain_log_odds(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        reads: Sequence[Sequence[int]],
        verdict: Verdict,
        progress: Progress | None = None,
        mass: dict[int, float] | None = None,
    ) -> list[NDArray[np.float32]]:
        out = []
        for row, (suffix, positions) in enumerate(zip(suffixes, reads, strict=True)):
            ids = torch.tensor([[*prefix, *suffix]], device=self.model.device)
            self.meter.tokens += ids.numel()
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
            at = torch.tensor([len(prefix) + position for position in positions])
            out.append((logits[at, verdict.flagged].float() - logits[at, verdict.cleared].float()).cpu().numpy())
            if mass is not None and row in mass:
                mass[row] = _mass(logits[at[-1]].float(), verdict)
            if progress:
                progress(1)
        return out

    def room(self, prefix: Sequence[int]) -> int:
        """Tokens per batch of sequences that follow this prefix."""
        # The prefix's keys and values are held once per row of a batch; they count as an eighth of a token's activations.
        return max(min(256, self.budget), self.budget - len(prefix) // 8)

    def start(self, prefix: Sequence[int]) -> Any:
        """The key/value cache of the prefix, (1, …), or None when there is no prefix or the plain path is in use."""
        if not prefix or not self.fast:
            self._prefix = list(prefix)
            return None
        self._prefix = []
        self.meter.tokens += len(prefix)
        ids = torch.tensor([list(prefix)], device=self.model.device)
        with by_matrix_products(self.decoder):
            return self.decoder(input_ids=ids, use_cache=True).past_key_values

    def next_logits(
        self,
        ids: torch.Tensor,
        past: Any,
        at: torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Any]:
        """(b, v) float32 logits after position at[i] of row i of (b, t) ids, and the cache `past` with their keys and values."""
        self.meter.tokens += ids.numel()
        extra = {} if mask is None else {"attention_mask": mask, "position_ids": positions}
        with self._before_norm() as norm, by_matrix_products(self.decoder):
            ids = ids.to(self.model.device)
            past = self.decoder(input_ids=ids, past_key_values=past, use_cache=True, **extra).past_key_values
        return self._head(norm.gather(torch.arange(len(ids)), at)), past

    def _forward(
        self,
        ids: torch.Tensor,
        start: Any,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> None:
        if start is None and self._prefix:
            ids = torch.cat([torch.tensor([self._prefix]).expand(len(ids), -1), ids], 1)
        self.meter.tokens += ids.numel()
        device = self.model.device
        extra: dict[str, Any] = {}
        if mask is not None and positions is not None:
            extra = {"attention_mask": mask.to(device), "position_ids": positions.to(device)}
        past = expand_cache(start, len(ids)) if start is not None else None
        with suppress(_Enough), by_matrix_products(self.decoder):
            self.decoder(input_ids=ids.to(device), past_key_values=past, use_cache=past is not None, **extra)

    @contextmanager
    def _before_norm(self) -> Iterator[_Norm]:
        """Catches what enters the decoder's final norm, to apply that norm in float32 at the verdict positions only."""
        norm = final_norm(self.decoder)
        held = _Norm(norm)
        handle = norm.register_forward_pre_hook(lambda _module, inputs: held.keep(inputs[0]))
        try:
            yield held
        finally:
            handle.remove()

    def _two_row_head(self, states: torch.Tensor, verdict: Verdict) -> torch.Tensor:
        """(m, d) normed float32 states → (m,) log-odds."""
        logits = self._head(states, [verdict.flagged, verdict.cleared])
        return logits[:, 0] - logits[:, 1]

    def _head(self, states: torch.Tensor, tokens: list[int] | None = None) -> torch.Tensor:
        """(m, d) normed float32 states → (m, t) float32 logits of some tokens, or of the whole vocabulary."""
        head = self.model.get_output_embeddings()
        if tokens is None:
            logits = head(states.to(head.weight.dtype)).float()
        else:
            rows = torch.tensor(tokens, device=head.weight.device)
            logits = states @ head.weight[rows].float().T
            if getattr(head, "bias", None) is not None:
                logits = logits + head.bias[rows].float()
        config = self.model.config.get_text_config()
        if getattr(config, "logit_scale", None):  # Cohere
            logits = logits * config.logit_scale
        if getattr(config, "logits_scaling", None):  # Granite
            logits = logits / config.logits_scaling
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        return torch.tanh(logits / cap) * cap if cap else torch.as_tensor(logits)

    @contextmanager
    def _last_odds(
        self, rows: Sequence[int], at: torch.Tensor, verdict: Verdict, odds: dict[int, float] | None
    ) -> Iterator[None]:
        """Fills `odds` with each row's log-odds at the first of its positions; does nothing when there is nothing to fill."""
        if odds is None:
            yield
            return
        with self._before_norm() as norm:
            yield
        values = self._two_row_head(norm.gather(torch.arange(len(at)), at[:, 0]), verdict)
        odds |= zip(rows, values.tolist(), strict=True)

    @contextmanager
    def _layer_states(
        self, layers: Sequence[int], at: torch.Tensor, stop: bool
    ) -> Iterator[Callable[[], torch.Tensor]]:
        """Collects the outputs of some layers at positions (b, p) of the suffix; call what it gives for (b, p, l, d).

        With `stop`, the forward pass ends after the last of these layers.
        """
        kept: dict[int, torch.Tensor] = {}
        shift = len(self._prefix)

        def keep(layer: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                rows = torch.arange(len(at), device=hidden.device)[:, None]
                kept[layer] = hidden[rows, at.to(hidden.device) + shift].to("cpu")
                if stop and len(kept) == len(set(layers)):
                    raise _Enough

            return hook

        handles = [self.layers[layer].register_forward_hook(keep(layer)) for layer in layers]
        try:
            yield lambda: torch.stack([kept[layer] for layer in layers], 2)
        finally:
            for handle in handles:
                handle.remove()


class _Enough(Exception):  # noqa: N818  # nothing is wrong
    """All hidden states that were asked for are there."""


class _Norm:
    """The final norm in float32, and the states that entered it in the model's dtype."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._states: torch.Tensor | None = None

    def keep(self, states: torch.Tensor) -> None:
        self._states = states

    def gather(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(m, d) normed float32 states at m positions."""
        assert self._states is not None
        device = self._states.device
        chosen = self._states[rows.to(device), columns.to(device)].float()
        exact = copy.deepcopy(self._module).float()
        exact._forward_pre_hooks.clear()
        return torch.as_tensor(exact(chosen))


def expand_cache(cache: Any, rows: int) -> Any:
    """A cache of batch size `rows` that shares the memory of a cache of batch size 1, which stays as it was."""
    wide = copy.copy(cache)
    wide.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in wide.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return wide


def _mass(logits: torch.Tensor, verdict: Verdict) -> float:
    return float(torch.softmax(logits, -1)[[verdict.flagged, verdict.cleared]].sum())


def _positions(reads: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [row for row, positions in enumerate(reads) for _ in positions]
    return torch.tensor(rows), torch.tensor([position for positions in reads for position in positions])


def _contrast_mask(
    lengths: Sequence[int], width: int, prefix: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, 1, width, prefix + width) additive mask and (b, width) positions: causal, and the second answer blind to the first."""
    length = torch.tensor(lengths)
    query, key = torch.arange(width)[:, None], torch.arange(prefix + width)[None] - prefix
    allowed = (key <= query).expand(len(lengths), -1, -1).clone()
    rows = torch.arange(len(lengths))
    allowed[rows, length + 1, prefix + length] = False
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
    positions = torch.arange(width).expand(len(lengths), -1).clone()
    positions[rows, length + 1] = length
    return mask[:, None], positions + prefix
