"""What every monitor is: scores in, a folder out, and back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from elicit.domains import Question, UnlabelledDomain
from elicit.errors import ModelError
from elicit.language_models.address import is_endpoint
from elicit.language_models.language_model import LanguageModel
from elicit.monitors.scores import Scores

SCHEMA = 1
MONITOR = "monitor.json"  # the file that makes a folder a monitor


class Monitor(ABC):
    """Something that scores texts, higher = more suspicious, and can be saved and loaded.

    Attributes:
        kind: name of the class of monitors, as saved.
        question: what it asks about plain strings; a domain brings its own question.
    """

    kind: ClassVar[str]
    question: Question | None

    def score(self, texts: UnlabelledDomain | Sequence[str]) -> Scores:
        """Scores of n texts.

        Args:
            texts: a domain, which is asked its own question, or plain strings, which are asked the monitor's.

        Raises:
            ModelError: plain strings, and the monitor has no question of its own.
        """
        if isinstance(texts, UnlabelledDomain):
            return self._score(texts)
        if isinstance(texts, str):
            raise TypeError("score takes a list of texts, not one string")
        question = self.question
        if question is None:
            raise ModelError("this monitor has no question of its own; score a domain, or give the monitor a question")
        return self._score(UnlabelledDomain.from_texts(texts, question))

    @abstractmethod
    def _score(self, texts: UnlabelledDomain) -> Scores: ...

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the monitor to a folder; `load_monitor(folder)` brings it back."""


def write_monitor(folder: Path, kind: str, question: Question | None, **held: Any) -> None:
    """Write monitor.json, the last file of a monitor's folder: with it the folder is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema": SCHEMA, "kind": kind, "question": vars(question) if question else None, **held}
    (folder / MONITOR).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def model_reference(model: LanguageModel) -> dict[str, Any]:
    """What a monitor's folder says about its language model: where to find it, and how to read texts with it."""
    held = {"name": model.name, "max_text_tokens": model.max_text_tokens}
    return held if is_endpoint(model.name) else held | {"dtype": model.dtype.removeprefix("torch.")}
