"""Servers for tests: a toy that answers as vLLM or llama.cpp do, by arithmetic instead of a model, and faults on purpose."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
Backend = Callable[[str, dict[str, Any] | None, dict[str, str]], Answer]


class Proxy:
    """An HTTP server on the loopback that hands every request to a backend, and the answer back unless a fault is due.

    Attributes:
        faults: what happens to the next answers of /completions, one each: "slow", "drop", "429", "500", "truncated", "garbled",
            "short" (one answer is missing) or "" for none.
        dead: while set, every connection is dropped.
        dies_after: answers of /completions after which it sets `dead` itself.
        prompts: every prompt that was answered without a fault.
        busiest: most requests that were under way at once.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.faults: deque[str] = deque()
        self.dead = threading.Event()
        self.dies_after: int | None = None
        self.prompts: list[tuple[int, ...]] = []
        self.busiest = 0
        self._under_way = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._handle(self, None)

            def do_POST(self) -> None:
                outer._handle(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: Any, body: dict[str, Any] | None) -> None:
        with self._lock:
            self._under_way += 1
            self.busiest = max(self.busiest, self._under_way)
        try:
            self._answer(request, body)
        finally:
            with self._lock:
                self._under_way -= 1

    def _answer(self, request: Any, body: dict[str, Any] | None) -> None:
        completing = request.path.endswith("/completions")
        with self._lock:
            if completing and self.dies_after is not None:
                self.dies_after -= 1
                if self.dies_after < 0:
                    self.dies_after = None
                    self.dead.set()
            fault = self.faults.popleft() if completing and self.faults else ""
        if self.dead.is_set() or fault == "drop":
            request.close_connection = True
            return
        if fault == "slow":
            time.sleep(1.0)
            return
        if fault in ("429", "500"):
            self._send(request, int(fault), b'{"error": {"message": "not now"}}', {"retry-after-ms": "5"})
            return
        status, answer = self.backend(request.path, body, dict(request.headers))
        if fault == "short":
            answer = {**answer, "choices": answer["choices"][:-1]}
        content = json.dumps(answer).encode()
        if fault == "truncated":
            self._send(request, status, content[: len(content) // 2], length=len(content))
            request.close_connection = True
            return
        if fault == "garbled":
            content = content[: len(content) // 2]
        elif not fault and completing and status == 200 and body is not None:
            with self._lock:
                self.prompts += map(tuple, body["prompt"])
        self._send(request, status, content)

    @staticmethod
    def _send(
        request: Any, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        request.wfile.write(content)


class Toy:
    """The backend of a server whose log-probabilities are arithmetic on the prompt's token ids.

    Args:
        tokenizer: what it tokenises with.
        dialect: "vllm" or "llama.cpp".
        shift: added to all log-odds, as other weights would.
        without: what it cannot do: "completions", "logprobs", "ids", "tokenize", "echo", "models".
        key: the API key that it wants.
        begins_with: token ids that it puts before every prompt.
        most: likeliest tokens that it gives; more are refused.
    """

    def __init__(
        self,
        tokenizer: Any,
        dialect: str = "vllm",
        shift: float = 0.0,
        without: tuple[str, ...] = (),
        key: str = "",
        begins_with: tuple[int, ...] = (),
        most: int = 5000,
    ) -> None:
        self.tokenizer, self.dialect, self.shift, self.without = tokenizer, dialect, shift, without
        self.key, self.begins_with, self.most = key, begins_with, most
        self.context = 600

    def __call__(self, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        if self.key and headers.get("authorization", headers.get("Authorization")) != f"Bearer {self.key}":
            return 401, {"error": {"message": f"wrong key {headers.get('authorization')}, want {self.key}"}}
        part = path.rsplit("/", 1)[-1]
        if part in self.without:
            return 404, {"error": {"message": "Not Found"}}
        if part == "models":
            return 200, {
                "object": "list",
                "data": [{"id": "toy", "created": time.time(), "max_model_len": self.context}],
            }
        assert body is not None
        if part == "tokenize" and "prompt" in body:
            return 200, {"tokens": self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]}
        if part == "completions":
            return self._complete(body)
        return 404, {"error": {"message": "Not Found"}}

    def _complete(self, body: dict[str, Any]) -> Answer:
        if body.get("logprobs", 0) > self.most:
            return 400, {"error": {"message": f"at most {self.most} logprobs"}}
        prompts = [[*self.begins_with, *ids] for ids in body["prompt"]]
        if max(map(len, prompts)) + body["max_tokens"] > self.context:
            return 400, {"error": {"message": "the prompt is longer than the context"}}
        choices = [self._choice(index, ids, body) for index, ids in enumerate(prompts)]
        usage = {"prompt_tokens": sum(map(len, prompts))}
        return 200, {"choices": choices[::-1], "usage": usage}  # their order is not promised

    def _choice(self, index: int, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        found = self.log_probabilities(ids)
        likeliest = sorted(found, key=lambda token: -found[token])
        sampled = likeliest[0]
        text = self.tokenizer.decode([*ids, sampled] if body.get("echo") and "echo" not in self.without else [sampled])
        choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": "length"}
        if body.get("return_token_ids") and self.dialect == "vllm":
            choice["token_ids"] = [sampled]
        if "logprobs" in self.without or "logprobs" not in body:
            return choice
        if self.dialect == "vllm":
            shown = body.get("logprob_token_ids") or likeliest[: body["logprobs"]]
            named = {f"token_id:{token}" if "ids" not in self.without else str(token): found[token] for token in shown}
            return choice | {"logprobs": {"tokens": [f"token_id:{sampled}"], "top_logprobs": [named]}}
        entries = [{"id": token, "logprob": found[token]} for token in likeliest[: body["logprobs"]]]
        return choice | {"logprobs": {"content": [entries[0] | {"top_logprobs": entries}]}}

    def log_probabilities(self, ids: list[int]) -> dict[int, float]:
        """By token id: the two verdict words, which the prompt decides on, before all others."""
        yes, no = self.words
        turn = (sum(ids) * 37 % 101) / 50 - 1
        others = [token for token in range(len(self.tokenizer)) if token not in (yes, no)]
        return {yes: turn + self.shift - 5, no: -5.0} | {token: -6 - 0.01 * token for token in others}

    @property
    def words(self) -> tuple[int, int]:
        yes, no = (self.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
        return int(yes), int(no)


def forward(url: str) -> Backend:
    """A backend that is a real server at another address."""

    def ask(path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url.removesuffix("/v1") + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return ask
