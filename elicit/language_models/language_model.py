"""What a language model is asked for, wherever it runs: verdicts and words. How it reads and writes, its subclasses say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Question
from elicit.domains.artefacts import cache_dir
from elicit.errors import ModelError, PromptError
from elicit.language_models.address import is_endpoint
from elicit.language_models.cache import ReadingCache, reading_key
from elicit.language_models.engine import Meter, Progress
from elicit.language_models.generation import Generation, Sampling
from elicit.language_models.prompts import (
    MAX_TEXT_TOKENS,
    ConversationPrompt,
    EncodedText,
    InstructionPrompt,
    TextPrompt,
    ThinkingPrompt,
    VerdictPrompt,
)
from elicit.language_models.readings import Readings, Thoughts, that_fit
from elicit.progress import progress

if TYPE_CHECKING:
    from elicit.language_models.local import LocalModel

Tokens = Sequence[int]
# (k + 1,) log-odds at k places of a sequence and, last, its verdict mass, NaN where that was not asked for; or why there are none.
Reading = NDArray[np.float64] | str
MASS_SAMPLE = (
    32  # texts whose verdict mass is asked for: it takes the whole vocabulary, and its mean is what one looks at
)
NOT_FINITE = "the model's logits are not finite numbers; try --dtype float32"
LONGEST_SHOT = 192  # tokens of one example in a few-shot context; a longer one loses its middle
SAMPLES = ("A short text.", "Another text, which is somewhat longer than the first one.")  # for checks of a model


class LanguageModel(ABC):
    """A causal language model that answers questions with one token; `LocalModel` has hidden states and trains as well.

    Attributes:
        name: how the user named the model.
        tokenizer: of transformers.
        context_length: most tokens of one sequence.
        max_text_tokens: longer texts lose their middle.
        adapter: folder of the LoRA adapter, or None.
        meter: tokens so far.
        parent: name of the model that a served adapter adapts, where the server names it.
    """

    parent: str | None = None
    reserved: ClassVar[int] = 0  # tokens of the context that a prompt has to leave free

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        context_length: int,
        max_text_tokens: int,
        adapter: Path | None,
        meter: Meter,
        cache: ReadingCache | None,
    ) -> None:
        self.name, self.tokenizer, self.context_length = name, tokenizer, context_length
        self.max_text_tokens, self.adapter, self.meter = max_text_tokens, adapter, meter
        self._cache = cache
        self._prompts: dict[Question, VerdictPrompt] = {}

    @property
    def kept_in(self) -> Path:
        """Folder where what was read or trained with this model is kept for later runs."""
        return self._cache.path.parent if self._cache else cache_dir()

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Of the weights, as torch names it."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that decides what the model answers; computed once."""

    @abstractmethod
    def with_adapter(self, folder: Path) -> LanguageModel:
        """The same weights under a LoRA adapter."""

    @abstractmethod
    def uncached(self) -> LanguageModel:
        """The same model, which keeps nothing of what it reads: what is timed or compared must be computed."""

    @abstractmethod
    def _read(
        self,
        prefix: Tokens,
        suffixes: Sequence[Tokens],
        reads: Sequence[Sequence[int]],
        prompt: VerdictPrompt | ThinkingPrompt,
        description: str,
        sampled: Sequence[int] = (),
    ) -> list[Reading]:
        """What is read in n sequences, of which only what the cache does not hold is computed.

        Args:
            prefix, suffixes, reads: as in `Engine.log_odds`.
            prompt: whose verdict words.
            description: what the progress bar says.
            sampled: sequences whose verdict mass is wanted.
        """

    @abstractmethod
    def _write(
        self, prompt: TextPrompt, suffixes: Sequence[Tokens], sampling: Sampling, step: Progress
    ) -> Iterator[Mapping[int, list[int] | str]]:
        """Answers to some prompts at a time: by place, token ids, which end with a stop token if the model ended, or why not."""

    @abstractmethod
    def _likelihoods(
        self, prompt: ConversationPrompt, suffixes: Sequence[Tokens], answers: Sequence[Tokens], step: Progress
    ) -> list[NDArray[np.float64]]:
        """Log-probabilities of the tokens of n answers behind n suffixes."""

    @abstractmethod
    def _stop_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""

    def prompt(self, question: Question) -> VerdictPrompt:
        """The prompt of a question in this model's chat format.

        Raises:
            ModelError: a verdict word is not exactly one token there, or the question does not fit.
        """
        if question not in self._prompts:
            prompt = VerdictPrompt(self.tokenizer, question, self.context_length, self.max_text_tokens)
            self._check_words(prompt)
            self._prompts[question] = prompt
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
        prefix = list(prompt.head)
        for shot, (_, flagged) in zip(prompt.encode([text for text, _ in shots], LONGEST_SHOT), shots, strict=True):
            prefix += prompt.turn(shot, flagged)
        room = self.context_length - len(prefix) - len(prompt.tail) - self.reserved
        encoded = prompt.encode(texts, max(room, 1))  # behind examples a text loses more of its middle
        rows, reasons = that_fit(encoded, room)
        suffixes = {row: prompt.suffix(encoded[row]) for row in rows}
        return self._read_last(prefix, suffixes, encoded, reasons, prompt, description)

    def think(
        self,
        question: Question,
        texts: Sequence[str],
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        description: str = "thinking",
    ) -> Thoughts:
        """Reasoning about n texts, and verdict log-odds after it.

        Args:
            question: what is asked about each text.
            texts: (n,) the texts.
            max_tokens: reasoning ends after this many; 0 asks for the verdict at once, under the same instruction.
            temperature, seed: of the sampling, as in `generate`.
            description: what the progress bar says.
        """
        self.prompt(question)  # which checks the verdict words
        prompt = ThinkingPrompt(self.tokenizer, question, self.context_length, max_tokens, self.max_text_tokens)
        encoded = prompt.encode(texts)
        if max_tokens:
            sampling = Sampling(max_tokens, self._stop_tokens(), temperature, seed)
            written = self._generate(prompt, texts, sampling, description)
        else:
            written = [Generation("", reason=text.reason) for text in encoded]
        reasons = [answer.reason for answer in written]
        rows = [row for row, reason in enumerate(reasons) if reason is None]
        forced = prompt.forced([encoded[row] for row in rows], [written[row].text for row in rows])
        suffixes = dict(zip(rows, forced, strict=True))
        read = self._read_last(prompt.head, suffixes, encoded, reasons, prompt, f"{description}, verdicts")
        return Thoughts(tuple(written), read)

    def packed_log_odds(
        self,
        question: Question,
        packs: Sequence[Sequence[tuple[EncodedText, bool]]],
        description: str = "few-shot scoring",
        last_only: bool = False,
    ) -> list[NDArray[np.float64]]:
        """Log-odds at every verdict of sequences of labelled texts: text i is read after the i examples before it.

        Args:
            question: what is asked about each text.
            packs: sequences of k texts with the labels that later texts of the sequence are to see.
            description: what the progress bar says.
            last_only: read the last text of each sequence alone.

        Returns:
            one (k,) array per pack, or (1,) of the last texts; NaN where a verdict cannot be read.

        Raises:
            PromptError: a sequence does not fit into the context, or no verdict at all can be read.
        """
        prompt = self.prompt(question)
        sequences, reads = [], []
        for pack in packs:
            sequence, at = prompt.sequence(pack)
            if len(prompt.head) + len(sequence) + self.reserved > self.context_length:
                raise PromptError(
                    f"{len(pack)} texts in one sequence take {len(prompt.head) + len(sequence)} tokens, and the context holds "
                    f"{self.context_length}; pack fewer or shorter texts"
                )
            sequences.append(sequence)
            reads.append(at[-1:] if last_only else at)
        found = self._read(prompt.head, sequences, reads, prompt, description)
        values = [
            np.full(len(at), np.nan) if isinstance(read, str) else np.where(np.isfinite(read[:-1]), read[:-1], np.nan)
            for read, at in zip(found, reads, strict=True)
        ]
        if values and not any(np.isfinite(read).any() for read in values):
            why = next((read for read in found if isinstance(read, str)), NOT_FINITE)
            raise PromptError(f"{self.name}: in a few-shot context, {why}")
        return values

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
            ModelError: a message is empty or does not fit into the context, or a server gives no log-probabilities of prompts.
        """
        prompt = ConversationPrompt(self.tokenizer, self.context_length, max_tokens + self.reserved)
        encoded = prompt.encode([message for message, _ in pairs])
        for row, text in enumerate(encoded):
            if text.reason is not None or text.truncated:
                raise ModelError(f"message {row}: {text.reason or 'it is longer than the context'}; leave it out")
        answers = [ids[:max_tokens] for ids in prompt.responses([response for _, response in pairs])]
        with progress(len(pairs), description) as step:
            return self._likelihoods(prompt, [prompt.suffix(text) for text in encoded], answers, step)

    def _read_last(
        self,
        prefix: Tokens,
        suffixes: Mapping[int, Tokens],
        encoded: Sequence[EncodedText],
        reasons: list[str | None],
        prompt: VerdictPrompt | ThinkingPrompt,
        description: str,
    ) -> Readings:
        """Log-odds behind the suffixes of some of n texts; the other texts keep their reasons."""
        values, mass = np.full(len(encoded), np.nan), np.full(len(encoded), np.nan)
        sampled = range(0, len(suffixes), max(1, len(suffixes) // MASS_SAMPLE))
        last = [[len(suffix) - 1] for suffix in suffixes.values()]
        read = self._read(prefix, list(suffixes.values()), last, prompt, description, sampled)
        weighed = set(sampled)
        for at, (row, found) in enumerate(zip(suffixes, read, strict=True)):
            if isinstance(found, str):
                reasons[row] = found
            elif not np.isfinite(found[0]):
                reasons[row] = NOT_FINITE
            else:
                values[row] = found[0]
                if at in weighed:  # the same sample, whatever is cached
                    mass[row] = found[1]
        return Readings(values, tuple(reasons), np.array([text.truncated for text in encoded], dtype=bool), mass)

    def _generate(
        self, prompt: TextPrompt, texts: Sequence[str], sampling: Sampling, description: str
    ) -> list[Generation]:
        """Answers to n texts, of which only those that the cache does not hold are written."""
        encoded = prompt.encode(texts)
        rows = [row for row, text in enumerate(encoded) if text.reason is None]
        suffixes = {row: prompt.suffix(encoded[row]) for row in rows}
        asked = (self.fingerprint(), tuple(prompt.head), sampling.max_tokens, sampling.temperature, sampling.seed)
        keys = {row: reading_key(*asked, tuple(suffix)) for row, suffix in suffixes.items()}
        held = self._held(list(keys.values()))
        missing = [row for row in rows if keys[row] not in held]
        out = [Generation("", reason=text.reason) for text in encoded]
        with progress(len(texts), description) as step:
            step(len(texts) - len(missing))
            for answers in self._write(prompt, [suffixes[row] for row in missing], sampling, step):
                new: dict[bytes, NDArray[np.float64]] = {}
                for at, answer in answers.items():
                    if isinstance(answer, str):
                        out[missing[at]] = Generation("", reason=answer)
                    else:
                        new[keys[missing[at]]] = np.array(answer, np.float64)
                self._keep(new)
                held |= new
        for row in rows:
            if keys[row] in held:
                out[row] = self._generation(held[keys[row]].astype(int).tolist(), sampling)
        return out

    def _generation(self, ids: list[int], sampling: Sampling) -> Generation:
        finished = bool(sampling.stop.intersection(ids[-1:]))
        words = ids[:-1] if finished else ids
        return Generation(self.tokenizer.decode(words, skip_special_tokens=True).strip(), tuple(words), finished)

    def _check_words(self, prompt: VerdictPrompt) -> None:  # noqa: B027  # where weights are here, there is nothing to check
        """Called once for each question."""

    def _held(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float64]]:
        """What the cache holds."""
        return self._cache.get(keys) if self._cache else {}

    def _keep(self, new: Mapping[bytes, NDArray[np.float64]]) -> None:
        if self._cache:
            self._cache.put(new)


def load_language_model(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    max_text_tokens: int = MAX_TEXT_TOKENS,
    readings: Path | None = None,
) -> LanguageModel:
    """A language model by catalogue name, folder, GGUF file, hub id, or the address of a server that has it.

    Args:
        name: which model; `endpoint:URL#NAME` is one that a server serves.
        dtype, device: as in `LocalModel.load`; a server has its own.
        max_text_tokens: longer texts lose their middle.
        readings: folder where readings and hidden states are kept; by default the user's cache.
    """
    if not is_endpoint(name):
        from elicit.language_models.local import LocalModel

        return LocalModel.load(name, dtype, device, max_text_tokens, readings)
    if (dtype, device) != ("auto", "auto"):
        raise ModelError(f"{name}: the server decides on dtype and device; leave --dtype and --device out")
    from elicit.language_models.endpoint import EndpointModel  # and with it the client, which is slow to import

    return EndpointModel.load(name, max_text_tokens, readings)


def local_model(model: LanguageModel, needs: str) -> LocalModel:
    """The model itself, for work that needs its weights on this machine.

    Raises:
        ModelError: it is served by an endpoint.
    """
    from elicit.language_models.local import LocalModel

    if isinstance(model, LocalModel):
        return model
    raise ModelError(
        f"{model.name} gives verdicts and words only, and {needs}; name the model's folder or hub id instead"
    )
