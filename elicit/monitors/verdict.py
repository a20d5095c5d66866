"""Verdict monitors: a language model, zero-shot or with a LoRA adapter, whose log-odds are the score."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.language_model import LanguageModel
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.scores import Scores


class VerdictMonitor(Monitor):
    """score = logit(flagged) − logit(cleared) right after the prompt."""

    kind: ClassVar[str] = "verdict"

    def __init__(self, model: LanguageModel, question: Question | None = None) -> None:
        self.model, self.question = model, question

    def _score(self, texts: UnlabelledDomain) -> Scores:
        read = self.model.log_odds(texts.question, texts.texts, description=f"scoring {texts.name}")
        return Scores(texts.ids, read.values, read.reasons, read.verdict_mass, read.truncated)

    def check(self, texts: UnlabelledDomain) -> None:
        self.model.prompt(texts.question)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        write_monitor(folder, self.kind, self.question, model=model_reference(self.model))


def save_adapter(model: LanguageModel, folder: Path) -> None:
    """Copy the model's LoRA adapter, if it has one, to the folder `adapter` of a monitor, of which nothing older is left."""
    for older in ("monitor.json", "calibration.json"):
        (folder / older).unlink(missing_ok=True)
    if model.adapter is None or model.adapter.resolve() != (folder / "adapter").resolve():
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        if model.adapter is not None:
            shutil.copytree(model.adapter, folder / "adapter")
