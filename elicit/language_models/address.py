"""Addresses of served models: `endpoint:http://127.0.0.1:8000/v1#name`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from elicit.errors import ModelError

SCHEME = "endpoint:"


@dataclass(frozen=True)
class Address:
    """`endpoint:URL#NAME,tokenizer=WHERE`, of which name and tokenizer may be left out.

    Attributes:
        url: base address, which usually ends with /v1.
        model: name under which the server has the model; without it, the only one that it serves.
        tokenizer: catalogue name, folder, GGUF file or hub id, where the model's name does not lead to its tokenizer.
    """

    url: str
    model: str = ""
    tokenizer: str = ""

    @classmethod
    def parse(cls, name: str) -> Address:
        """The parts of a name that begins with `endpoint:`.

        Raises:
            ModelError: the address cannot be one, or holds a password.
        """
        url, _, fragment = name.removeprefix(SCHEME).partition("#")
        model, _, tokenizer = fragment.partition(",tokenizer=")
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018  # raises when it is no number
        except ValueError as error:
            raise ModelError(f"{url} is no address ({error}); write endpoint:http://HOST:PORT/v1#NAME") from error
        if parts.username or parts.password:
            raise ModelError("an address with a password would be written to disk; put the key into ELICIT_API_KEY")
        if parts.query:
            raise ModelError(
                "what stands behind a ? in an address would be written to disk; put a key into ELICIT_API_KEY"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError(f"{url!r} is no http address; write endpoint:http://HOST:PORT/v1#NAME")
        return cls(url.rstrip("/"), model, tokenizer)


def is_endpoint(name: str) -> bool:
    """Whether a model's name is the address of a server."""
    return name.startswith(SCHEME)
