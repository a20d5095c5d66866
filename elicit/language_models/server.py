"""A server that speaks the OpenAI protocol, asked with token ids: batches, bounded concurrency, retries, clear ends.

The text under monitoring never reaches the server as a string that it could take for its template: prompts are lists of token
ids, which vLLM and llama.cpp take at /completions.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from elicit.errors import ModelError

PROMPTS = 16  # prompts of one request
REQUESTS = 8  # requests that are under way at once; a server that is slower than this is not sent more
RETRIES = 8  # of one request, some 40 s in all: a server that is restarted meanwhile is met again
PAUSE = 0.25  # seconds before a damaged answer is asked for again, and then twice as many, …
OF_A_PROMPT = (400, 413, 422)  # statuses that say something about what was asked; others are about server or model
TIMEOUT = 600.0  # seconds for one request
AGAIN = "is the server up, and the address right? Then run the same command again: it asks for what it has not read yet"
_log = logging.getLogger(__name__)
Ids = Sequence[int]
Work = TypeVar("Work")
Done = TypeVar("Done")


class RefusedError(Exception):
    """The server understood what it was asked and will not do it: a prompt is too long, say. Asking again is no use.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


class Server:
    """An OpenAI-compatible server.

    The API key comes from ELICIT_API_KEY, or else OPENAI_API_KEY; it is sent, and never shown or kept.

    Args:
        url: base address.
        timeout: seconds for one request.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.url = url
        # Without the end of a line, which a file of secrets adds.
        self._key = (os.environ.get("ELICIT_API_KEY") or os.environ.get("OPENAI_API_KEY") or "").strip()
        parts = urlsplit(url)
        here = _is_loopback(parts.hostname or "")
        if parts.scheme == "http" and not here:
            _log.warning("%s is plain http to another machine: texts and API key travel unencrypted; prefer https", url)
        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key or "none",
            timeout=openai.Timeout(timeout, connect=10.0),
            max_retries=RETRIES,
            # A proxy cannot reach what runs on this machine.
            http_client=openai.DefaultHttpxClient(trust_env=not here),
        )

    def models(self) -> list[dict[str, Any]]:
        """What the server says about each model that it serves; the first thing that it is asked, and soon given up."""
        try:
            answer = self._ask("GET", "/models", retries=1)
        except RefusedError as error:
            raise ModelError(
                f"{self.url} has no list of models ({error}); an OpenAI-compatible address usually ends with /v1"
            ) from error
        data = answer.get("data")
        if not isinstance(data, list) or not all(isinstance(entry, dict) and "id" in entry for entry in data):
            raise ModelError(f"{self.url} does not speak the OpenAI protocol; its address usually ends with /v1")
        return data

    def complete(self, model: str, prompts: Sequence[Ids], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The server's answers to n prompts in one request, in their order.

        Raises:
            RefusedError: it will not answer one of them, or does not know an option.
            ModelError: it cannot be reached, or its answers cannot be told apart.
        """
        body = {"model": model, "prompt": [list(prompt) for prompt in prompts], **options}
        for last in _attempts():
            answer = self._ask("POST", "/completions", body)
            choices = answer.get("choices") or []
            by_place = {choice.get("index"): choice for choice in choices if isinstance(choice, dict)}
            if len(choices) == len(prompts) and set(by_place) == set(range(len(prompts))):
                usage = answer.get("usage") or {}
                return [by_place[place] | {"usage": usage} for place in range(len(prompts))]
            if last:
                raise ModelError(
                    f"{self.url} gave {len(choices)} answers to {len(prompts)} prompts, and again when asked again"
                )
        raise AssertionError

    def complete_all(
        self, model: str, prompts: Sequence[Ids], options: Mapping[str, Any], seeds: Sequence[int] | None = None
    ) -> Iterator[list[tuple[int, dict[str, Any] | RefusedError]]]:
        """Answers to any number of prompts, some at a time as they come, each with its prompt's position.

        Args:
            model: its name at the server.
            prompts: token ids of each.
            options: of every request.
            seeds: one for each prompt, which then goes in a request of its own.
        """
        size = PROMPTS if seeds is None else 1
        batches = [range(start, min(start + size, len(prompts))) for start in range(0, len(prompts), size)]

        def work(rows: range) -> list[dict[str, Any] | RefusedError]:
            asked = options if seeds is None else {**options, "seed": seeds[rows[0]]}
            try:
                return [*self.complete(model, [prompts[row] for row in rows], asked)]
            except RefusedError as refused:
                if refused.status not in OF_A_PROMPT:
                    raise ModelError(f"{self.url} will not answer any more ({refused}); {AGAIN}") from refused
                # One prompt that is refused must not cost its neighbours.
                return [refused] if len(rows) == 1 else [found for row in rows for found in work(range(row, row + 1))]

        for rows, found in in_parallel(work, batches, REQUESTS):
            yield list(zip(rows, found, strict=True))

    def tokenize(self, text: str, special: bool = False) -> list[int] | None:
        """The server's own token ids of a text, None where it has no /tokenize.

        Args:
            text: may hold the template's special tokens.
            special: whether the server may put what it puts before every text (a beginning-of-sequence token, say).
        """
        # vLLM asks for `prompt` and `add_special_tokens`, llama.cpp for `content` and `add_special`.
        body = {"prompt": text, "content": text, "add_special_tokens": special, "add_special": special}
        found = self._beside("/tokenize", body).get("tokens")
        return [int(token) for token in found] if isinstance(found, list) else None

    def render(self, model: str, message: str) -> list[int] | str | None:
        """A user's message in the server's own chat template: as token ids (vLLM), as text (llama.cpp), or None."""
        body = {"model": model, "messages": [{"role": "user", "content": message}], "add_generation_prompt": True}
        rendered = self._beside("/apply-template", body).get("prompt")
        if isinstance(rendered, str):
            return rendered
        found = self._beside("/tokenize", body).get("tokens")
        return [int(token) for token in found] if isinstance(found, list) and found else None

    def _beside(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a path that stands beside the protocol's, at the root of the server; empty where it has none."""
        try:
            return self._ask("POST", self.url.removesuffix("/v1") + path, body, retries=2)
        except RefusedError:
            return {}

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, retries: int = RETRIES
    ) -> dict[str, Any]:
        """One request. The client sends it again, with jitter, after 429, 5xx, time-outs and dropped connections."""
        client = self._client.with_options(max_retries=retries)
        for last in _attempts():
            try:
                answer: Any = (
                    client.get(path, cast_to=object)
                    if method == "GET"
                    else client.post(path, cast_to=object, body=body)
                )
            except (openai.AuthenticationError, openai.PermissionDeniedError):
                # What the server says may quote the key.
                which = "refuses the API key" if self._key else "wants an API key"
                raise ModelError(f"{self.url} {which}; set ELICIT_API_KEY or OPENAI_API_KEY") from None
            except openai.APITimeoutError as error:
                raise ModelError(f"{self.url} did not answer in time, however often; {AGAIN}") from error
            except openai.APIConnectionError as error:
                reason = error.__cause__ or error
                raise ModelError(f"nothing answers at {self.url} ({self._shown(str(reason))}); {AGAIN}") from None
            except openai.APIStatusError as error:
                said = self._shown(_said(error))
                if error.status_code == 429 or (error.status_code >= 500 and error.status_code != 501):
                    raise ModelError(
                        f"{self.url} fails again and again ({error.status_code}: {said}); {AGAIN}"
                    ) from None
                raise RefusedError(error.status_code, said) from None
            except ValueError as error:  # the body was cut off
                if last:
                    raise ModelError(f"{self.url} answers with damaged JSON ({error}), however often") from error
                continue
            return answer if isinstance(answer, dict) else {}
        raise AssertionError

    def _shown(self, message: str) -> str:
        """A line of it, without the key, which servers and libraries quote."""
        line = " ".join(message.split())
        for key in (self._key, repr(self._key)[1:-1]) if self._key else ():
            line = line.replace(key, "…")
        return line[:300]


def in_parallel(work: Callable[[Work], Done], items: Sequence[Work], workers: int) -> Iterator[tuple[Work, Done]]:
    """Each item with what came of it, as soon as it is there, from so many threads at most.

    The first error ends it. The threads are daemons: an interrupted command need not wait for a slow server.
    """
    todo = deque(items)
    done: SimpleQueue[tuple[Work, Done | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        while todo:
            try:
                item = todo.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                done.put((item, work(item), None))
            except Exception as error:
                todo.clear()
                done.put((item, None, error))

    for _ in range(min(workers, len(items))):
        threading.Thread(target=run, daemon=True).start()
    try:
        for _ in items:
            item, found, error = done.get()
            if error is not None:
                raise error
            yield item, found  # type: ignore[misc]
    finally:
        todo.clear()


def _attempts(count: int = 4) -> Iterator[bool]:
    """Whether this attempt is the last; waits, with jitter, between them."""
    for attempt in range(count):
        if attempt:
            time.sleep(PAUSE * 2**attempt * random.uniform(0.75, 1))
        yield attempt == count - 1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _said(error: openai.APIStatusError) -> str:
    """The server's own words, which are in one of several places."""
    body: Any = error.body
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    return str(body or error.message)
