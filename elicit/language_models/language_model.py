"""What verdict monitors and methods use of a language model, wherever it runs: weights in memory, or a server's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Question
from elicit.errors import ModelError
from elicit.language_models.address import is_endpoint
from elicit.language_models.engine import Meter
from elicit.language_models.generation import Generation
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import EncodedText, VerdictPrompt
from elicit.language_models.readings import Readings, Thoughts


class LanguageModel(Protocol):
    """Verdicts and words of a language model; `LocalModel` has hidden states and trains as well.

    Attributes:
        name: how the user named the model.
        adapter: folder of the LoRA adapter, or None.
        max_text_tokens: longer texts lose their middle.
        meter: tokens so far.
    """

    name: str
    adapter: Path | None
    max_text_tokens: int
    meter: Meter

    @property
    def tokenizer(self) -> Any: ...

    @property
    def context_length(self) -> int: ...

    @property
    def dtype(self) -> str: ...

    def fingerprint(self) -> str: ...

    def with_adapter(self, folder: Path) -> LanguageModel: ...

    def uncached(self) -> LanguageModel: ...

    def prompt(self, question: Question) -> VerdictPrompt: ...

    def log_odds(
        self,
        question: Question,
        texts: Sequence[str],
        shots: Sequence[tuple[str, bool]] = (),
        description: str = "scoring",
    ) -> Readings: ...

    def packed_log_odds(
        self,
        question: Question,
        packs: Sequence[Sequence[tuple[EncodedText, bool]]],
        description: str = "few-shot scoring",
        last_only: bool = False,
    ) -> list[NDArray[np.float64]]: ...

    def generate(
        self,
        instruction: str,
        texts: Sequence[str],
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        description: str = "generating",
    ) -> list[Generation]: ...

    def think(
        self,
        question: Question,
        texts: Sequence[str],
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        description: str = "thinking",
    ) -> Thoughts: ...

    def answer(
        self, messages: Sequence[str], max_tokens: int = 128, description: str = "answering"
    ) -> list[Generation]: ...

    def response_log_likelihoods(
        self, pairs: Sequence[tuple[str, str]], max_tokens: int = 256, description: str = "reading responses"
    ) -> list[NDArray[np.float64]]: ...


def load_language_model(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    max_text_tokens: int = 2048,
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
    if isinstance(model, LocalModel):
        return model
    raise ModelError(
        f"{model.name} gives verdicts and words only, and {needs}; name the model's folder or hub id instead"
    )
