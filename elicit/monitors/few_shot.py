"""Few-shot monitors: k examples with verdicts stand before every text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.language_model import LanguageModel
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.scores import Scores
from elicit.monitors.verdict import save_adapter


class FewShotMonitor(Monitor):
    """score = verdict log-odds after k texts with their verdicts. The examples are run once for all texts."""

    kind: ClassVar[str] = "few-shot"

    def __init__(self, model: LanguageModel, question: Question, shots: Sequence[tuple[str, bool]]) -> None:
        self.model, self.question, self.shots = model, question, tuple((text, bool(flagged)) for text, flagged in shots)

    def _score(self, texts: UnlabelledDomain) -> Scores:
        read = self.model.log_odds(texts.question, texts.texts, self.shots, f"scoring {texts.name}")
        return Scores(texts.ids, read.values, read.reasons, read.verdict_mass, read.truncated)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        write_monitor(
            folder,
            self.kind,
            self.question,
            model=model_reference(self.model),
            shots=[list(shot) for shot in self.shots],
        )
