"""A language model behind an OpenAI-compatible server: questions and texts in, log-odds and words out; no hidden states.

Every prompt is built here, as for a model in memory, and goes out as token ids. The log-odds are a difference of two
log-probabilities of the next token: those of the verdict words by `logprob_token_ids` where the server knows it (vLLM), else from
the likeliest tokens, matched by id (llama.cpp). A verdict word that is not among them leaves its text unscored.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Question
from elicit.errors import ModelError
from elicit.language_models.address import Address
from elicit.language_models.cache import ReadingCache, reading_key
from elicit.language_models.engine import Meter, Progress
from elicit.language_models.generation import Sampling
from elicit.language_models.language_model import SAMPLES, LanguageModel, Reading, Tokens
from elicit.language_models.loading import load_tokenizer
from elicit.language_models.prompts import (
    MAX_TEXT_TOKENS,
    ConversationPrompt,
    TextPrompt,
    ThinkingPrompt,
    Verdict,
    VerdictPrompt,
)
from elicit.language_models.server import RefusedError, Server
from elicit.language_models.weights import hash_of_files
from elicit.progress import progress

FEW, MOST = 50, (1000, 20, 5)  # likeliest tokens that are asked for: at first, and as many as a server will give
IMPOSSIBLE = -9000.0  # vLLM writes an infinite logarithm as -9999
OTHER_WEIGHTS = 0.5  # log-odds by which a model does not differ from itself, whatever the batch
ABLE = "servers of vLLM and llama.cpp do"
CHECK, WORDS = "Is this text about animals?", (("Yes", "No"), ("A", "B"))  # what every server is asked first
_log = logging.getLogger(__name__)


class EndpointModel(LanguageModel):
    """A language model that a server has, perhaps with a LoRA adapter, and that answers questions with one token.

    Attributes:
        adapter: folder of the LoRA adapter that the server applies, where one is known here.
        tokenizer: the same as the server's, which is checked.
        context_length: most tokens of one sequence, the answer included.
        meter: tokens so far, prompts and answers.
    """

    dtype = "as served"
    reserved = 1  # for the token that a server answers with

    def __init__(
        self,
        name: str,
        server: Server,
        served: Mapping[str, Any],
        tokenizer: Any,
        max_text_tokens: int = MAX_TEXT_TOKENS,
        cache: ReadingCache | None = None,
        adapter: Path | None = None,
    ) -> None:
        length = _context_length(served, tokenizer)
        super().__init__(name, tokenizer, length, max_text_tokens, adapter, Meter(), cache)
        self.server, self.served, self.parent = server, served, served.get("parent")
        self._fingerprint: str | None = None
        self._most = 0  # likeliest tokens that the server gives; 0 until it was asked

    @classmethod
    def load(cls, name: str, max_text_tokens: int = MAX_TEXT_TOKENS, readings: Path | None = None) -> EndpointModel:
        """Find the model at its server, and its tokenizer here.

        Args:
            name: `endpoint:URL#NAME,tokenizer=WHERE`; see `Address`.
            max_text_tokens: longer texts lose their middle.
            readings: folder where readings are kept; by default the user's cache.

        Raises:
            ModelError: nothing answers there, it refuses the key or does not serve the model, or there is no tokenizer.
        """
        address = Address.parse(name)
        server = Server(address.url)
        models = server.models()
        names = [str(entry["id"]) for entry in models]
        wanted = address.model or (names[0] if len(names) == 1 else "")
        served = next((entry for entry in models if wanted in (entry["id"], *(entry.get("aliases") or ()))), None)
        if served is None:
            asked = repr(wanted) if wanted else "no model was named"
            raise ModelError(
                f"{address.url} serves {', '.join(names) or 'nothing'}; {asked}: write endpoint:{address.url}#NAME"
            )
        # vLLM says of an adapter which model it adapts, and of that one how long its context is.
        base = next((entry for entry in models if entry["id"] == served.get("parent")), served)
        served = {**served, "max_model_len": base.get("max_model_len")}
        cache = ReadingCache(readings / "readings.sqlite" if readings else None)
        return cls(name, server, served, _find_tokenizer(address, served, base), max_text_tokens, cache)

    def with_adapter(self, folder: Path) -> EndpointModel:
        """This model, which the server must already serve with the LoRA adapter of a folder.

        Raises:
            ModelError: the server says that it serves this model without an adapter, or with another one.
        """
        root = Path(str(self.served.get("root") or ""))
        how = f"serve it (vllm serve MODEL --enable-lora --lora-modules NAME={folder}) and name it: endpoint:URL#NAME"
        if "parent" in self.served and self.served["parent"] is None:
            raise ModelError(f"{self.name} is served without the adapter in {folder}; {how}")
        if (root / "adapter_config.json").is_file() and hash_of_files(root) != hash_of_files(folder):
            raise ModelError(f"{self.name} is served with the adapter in {root}, which is not that in {folder}; {how}")
        if "parent" not in self.served:
            _log.warning("%s does not say which adapter it serves: `elicit doctor --against` compares", self.name)
        return EndpointModel(
            self.name, self.server, self.served, self.tokenizer, self.max_text_tokens, self._cache, folder
        )

    def uncached(self) -> EndpointModel:
        """The same model, of which nothing that it said before counts: what is compared or timed must be asked."""
        return EndpointModel(
            self.name, self.server, self.served, self.tokenizer, self.max_text_tokens, adapter=self.adapter
        )

    def fingerprint(self) -> str:
        """Hash of the address, what the server says about the model, the tokenizer, and the adapter; computed once."""
        if self._fingerprint is None:
            steady = {
                key: value for key, value in self.served.items() if key not in ("created", "permission", "status")
            }
            digest = hashlib.sha256(json.dumps([self.server.url, steady], sort_keys=True, default=str).encode())
            digest.update(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
            digest.update(f"{self.tokenizer.chat_template} {self.max_text_tokens}".encode())
            # An adapter that is served from a folder of this machine may be trained again there.
            root = Path(str(self.served.get("root") or ""))
            for folder in (self.adapter, root if (root / "adapter_config.json").is_file() else None):
                if folder is not None:
                    digest.update(hash_of_files(folder).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    @property
    def _model(self) -> str:
        return str(self.served["id"])

    def _stop_tokens(self) -> frozenset[int]:
        # The server knows what else ends an answer of its model.
        end = self.tokenizer.eos_token_id
        return frozenset() if end is None else frozenset((end,))

    def _read(
        self,
        prefix: Tokens,
        suffixes: Sequence[Tokens],
        reads: Sequence[Sequence[int]],
        prompt: VerdictPrompt | ThinkingPrompt,
        description: str,
        sampled: Sequence[int] = (),
    ) -> list[Reading]:
        """A server answers at the end of a prompt alone: each place is one of its own, and the verdict mass comes with it.

        A place without an answer is NaN; why it has none is said where the sequence has none at all.
        """
        contexts = [suffix[: at + 1] for suffix, places in zip(suffixes, reads, strict=True) for at in places]
        answers = iter(self._ask(prefix, contexts, prompt, description))
        out: list[Reading] = []
        for places in reads:
            found = [next(answers) for _ in places]
            known = [one for one in found if isinstance(one, tuple)]
            if known:
                odds = [one[0] if isinstance(one, tuple) else np.nan for one in found]
                out.append(np.array([*odds, known[-1][1]]))
            else:
                out.append(str(found[0]))
        return out

    def _ask(
        self, prefix: Tokens, suffixes: Sequence[Tokens], prompt: VerdictPrompt | ThinkingPrompt, description: str
    ) -> list[tuple[float, float] | str]:
        """Log-odds and verdict mass after each sequence, or why there are none; only what the cache does not hold is asked."""
        keys = [self._key(prefix, suffix, prompt.verdict) for suffix in suffixes]
        held = self._held(keys)
        read: dict[int, tuple[float, float] | str] = {}
        for row, key in enumerate(keys):
            if key in held:
                read[row] = (float(held[key][0]), float(held[key][-1]))
        missing = [row for row in range(len(keys)) if row not in read]
        with progress(len(keys), description) as step:
            step(len(read))
            for likeliest in sorted({min(FEW, self._most), self._most}):
                asked = [row for row in missing if not isinstance(read.get(row), tuple)]
                options = _verdict_options(prompt.verdict, likeliest)
                prompts = [[*prefix, *suffixes[row]] for row in asked]
                for answers in self.server.complete_all(self._model, prompts, options):
                    new = {}
                    for at, answer in answers:
                        row = asked[at]
                        step(row not in read)
                        read[row] = found = self._reading(answer, prompt, likeliest)
                        self.meter.tokens += 0 if isinstance(answer, RefusedError) else len(prompts[at]) + 1
                        if isinstance(found, tuple):
                            new[keys[row]] = np.array(found, np.float64)
                    self._keep(new)
        return [read[row] for row in range(len(keys))]

    def _key(self, prefix: Tokens, suffix: Tokens, verdict: Verdict) -> bytes:
        """As in `LocalModel`: a reading is its log-odds and, last, its verdict mass."""
        return reading_key(self.fingerprint(), tuple(prefix), verdict, tuple(suffix), (len(suffix) - 1,))

    def _reading(
        self, answer: dict[str, Any] | RefusedError, prompt: VerdictPrompt | ThinkingPrompt, likeliest: int
    ) -> tuple[float, float] | str:
        """Log-odds and verdict mass, or why there are none."""
        if isinstance(answer, RefusedError):
            return f"the server refused it ({answer})"
        found = _log_probabilities(answer) or {}
        words = {prompt.verdict.flagged: prompt.question.flagged, prompt.verdict.cleared: prompt.question.cleared}
        for token, word in words.items():
            if not found.get(token, -np.inf) > IMPOSSIBLE:
                return f"the verdict word {word!r} is not among the {likeliest} likeliest tokens, and the server names no others"
        flagged, cleared = found[prompt.verdict.flagged], found[prompt.verdict.cleared]
        return flagged - cleared, float(np.exp(flagged) + np.exp(cleared))

    def _held(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float64]]:
        """What the cache holds, once it is known that it is of the weights that are served now."""
        if keys:
            self._check()
        return super()._held(keys)

    def _check(self) -> None:
        """Before all else, once: whether the server understands our tokens, can answer, and has the weights of what is cached.

        It is asked a question of the project's own, so that it does not matter which questions the cache has answers to.
        """
        if self._most:
            return
        prompt = self._check_prompt()
        self._check_words(prompt)
        suffixes = [prompt.suffix(text) for text in prompt.encode(SAMPLES)]
        prompts = [[*prompt.head, *suffix] for suffix in suffixes]
        most, answers = self._first_answers(prompts, prompt.verdict)
        for ids, answer in zip(prompts, answers, strict=True):
            found = _log_probabilities(answer)
            if found is None:
                raise ModelError(f"{self.name} gives no log-probabilities; {ABLE}")
            if not found:
                raise ModelError(f"{self.name} gives log-probabilities without token ids; {ABLE} with them")
            self.meter.tokens += len(ids) + 1
        keys = [self._key(prompt.head, suffix, prompt.verdict) for suffix in suffixes]
        self._check_weights(keys, [self._reading(answer, prompt, most) for answer in answers])
        self._most = most

    def _check_prompt(self) -> VerdictPrompt:
        """The check's question, with the first of its verdict words that are one token each here."""
        for flagged, cleared in WORDS[:-1]:
            with suppress(ModelError):
                return VerdictPrompt(self.tokenizer, Question(CHECK, flagged, cleared), self.context_length)
        return VerdictPrompt(self.tokenizer, Question(CHECK, *WORDS[-1]), self.context_length)

    def _first_answers(self, prompts: Sequence[Tokens], verdict: Verdict) -> tuple[int, list[dict[str, Any]]]:
        """Answers to prompts one by one, with as many of the likeliest tokens as the server gives, and how many these are."""
        refused: RefusedError | None = None
        for most in MOST:
            try:
                answers = [
                    self.server.complete(self._model, [ids], _verdict_options(verdict, most))[0] for ids in prompts
                ]
            except RefusedError as error:
                refused = error
                continue
            for ids, answer in zip(prompts, answers, strict=True):
                read = answer["usage"].get("prompt_tokens", len(ids))
                if read != len(ids):
                    raise ModelError(
                        f"{self.name} reads {read} tokens where {len(ids)} were sent: it adds some of its own, such as a "
                        "beginning-of-sequence token; have it leave prompts of token ids as they are"
                    )
            return most, answers
        if str(refused).startswith(("404", "405", "501")):
            raise ModelError(
                f"{self.name} has no /completions ({refused}): a chat-only server gives no verdicts; {ABLE}"
            )
        raise ModelError(f"{self.name} gives no log-probabilities after token ids ({refused}); {ABLE}")

    def _check_weights(self, keys: Sequence[bytes], read: Sequence[tuple[float, float] | str]) -> None:
        """What is cached is of this address and name; whether also of these weights, two sample texts tell."""
        held = self._cache.get(keys) if self._cache else {}
        for key, found in zip(keys, read, strict=True):
            if isinstance(found, str):
                _log.warning("%s: whether cached answers are of these weights cannot be told: %s", self.name, found)
                continue
            if key in held and abs(held[key][0] - found[0]) > OTHER_WEIGHTS:
                raise ModelError(
                    f"{self.name} is another model than when its answers were cached: log-odds of a sample text were "
                    f"{held[key][0]:.2f} and are {found[0]:.2f}; serve it under another name, or `elicit cache --clear`"
                )
            if key not in held:
                self._keep({key: np.array(found, np.float64)})

    def _check_words(self, prompt: VerdictPrompt) -> None:
        """Whether both verdict words have the same token ids at the server."""
        for word in (prompt.verdict.flagged, prompt.verdict.cleared):
            ids = [*prompt.tail, word]
            text = self.tokenizer.decode(ids)
            theirs = self.server.tokenize(text)
            if theirs is not None:
                if theirs[-1:] != [word]:
                    here = f"and the one here {ids[-3:]}"
                    raise ModelError(self._mismatch(f"makes {theirs[-3:]} of the end of {text!r}, {here}"))
                continue
            echoed = self._echo(ids)
            if echoed is None:
                _log.warning("%s does not tell how it tokenises: its verdict words are taken on trust", self.name)
                return
            if not echoed.startswith(text):
                raise ModelError(self._mismatch(f"reads {ids} as {echoed!r}, and the one here as {text!r}"))

    def _echo(self, ids: Tokens) -> str | None:
        """How the server writes token ids, with the token that it adds; None where it does not write prompts."""
        options = {"max_tokens": 1, "temperature": 0}
        try:
            (alone,) = self.server.complete(self._model, [ids], options)
            (echoed,) = self.server.complete(self._model, [ids], options | {"echo": True})
        except RefusedError:
            return None
        return str(echoed.get("text")) if echoed.get("text") != alone.get("text") else None

    def _mismatch(self, what: str) -> str:
        return f"{self.name} has another tokenizer: it {what}; name the right one, endpoint:URL#NAME,tokenizer=FOLDER_OR_HUB_ID"

    def _write(
        self, prompt: TextPrompt, suffixes: Sequence[Tokens], sampling: Sampling, step: Progress
    ) -> Iterator[dict[int, list[int] | str]]:
        prompts = [[*prompt.head, *suffix] for suffix in suffixes]
        # What is drawn for a text depends on the seed and on its prompt, never on its neighbours.
        seeds = [_seed(sampling.seed, ids) for ids in prompts] if sampling.temperature else None
        for answers in self.server.complete_all(self._model, prompts, _sampling_options(sampling), seeds):
            new: dict[int, list[int] | str] = {}
            for at, answer in answers:
                if isinstance(answer, RefusedError):
                    new[at] = f"the server refused it ({answer})"
                    continue
                new[at] = ids = self._answer_ids(answer, sampling)
                self.meter.tokens += len(prompts[at]) + len(ids)
            step(len(answers))
            yield new

    def _likelihoods(
        self, prompt: ConversationPrompt, suffixes: Sequence[Tokens], answers: Sequence[Tokens], step: Progress
    ) -> list[NDArray[np.float64]]:
        asked = [[*prompt.head, *suffix, *ids] for suffix, ids in zip(suffixes, answers, strict=True)]
        out: list[NDArray[np.float64]] = [np.zeros(0)] * len(asked)
        options = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        self._check()
        for row, found in chain.from_iterable(self.server.complete_all(self._model, asked, options)):
            if isinstance(found, RefusedError):
                raise ModelError(f"{self.name}: message {row}: {found}")
            scored = found.get("prompt_logprobs")
            if not scored:
                raise ModelError(f"{self.name} gives no log-probabilities of a prompt's own tokens; vLLM does")
            start = len(asked[row]) - len(answers[row])
            out[row] = np.array(
                [scored[start + i][str(token)]["logprob"] for i, token in enumerate(answers[row])], np.float64
            )
            self.meter.tokens += len(asked[row]) + 1
            step(1)
        return out

    def _answer_ids(self, answer: Mapping[str, Any], sampling: Sampling) -> list[int]:
        """Token ids of an answer; one that ended by itself ends with a stop token."""
        ids = _token_ids(answer)
        if ids is None:
            raise ModelError(f"{self.name} gives answers without token ids; {ABLE} with them")
        if answer.get("finish_reason") == "stop" and not sampling.stop.intersection(ids[-1:]):
            # The server's own list of what ends an answer is longer than the tokenizer's.
            if ids and ids[-1] in self.tokenizer.all_special_ids:
                ids.pop()
            ids += sorted(sampling.stop)[:1]
        return ids


