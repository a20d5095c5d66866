"""A causal language model of transformers on this machine: questions and texts in, log-odds and hidden states out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from elicit.domains import Question
from elicit.errors import ModelError
from elicit.language_models.batches import shares_by_length
from elicit.language_models.cache import ReadingCache, reading_key
from elicit.language_models.engine import Engine, Progress
from elicit.language_models.generation import Sampling, check_generation, generate
from elicit.language_models.language_model import NOT_FINITE, SAMPLES, LanguageModel, Reading, Tokens
from elicit.language_models.loading import DEFAULT_MODEL, context_length, load_model, pick_device, pick_dtype
from elicit.language_models.prompts import (
    MAX_TEXT_TOKENS,
    ConversationPrompt,
    TextPrompt,
    ThinkingPrompt,
    Verdict,
    VerdictPrompt,
)
from elicit.language_models.readings import that_fit
from elicit.language_models.states import StateCache, States
from elicit.language_models.weights import Weights, hash_of_files, linear_names
from elicit.processes import count, spread, together, works_for_another
from elicit.progress import progress

T = TypeVar("T")
Samples = tuple[Tokens, list[list[int]]]
CHECKPOINT = 1024  # sequences of each process after which what was read is kept
SHARD = 512  # texts whose hidden states are held and kept together
ANSWERS = 128  # answers of each process after which what was written is kept


class LocalModel(LanguageModel):
    """A causal language model, perhaps with a LoRA adapter, that answers questions with one token.

    Attributes:
        engine: runs the forward passes.
        meter: tokens so far, of everything that shares these weights.
    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        adapter: Path | None = None,
        max_text_tokens: int = MAX_TEXT_TOKENS,
        cache: ReadingCache | None = None,
        state_cache: StateCache | None = None,
    ) -> None:
        super().__init__(
            name,
            weights.tokenizer,
            context_length(weights.model.config.get_text_config()),
            max_text_tokens,
            adapter,
            weights.meter,
            cache,
        )
        self._weights, self._state_cache = weights, state_cache
        # Of what is loaded: the folder may hold another adapter when the fingerprint is asked for.
        self._adapter_hash = hash_of_files(adapter) if adapter is not None else ""
        self._adapter_name = weights.load(adapter) if adapter is not None else None
        self.engine = Engine(weights.model, meter=weights.meter)
        self._fingerprint: str | None = None
        self._checked = self._generation_checked = False

    @classmethod
    def load(
        cls,
        name: str = DEFAULT_MODEL,
        dtype: str = "auto",
        device: str = "auto",
        max_text_tokens: int = MAX_TEXT_TOKENS,
        readings: Path | None = None,
    ) -> LocalModel:
        """Load a model by catalogue name, folder, GGUF file or hub id.

        Args:
            name: which model.
            dtype: "auto", "bfloat16", "float16" or "float32".
            device: "auto" or a torch device.
            max_text_tokens: longer texts lose their middle.
            readings: folder where readings and hidden states are kept; by default the user's cache.
        """
        # Picked here for all processes: other machines might pick another.
        picked = str(pick_dtype(dtype, pick_device(device))).removeprefix("torch.")
        weights = together(_load_weights, name, picked, device)
        cache = ReadingCache(readings / "readings.sqlite" if readings else None)
        states = StateCache(readings / "states" if readings else None)
        return cls(name, weights, max_text_tokens=max_text_tokens, cache=cache, state_cache=states)

    def __reduce__(self) -> tuple[Any, ...]:
        """A model goes to another process by its name; there are weights of its own."""
        if self._weights.origin is None:
            raise ModelError(
                f"{self.name!r} was made in memory, so other processes cannot have it; load it by its name"
            )
        return _in_this_process, (self._weights.origin, self.adapter, self.max_text_tokens, self.fingerprint())

    @classmethod
    def from_transformers(
        cls, model: Any, tokenizer: Any, name: str = "model", max_text_tokens: int = MAX_TEXT_TOKENS
    ) -> LocalModel:
        """Wrap a model and a tokenizer that are already in memory. Nothing is cached: their weights may still change."""
        return cls(name, Weights(model, tokenizer), max_text_tokens=max_text_tokens)

    def with_adapter(self, folder: Path) -> LocalModel:
        """The same weights under a LoRA adapter."""
        return LocalModel(self.name, self._weights, folder, self.max_text_tokens, self._cache, self._state_cache)

    def uncached(self) -> LocalModel:
        """The same model, which keeps nothing of what it reads: what is timed must be computed."""
        return LocalModel(self.name, self._weights, self.adapter, self.max_text_tokens)

    @contextmanager
    def trainable_adapter(
        self, rank: int, seed: int, first_layer: int = 0, modules: Sequence[str] = ()
    ) -> Iterator[Any]:
        """A PEFT model over the shared weights with a LoRA adapter in training mode; it is gone after the block.

        The adapter starts as a copy of this model's own, whose rank it then has, or else new. Layers below `first_layer` do not
        learn.

        Raises:
            ModelError: the model cannot carry an adapter, or has no linear layer of a name in `modules`.
        """
        from peft import LoraConfig, get_peft_model

        names = sorted(linear_names(self.engine.layers))
        if unknown := [name for name in modules if name not in names]:
            raise ModelError(f"{self.name} has no linear layer {unknown[0]!r}; it has {', '.join(names)}")
        upper = list(modules) or (names if first_layer else "all-linear")
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules=upper,
            layers_to_transform=list(range(first_layer, self.layers)) if first_layer else None,
            task_type="CAUSAL_LM",
        )
        weights = self._weights
        torch.manual_seed(seed)
        if self.adapter is not None:
            weights.peft.load_adapter(str(self.adapter), adapter_name="default", is_trainable=True)
        else:
            try:
                if weights.peft is None:
                    weights.peft = get_peft_model(weights.model, config, adapter_name="default")
                else:
                    weights.peft.add_adapter("default", config)
            except ValueError as error:
                raise ModelError(f"{type(weights.model).__name__} cannot carry a LoRA adapter: {error}") from error
        weights.activate("default")
        for layer in list(self.engine.layers)[:first_layer]:
            layer.requires_grad_(False)
        weights.model.train()
        try:
            yield weights.peft
        finally:
            weights.model.eval()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Adapter default was active", UserWarning)
                weights.peft.delete_adapter("default")
            weights.forget_active()

    @property
    def transformers_model(self) -> Any:
        """The model of transformers, with LoRA layers injected once an adapter was loaded."""
        return self._weights.model

    @property
    def device(self) -> str:
        """Where it is, as it was asked for: "auto" may mean another GPU in each process."""
        return self._weights.origin[2] if self._weights.origin else str(self.transformers_model.device)

    @property
    def dtype(self) -> str:
        """Of the weights, as torch names it."""
        return str(self.transformers_model.dtype)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.engine.layers)

    def fingerprint(self) -> str:
        """Hash of configuration, weights, the tokenizer, and the adapter; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256(self._weights.fingerprint().encode())
            digest.update(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
            digest.update(f"{self.tokenizer.chat_template} {self.max_text_tokens}".encode())
            digest.update(self._adapter_hash.encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _read(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        reads: Sequence[Sequence[int]],
        prompt: VerdictPrompt | ThinkingPrompt,
        description: str,
        sampled: Sequence[int] = (),
    ) -> list[Reading]:
        asked = (self.fingerprint(), tuple(prefix), prompt.verdict)
        keys = [reading_key(*asked, tuple(s), tuple(at)) for s, at in zip(suffixes, reads, strict=True)]
        held = self._held(keys)
        weighed = set(sampled)
        missing = [
            i for i, key in enumerate(keys) if key not in held or (i in weighed and not np.isfinite(held[key][-1]))
        ]
        given = (prefix, prompt.verdict, _samples(prompt))
        with progress(len(suffixes), description) as step:
            step(len(suffixes) - len(missing))
            for part in _parts(missing, CHECKPOINT):
                wanted = [(suffixes[row], reads[row], row in weighed) for row in part]
                new: dict[bytes, NDArray[np.float64]] = {}
                for at, found in self._spread(LocalModel._read_share, wanted, given, step):
                    new |= {keys[part[i]]: values for i, values in zip(at, found, strict=True)}
                # Where the verdict mass alone was missing, the log-odds stay those of the batch in which they were read first.
                new |= {key: np.append(held[key][:-1], new[key][-1]) for key in new if key in held}
                self._keep(new)
                held |= new
        return [held[key] for key in keys]

    def _read_share(
        self,
        asked: Sequence[tuple[Tokens, Tokens, bool]],
        prefix: Tokens,
        verdict: Verdict,
        samples: Samples,
        step: Progress | None = None,
    ) -> list[NDArray[np.float64]]:
        """Readings of (suffix, places to read at, whether the verdict mass is wanted)."""
        self._ready(samples, verdict)
        mass = {i: np.nan for i, (_, _, wanted) in enumerate(asked) if wanted}
        suffixes, reads = [suffix for suffix, _, _ in asked], [at for _, at, _ in asked]
        found = self.engine.log_odds(prefix, suffixes, reads, verdict, step, mass)
        return [np.append(values.astype(np.float64), mass.get(i, np.nan)) for i, values in enumerate(found)]

    def states(
        self,
        question: Question,
        texts: Sequence[str],
        layers: Sequence[int],
        description: str = "hidden states",
        log_odds: bool = False,
    ) -> States:
        """Hidden states of n texts at the last prompt token and under both verdicts, `(n, 3, l, d)`, all in memory.

        Args:
            question: what is asked about each text.
            texts: (n,) the texts, at least one.
            layers: which layers' outputs; layers above the last of them are not run.
            description: what the progress bar says.
            log_odds: read the verdicts from the same pass, which then runs all layers.
        """
        return States.join(list(self.stream_states(question, texts, layers, description, log_odds)))

    def stream_states(
        self,
        question: Question,
        texts: Sequence[str],
        layers: Sequence[int],
        description: str = "hidden states",
        log_odds: bool = False,
    ) -> Iterator[States]:
        """As `states`, in parts of some hundred consecutive texts: memory stays flat however many there are.

        Each part is kept in the user's cache, from which the next one who asks for some of its layers has it.
        """
        prompt = self.prompt(question)
        with progress(len(texts), description) as step:
            for start in range(0, len(texts), SHARD):
                yield self._part_of_states(prompt, texts[start : start + SHARD], tuple(layers), log_odds, step)

    def _part_of_states(
        self, prompt: VerdictPrompt, texts: Sequence[str], layers: tuple[int, ...], log_odds: bool, step: Progress
    ) -> States:
        encoded = prompt.encode(texts)
        rows, reasons = that_fit(encoded, self.context_length - len(prompt.head) - len(prompt.tail) - 1)
        suffixes = [prompt.suffix(encoded[row]) for row in rows]
        key = reading_key(self.fingerprint(), tuple(prompt.head), prompt.verdict, tuple(map(tuple, suffixes)))
        held = self._state_cache.get(key, layers, log_odds) if self._state_cache else None
        if held is None:
            held = self._compute_states(prompt, suffixes, layers, log_odds, step)
            if self._state_cache and rows:
                self._state_cache.put(key, layers, *held)
        else:
            step(len(rows))
        found, odds = held
        step(len(texts) - len(rows))
        finite = found.flatten(1).isfinite().all(1)
        if odds is not None:
            finite &= odds.isfinite()
        for row, whole in zip(rows, finite.tolist(), strict=True):
            reasons[row] = None if whole else NOT_FINITE
        values = found.new_zeros((len(texts), *found.shape[1:]))
        values[rows] = torch.where(finite[:, None, None, None], found, 0)
        if odds is None:
            return States(values, layers, tuple(reasons))
        read = np.full(len(texts), np.nan)
        read[rows] = odds.numpy()
        return States(values, layers, tuple(reasons), read)

    def _compute_states(
        self,
        prompt: VerdictPrompt,
        suffixes: Sequence[Tokens],
        layers: tuple[int, ...],
        log_odds: bool,
        step: Progress,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(m, 3, l, d) states of prompts that all fit, and their log-odds."""
        given = (prompt.head, prompt.verdict, _samples(prompt), layers, log_odds)
        shares = list(self._spread(LocalModel._states_share, [(suffix,) for suffix in suffixes], given, step))
        if len(shares) == 1:
            return shares[0][1]
        order = torch.tensor([row for at, _ in shares for row in at]).argsort()
        values = torch.cat([states for _, (states, _) in shares])[order]
        odds = [read for _, (_, read) in shares if read is not None]
        return values, torch.cat(odds)[order] if odds else None

    def _states_share(
        self,
        asked: Sequence[tuple[Tokens]],
        prefix: Tokens,
        verdict: Verdict,
        samples: Samples,
        layers: tuple[int, ...],
        log_odds: bool,
        step: Progress | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._ready(samples, verdict)
        suffixes = [suffix for (suffix,) in asked]
        width = self.transformers_model.config.get_text_config().hidden_size
        values = torch.zeros((len(suffixes), 3, len(layers), width), dtype=self.transformers_model.dtype)
        odds: dict[int, float] | None = {} if log_odds else None
        for part, states in self.engine.contrast_states(prefix, suffixes, verdict, layers, step, odds):
            values[torch.tensor(part)] = states
        if odds is None:
            return values, None
        return values, torch.tensor([odds[i] for i in range(len(suffixes))], dtype=torch.float64)

    def _likelihoods(
        self, prompt: ConversationPrompt, suffixes: Sequence[Tokens], answers: Sequence[Tokens], step: Progress
    ) -> list[NDArray[np.float64]]:
        asked = [([*suffix, *ids], len(suffix)) for suffix, ids in zip(suffixes, answers, strict=True)]
        given = (prompt.head, Verdict(answers[0][0], answers[0][-1]), _samples(prompt))
        out = [np.zeros(0)] * len(asked)
        for at, found in self._spread(LocalModel._likelihood_share, asked, given, step):
            for i, values in zip(at, found, strict=True):
                out[i] = values
        return out

    def _likelihood_share(
        self,
        asked: Sequence[tuple[Tokens, int]],
        prefix: Tokens,
        words: Verdict,
        samples: Samples,
        step: Progress | None = None,
    ) -> list[NDArray[np.float64]]:
        """Log-probabilities of the tokens of each suffix from a place on."""
        self._ready(samples, words)
        found = self.engine.log_likelihoods(prefix, [ids for ids, _ in asked], [start for _, start in asked], step)
        return [values.astype(np.float64) for values in found]

    def _write(
        self, prompt: TextPrompt, suffixes: Sequence[Tokens], sampling: Sampling, step: Progress
    ) -> Iterator[dict[int, list[int] | str]]:
        given = (prompt.head, sampling, _samples(prompt))
        for part in _parts(range(len(suffixes)), ANSWERS):
            new: dict[int, list[int] | str] = {}
            for at, answers in self._spread(LocalModel._generate_share, [(suffixes[i],) for i in part], given, step):
                new |= {part[i]: ids for i, ids in zip(at, answers, strict=True)}
            yield new

    def _generate_share(
        self,
        asked: Sequence[tuple[Tokens]],
        prefix: Tokens,
        sampling: Sampling,
        samples: Samples,
        step: Progress | None = None,
    ) -> list[list[int]]:
        self._weights.activate(self._adapter_name)
        if not self._generation_checked:
            self._generation_checked = True
            check_generation(self.engine, *samples)
        return generate(self.engine, prefix, [suffix for (suffix,) in asked], sampling, step)

    def _stop_tokens(self) -> frozenset[int]:
        config = getattr(self.transformers_model, "generation_config", None)
        found = getattr(config, "eos_token_id", None)
        ids = found if isinstance(found, list) else [found]
        return frozenset(token for token in [*ids, self.tokenizer.eos_token_id] if token is not None)

    def _ready(self, samples: Samples, words: Verdict) -> None:
        """Activate the adapter and, the first time, check the fast path against the model's own logits of two words."""
        self._weights.activate(self._adapter_name)
        if not self._checked:
            self._checked = True
            self.engine.check(*samples, words)

    def _spread(
        self, work: Callable[..., T], asked: Sequence[tuple[Any, ...]], given: tuple[Any, ...], step: Progress
    ) -> Iterator[tuple[list[int], T]]:
        """What `work(self, asked, *given)` finds, from each process for a share of what is asked.

        Args:
            work: a method of this class.
            asked: n tuples that begin with a sequence of tokens; all shares take about as many tokens.
            given: what is the same for all of them.
            step: called with the number of sequences done.

        Yields:
            which of the n, and what was found for them.
        """
        most = count() if self._weights.origin is not None else 1
        own, *others = shares_by_length([len(sequence) for sequence, *_ in asked], most) or [[]]
        shares = [(self, work, [asked[i] for i in at], given) for at in (own, *others)]
        (found, _), *answers = spread(_counted, [(*shares[0], step), *shares[1:]])
        yield own, found
        for at, (found, tokens) in zip(others, answers, strict=True):
            self.meter.tokens += tokens
            step(len(at))
            yield at, found


def _counted(
    model: LocalModel,
    work: Callable[..., T],
    asked: Sequence[Any],
    given: tuple[Any, ...],
    step: Progress | None = None,
) -> tuple[T, int]:
    """What some work finds, and how many tokens it took."""
    before = model.meter.tokens
    return work(model, asked, *given, step), model.meter.tokens - before


# Of a process that works for another one: what it has loaded, by origin, and what it was asked about.
_WEIGHTS: dict[tuple[str, str, str], Weights] = {}
_MODELS: dict[tuple[Any, ...], LocalModel] = {}


def _load_weights(name: str, dtype: str, device: str) -> Weights:
    weights = Weights(*load_model(name, dtype, device), (name, dtype, device))
    if works_for_another():
        _WEIGHTS[name, dtype, device] = weights
    return weights


def _in_this_process(
    origin: tuple[str, str, str], adapter: Path | None, max_text_tokens: int, fingerprint: str
) -> LocalModel:
    """The model that another process means.

    Raises:
        ModelError: here, another one goes by its name.
    """
    key = (origin, adapter, max_text_tokens, fingerprint)
    if key not in _MODELS:
        try:
            weights = _WEIGHTS.get(origin) or _load_weights(*origin)
            model = LocalModel(origin[0], weights, adapter, max_text_tokens)
        except RuntimeError as error:  # as which a lost process would be taken: no memory, say
            raise ModelError(f"{adapter or origin[0]} cannot be loaded in another process: {error}") from error
        if model.fingerprint() != fingerprint:
            raise ModelError(
                f"{adapter or origin[0]} is not the same in all processes; give all machines the same files"
            )
        _MODELS[key] = model
    return _MODELS[key]


def _samples(prompt: TextPrompt) -> Samples:
    """A beginning and two texts behind it, on which quick ways are compared with plain ones."""
    encoded = prompt.encode(SAMPLES)
    return prompt.head, [prompt.suffix(text) for text in encoded]


def _parts(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The rows in parts of which each process takes so many."""
    size *= count()
    return (rows[start : start + size] for start in range(0, len(rows), size))
