"""Context monitors: the verdict alone, and after labelled examples and the same examples with all labels swapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.language_model import LanguageModel
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.scores import Scores
from elicit.monitors.verdict import save_adapter

Shots = Sequence[tuple[str, bool]]


class ContextMonitor(Monitor):
    """score = slope · (zero + even) / 2 + gain · odd, and slope · zero without any context.

    zero is the verdict log-odds of the text alone; even and odd are half the sum and half the difference of its log-odds after
    the examples as they are labelled and after the same examples with all labels swapped, averaged over the contexts.

    Args:
        model: the language model.
        question: what the examples answer.
        contexts: (c,) lists of k examples, each a text and whether it is flagged.
        slope: of the verdict, > 0.
        gain: of what the examples' labels say, ≥ 0; at 0 only the verdict counts.
    """

    kind: ClassVar[str] = "context"

    def __init__(
        self, model: LanguageModel, question: Question, contexts: Sequence[Shots], slope: float, gain: float
    ) -> None:
        self.model, self.question, self.slope, self.gain = model, question, slope, gain
        self.contexts = tuple(tuple((text, bool(flagged)) for text, flagged in shots) for shots in contexts)

    def _score(self, texts: UnlabelledDomain) -> Scores:
        zero = self.model.log_odds(texts.question, texts.texts, (), f"scoring {texts.name}")
        even, odd = np.zeros(len(texts)), np.zeros(len(texts))
        reasons, truncated = list(zero.reasons), zero.truncated.copy()
        for number, shots in enumerate(self.contexts, start=1):
            swapped = [(text, not flagged) for text, flagged in shots]
            readings = []
            for labelled in (shots, swapped):
                what = f"scoring {texts.name}, context {number} of {len(self.contexts)}"
                read = self.model.log_odds(texts.question, texts.texts, labelled, what)
                reasons = [held or new for held, new in zip(reasons, read.reasons, strict=True)]
                readings.append(read.values)
                truncated |= read.truncated
            even += (readings[0] + readings[1]) / 2 / len(self.contexts)
            odd += (readings[0] - readings[1]) / 2 / len(self.contexts)
        verdict = (zero.values + even) / 2 if self.contexts else zero.values
        values: NDArray[np.float64] = self.slope * verdict + self.gain * odd
        values[[reason is not None for reason in reasons]] = np.nan
        return Scores(texts.ids, values, tuple(reasons), zero.verdict_mass, truncated)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        held = {
            "contexts": [[list(shot) for shot in shots] for shots in self.contexts],
            "slope": self.slope,
            "gain": self.gain,
        }
        write_monitor(folder, self.kind, self.question, model=model_reference(self.model), **held)

    @classmethod
    def from_json(cls, held: dict[str, Any], model: LanguageModel, question: Question) -> ContextMonitor:
        """The monitor that `save` wrote to monitor.json."""
        return cls(model, question, held["contexts"], float(held["slope"]), float(held["gain"]))