def _context_length(served: Mapping[str, Any], tokenizer: Any) -> int:
    """What the server says (vLLM, llama.cpp), else what the tokenizer was made for, at most 131,072."""
    said = served.get("max_model_len") or (served.get("meta") or {}).get("n_ctx") or tokenizer.model_max_length
    return int(min(said, 131_072))


def _find_tokenizer(address: Address, served: Mapping[str, Any], base: Mapping[str, Any]) -> Any:
    """The served model's tokenizer, by the names that it goes by: its own, its folder, and those of the model that it adapts."""
    known = [str(entry[key]) for entry in (served, base) for key in ("id", "root") if entry.get(key)]
    names = [address.tokenizer] if address.tokenizer else list(dict.fromkeys(known))
    for name in names:
        tokenizer = load_tokenizer(name)
        if tokenizer is not None:
            return tokenizer
    raise ModelError(
        f"there is no tokenizer here under {' or '.join(names)}; name the one of the served model: "
        f"endpoint:{address.url}#{address.model or served['id']},tokenizer=CATALOGUE_NAME_FOLDER_OR_HUB_ID"
    )


def _verdict_options(verdict: Verdict, likeliest: int) -> dict[str, Any]:
    """vLLM heeds `logprob_token_ids` and then `logprobs` does not matter; llama.cpp names tokens by id whether asked or not."""
    return {
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": likeliest,
        "logprob_token_ids": [verdict.flagged, verdict.cleared],
        "return_tokens_as_token_ids": True,
    }


