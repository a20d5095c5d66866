"""A causal language model of transformers on this machine: questions and texts in, log-odds and hidden states out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elicit.domains import Question
from elicit.errors import ModelError
from elicit.language_models.cache import ReadingCache, reading_key
from elicit.language_models.engine import Engine, Progress
from elicit.language_models.generation import Generation, Sampling, check_generation, generate
from elicit.language_models.loading import DEFAULT_MODEL, load_model
from elicit.language_models.prompts import (
    ConversationPrompt,
    EncodedText,
    InstructionPrompt,
    TextPrompt,
    Verdict,
    VerdictPrompt,
)
from elicit.language_models.readings import Readings, that_fit
from elicit.language_models.states import StateCache, States
from elicit.language_models.weights import Weights, hash_of_files
from elicit.progress import progress

MASS_SAMPLE = (
    32  # texts whose verdict mass is computed: it needs the whole vocabulary, and its mean is what one looks at
)
CHECKPOINT = 1024  # sequences after which what was read is kept
SHARD = 512  # texts whose hidden states are held and kept together
ANSWERS = 128  # answers after which what was written is kept
LONGEST_SHOT = 192  # tokens of one example in a few-shot context; a longer one loses its middle


class LocalModel:
    """A causal language model, perhaps with a LoRA adapter, that answers questions with one token.

    Attributes:
        name: how the user named the model.
        adapter: folder of the LoRA adapter, or None.
        engine: runs the forward passes.
        meter: tokens so far, of everything that shares these weights.
    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        adapter: Path | None = None,
        max_text_tokens: int = 2048,
        cache: ReadingCache | None = None,
        state_cache: StateCache | None = None,
    ) -> None:
        self.name, self.adapter, self.max_text_tokens = name, adapter, max_text_tokens
        self._weights = weights
        self._adapter_name = weights.load(adapter) if adapter is not None else None
        self.engine = Engine(weights.model, meter=weights.meter)
        self.meter = weights.meter
        self._prompts: dict[Question, VerdictPrompt] = {}
        self._cache, self._state_cache = cache, state_cache
        self._fingerprint: str | None = None
        self._checked = self._generation_checked = False

    @classmethod
    def load(
        cls, name: str = DEFAULT_MODEL, dtype: str = "auto", device: str = "auto", max_text_tokens: int = 2048
    ) -> LocalModel:
        """Load a model by catalogue name, folder, GGUF file or hub id.

        Args:
            name: which model.
            dtype: "auto", "bfloat16", "float16" or "float32".
            device: "auto" or a torch device.
            max_text_tokens: longer texts lose their middle.
        """
        weights = Weights(*load_model(name, dtype, device))
        return cls(name, weights, max_text_tokens=max_text_tokens, cache=ReadingCache(), state_cache=StateCache())

    @classmethod
    def from_transformers(
        cls, model: Any, tokenizer: Any, name: str = "model", max_text_tokens: int = 2048
    ) -> LocalModel:
        """Wrap a model and a tokenizer that are already in memory. Nothing is cached: their weights may still change."""
        return cls(name, Weights(model, tokenizer), max_text_tokens=max_text_tokens)

    def with_adapter(self, folder: Path) -> LocalModel:
        """The same weights under a LoRA adapter."""
        return LocalModel(self.name, self._weights, folder, self.max_text_tokens, self._cache, self._state_cache)

    def without_adapter(self) -> LocalModel:
        """The same weights as they were before any training."""
        return LocalModel(self.name, self._weights, None, self.max_text_tokens, self._cache, self._state_cache)

    @contextmanager
    def trainable_adapter(self, rank: int, seed: int, first_layer: int = 0) -> Iterator[Any]:
        """A PEFT model over the shared weights with a LoRA adapter in training mode; it is gone after the block.

        The adapter starts as a copy of this model's own, whose rank it then has, or else new. Layers below `first_layer` do not
        learn.
        """
        from peft import LoraConfig, get_peft_model

        upper = sorted(_linear_names(self.engine.layers)) if first_layer else "all-linear"
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
    def tokenizer(self) -> Any:
        return self._weights.tokenizer

    @property
    def dtype(self) -> str:
        """Of the weights, as torch names it."""
        return str(self.transformers_model.dtype)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.engine.layers)

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence, unlimited models being cut at 131,072."""
        config = self.transformers_model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 131_072)

    def fingerprint(self) -> str:
        """Hash of configuration, a sample of every weight, the tokenizer, and the whole adapter; computed once."""
        if self._fingerprint is None:
            self._fingerprint = self._compute_fingerprint()
        return self._fingerprint

    def _compute_fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.transformers_model.dtype).encode())
        config = self.transformers_model.config.to_dict()
        for where in ("_name_or_path", "transformers_version"):
            config.pop(where, None)
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, parameter in self.transformers_model.named_parameters():
            if "lora_" in name:
                continue
            flat = parameter.detach().flatten()
            part = flat[:: max(1, flat.numel() // 512)][:512].float().cpu().numpy()
            digest.update(
                name.replace(".base_layer", "").encode() + str(tuple(parameter.shape)).encode() + part.tobytes()
            )
        digest.update(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
        digest.update(f"{self.tokenizer.chat_template} {self.max_text_tokens}".encode())
        if self.adapter is not None:
            digest.update(hash_of_files(self.adapter).encode())
        return digest.hexdigest()

    def prompt(self, question: Question) -> VerdictPrompt:
        """The prompt of a question in this model's chat format.

        Raises:
            ModelError: a verdict word is not exactly one token there, or the question does not fit.
        """
        if question not in self._prompts:
            self._prompts[question] = VerdictPrompt(self.tokenizer, question, self.context_length, self.max_text_tokens)
        return self._prompts[question]

    def log_odds(
        self,
        question: Question,
        texts: Sequence[str],
        shots: Sequence[tuple[str, bool]] = (),
        description: str = "scoring",
    ) -> Readings:
        """Verdict log-odds of n texts.

        Args:
            question: what is asked about each text.
            texts: (n,) the texts.
            shots: k examples, each a text and whether it is flagged, that stand before every text.
            description: what the progress bar says.
        """
        prompt = self.prompt(question)
        encoded = prompt.encode(texts)
        prefix = list(prompt.head)
        for shot, (_, flagged) in zip(prompt.encode([text for text, _ in shots], LONGEST_SHOT), shots, strict=True):
            prefix += prompt.turn(shot, flagged)
        rows, reasons = that_fit(encoded, self.context_length - len(prefix) - len(prompt.tail))
        suffixes = [prompt.suffix(encoded[row]) for row in rows]
        values, mass = np.full(len(texts), np.nan), np.full(len(texts), np.nan)
        sampled = range(0, len(rows), max(1, len(rows) // MASS_SAMPLE))
        read, sample = self._read(prefix, suffixes, [[len(s) - 1] for s in suffixes], prompt, description, sampled)
        for i, row in enumerate(rows):
            values[row], mass[row] = read[i][0], sample.get(i, np.nan)
        for row in rows:
            if not np.isfinite(values[row]):
                values[row], reasons[row] = np.nan, "the model's logits are not finite numbers; try --dtype float32"
        return Readings(values, tuple(reasons), np.array([text.truncated for text in encoded], dtype=bool), mass)

    def packed_log_odds(
        self,
        question: Question,
        packs: Sequence[Sequence[tuple[EncodedText, bool]]],
        description: str = "few-shot scoring",
    ) -> list[NDArray[np.float64]]:
        """Log-odds at every verdict of sequences of labelled texts: text i is read after the i examples before it.

        Args:
            question: what is asked about each text.
            packs: sequences of k texts with the labels that later texts of the sequence are to see.
            description: what the progress bar says.

        Returns:
            one (k,) array per pack.
        """
        prompt = self.prompt(question)
        sequences, reads = [], []
        for pack in packs:
            sequence, at = prompt.sequence(pack)
            if len(prompt.head) + len(sequence) > self.context_length:
                raise ModelError(
                    f"{len(pack)} texts in one sequence take {len(prompt.head) + len(sequence)} tokens, and the context holds "
                    f"{self.context_length}; pack fewer or shorter texts"
                )
            sequences.append(sequence)
            reads.append(at)
        return self._read(prompt.head, sequences, reads, prompt, description)[0]

    def _read(
        self,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        reads: Sequence[Sequence[int]],
        prompt: VerdictPrompt,
        description: str,
        sampled: Sequence[int] = (),
    ) -> tuple[list[NDArray[np.float64]], dict[int, float]]:
        """Log-odds of each sequence, and verdict mass of the sampled ones; only what the cache does not hold is computed."""
        asked = (self.fingerprint(), tuple(prefix), prompt.verdict)
        keys = [reading_key(*asked, tuple(s), tuple(at)) for s, at in zip(suffixes, reads, strict=True)]
        held = self._cache.get(keys) if self._cache else {}
        # A reading is its log-odds and, last, its verdict mass, which is NaN where that was not asked for.
        missing = [
            i for i, key in enumerate(keys) if key not in held or (i in set(sampled) and not np.isfinite(held[key][-1]))
        ]
        if missing:
            self._ready(prompt, prompt.verdict)
        with progress(len(suffixes), description) as step:
            step(len(suffixes) - len(missing))
            for start in range(0, len(missing), CHECKPOINT):
                part = missing[start : start + CHECKPOINT]
                mass = {i: np.nan for i, row in enumerate(part) if row in set(sampled)}
                found = self.engine.log_odds(
                    prefix, [suffixes[i] for i in part], [reads[i] for i in part], prompt.verdict, step, mass
                )
                new = {
                    keys[row]: np.append(values.astype(np.float64), mass.get(i, np.nan))
                    for i, (row, values) in enumerate(zip(part, found, strict=True))
                }
                if self._cache:
                    self._cache.put(new)
                held |= new
        return [held[key][:-1] for key in keys], {i: float(held[keys[i]][-1]) for i in sampled}

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
        values = found.new_zeros((len(texts), *found.shape[1:]))
        values[rows] = found
        if odds is None:
            return States(values, layers, tuple(reasons))
        read = np.full(len(texts), np.nan)
        read[rows] = odds.numpy()
        return States(values, layers, tuple(reasons), read)

    def _compute_states(
        self,
        prompt: VerdictPrompt,
        suffixes: Sequence[Sequence[int]],
        layers: tuple[int, ...],
        log_odds: bool,
        step: Progress,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(m, 3, l, d) states of prompts that all fit, and their log-odds."""
        self._ready(prompt, prompt.verdict)
        width = self.transformers_model.config.get_text_config().hidden_size
        values = torch.zeros((len(suffixes), 3, len(layers), width), dtype=self.transformers_model.dtype)
        odds: dict[int, float] | None = {} if log_odds else None
        for part, states in self.engine.contrast_states(prompt.head, suffixes, prompt.verdict, layers, step, odds):
            values[torch.tensor(part)] = states
        if odds is None:
            return values, None
        return values, torch.tensor([odds[i] for i in range(len(suffixes))], dtype=torch.float64)

    def generate(
        self,
        instruction: str,
        texts: Sequence[str],
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        description: str = "generating",
    ) -> list[Generation]:
        """What the model writes about n texts: reasoning, a summary, or whatever the instruction asks for.

        Args:
            instruction: what to do with each text.
            texts: (n,) the texts.
            max_tokens: answers end after this many.
            temperature: of the sampling; 0 takes the likeliest token.
            seed: of the sampling. A text's answer depends on it and on the text, not on the other texts.
            description: what the progress bar says.
        """
        prompt = InstructionPrompt(self.tokenizer, instruction, self.context_length, max_tokens, self.max_text_tokens)
        return self._generate(prompt, texts, Sampling(max_tokens, self._stop_tokens(), temperature, seed), description)

    def answer(
        self, messages: Sequence[str], max_tokens: int = 128, description: str = "answering"
    ) -> list[Generation]:
        """The likeliest answer, token by token, to each of n messages of a user."""
        prompt = ConversationPrompt(self.tokenizer, self.context_length, max_tokens)
        stop = self._stop_tokens() | ({prompt.end} if prompt.end is not None else set())
        return self._generate(prompt, messages, Sampling(max_tokens, stop), description)

    def response_log_likelihoods(
        self, pairs: Sequence[tuple[str, str]], max_tokens: int = 256, description: str = "reading responses"
    ) -> list[NDArray[np.float64]]:
        """Log-probability of every token of n responses, the one that ends them included.

        Args:
            pairs: (n,) messages of a user, and responses to them.
            max_tokens: longer responses are cut.
            description: what the progress bar says.

        Raises:
            ModelError: a message is empty or does not fit into the context.
        """
        prompt = ConversationPrompt(self.tokenizer, self.context_length, max_tokens)
        encoded = prompt.encode([message for message, _ in pairs])
        for row, text in enumerate(encoded):
            if text.reason is not None or text.truncated:
                raise ModelError(f"message {row}: {text.reason or 'it is longer than the context'}; leave it out")
        answers = prompt.responses([response for _, response in pairs])
        suffixes = [[*prompt.suffix(text), *ids] for text, ids in zip(encoded, answers, strict=True)]
        starts = [len(suffix) - len(ids) for suffix, ids in zip(suffixes, answers, strict=True)]
        self._ready(prompt, Verdict(answers[0][0], answers[0][-1]))
        with progress(len(pairs), description) as step:
            found = self.engine.log_likelihoods(prompt.head, suffixes, starts, step)
        return [values.astype(np.float64) for values in found]

    def _generate(
        self, prompt: TextPrompt, texts: Sequence[str], sampling: Sampling, description: str
    ) -> list[Generation]:
        encoded = prompt.encode(texts)
        rows = [row for row, text in enumerate(encoded) if text.reason is None]
        suffixes = {row: prompt.suffix(encoded[row]) for row in rows}
        asked = (self.fingerprint(), tuple(prompt.head), sampling.max_tokens, sampling.temperature, sampling.seed)
        keys = {row: reading_key(*asked, tuple(suffix)) for row, suffix in suffixes.items()}
        held = self._cache.get(list(keys.values())) if self._cache else {}
        missing = [row for row in rows if keys[row] not in held]
        self._weights.activate(self._adapter_name)
        if missing and not self._generation_checked:
            self._generation_checked = True
            samples = prompt.encode(["A short text.", "Another text, which is somewhat longer than the first one."])
            check_generation(self.engine, prompt.head, [prompt.suffix(text) for text in samples])
        with progress(len(texts), description) as step:
            step(len(texts) - len(missing))
            for start in range(0, len(missing), ANSWERS):
                part = missing[start : start + ANSWERS]
                answers = generate(self.engine, prompt.head, [suffixes[row] for row in part], sampling, step)
                new = {keys[row]: np.array(ids, np.float64) for row, ids in zip(part, answers, strict=True)}
                if self._cache:
                    self._cache.put(new)
                held |= new
        out = [Generation("", reason=text.reason) for text in encoded]
        for row in rows:
            ids = held[keys[row]].astype(int).tolist()
            finished = ids[-1] in sampling.stop
            words = ids[:-1] if finished else ids
            text = self.tokenizer.decode(words, skip_special_tokens=True).strip()
            out[row] = Generation(text, tuple(words), finished)
        return out

    def _stop_tokens(self) -> frozenset[int]:
        config = getattr(self.transformers_model, "generation_config", None)
        found = getattr(config, "eos_token_id", None)
        ids = found if isinstance(found, list) else [found]
        return frozenset(token for token in [*ids, self.tokenizer.eos_token_id] if token is not None)

    def _ready(self, prompt: TextPrompt, words: Verdict) -> None:
        """Activate the adapter and, the first time, check the fast path against the model's own logits of two words."""
        self._weights.activate(self._adapter_name)
        if not self._checked:
            self._checked = True
            encoded = prompt.encode(["A short text.", "Another text, which is somewhat longer than the first one."])
            self.engine.check(prompt.head, [prompt.suffix(text) for text in encoded], words)


def _linear_names(layers: torch.nn.ModuleList) -> set[str]:
    """What the linear modules within a layer are called, also where a LoRA adapter is wrapped around them."""
    return {
        name.removesuffix(".base_layer").rsplit(".", 1)[-1]
        for name, module in layers[0].named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D") and ".lora_" not in name
    }