def _sampling_options(sampling: Sampling) -> dict[str, Any]:
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,  # vLLM would take the model's own, which nothing here applies
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": sorted(sampling.stop),
        "logprobs": 1,
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
    }


def _log_probabilities(answer: Mapping[str, Any]) -> dict[int, float] | None:
    """Log-probabilities of the first token by id; empty where tokens have no ids, None where there are none at all."""
    held = answer.get("logprobs") or {}
    if held.get("content"):  # llama.cpp
        first = held["content"][0]
        return {int(entry["id"]): float(entry["logprob"]) for entry in [first, *first["top_logprobs"]] if "id" in entry}
    if held.get("top_logprobs"):  # vLLM
        entries = (held["top_logprobs"][0] or {}).items()
        return {int(token[9:]): float(value) for token, value in entries if token.startswith("token_id:")}
    return None


def _token_ids(answer: Mapping[str, Any]) -> list[int] | None:
    """Token ids of an answer, None where they are not named."""
    if isinstance(answer.get("token_ids"), list):  # vLLM
        return [int(token) for token in answer["token_ids"]]
    content = (answer.get("logprobs") or {}).get("content")  # llama.cpp
    if content and all("id" in entry for entry in content):
        return [int(entry["id"]) for entry in content]
    return None


def _seed(seed: int, prompt: Tokens) -> int:
    return int.from_bytes(hashlib.blake2b(repr((seed, list(prompt))).encode(), digest_size=4).digest()) >> 1
