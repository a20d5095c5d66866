"""Thinking monitors: the model reasons in its own words about each text and then gives its verdict.

The verdict is read in one of two ways. *Forced*: log-odds of the two verdict words right after the reasoning, which every text has.
*Written*: the word that the model itself wrote, 1 for flagged and -1 for cleared; where it wrote none that can be told, the text is
unscored and says why.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.generation import Generation
from elicit.language_models.language_model import LanguageModel
from elicit.language_models.prompts import VERDICT_LINE
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.scores import Scores
from elicit.monitors.verdict import save_adapter

Reading = Literal["forced", "written"]


class ThinkingMonitor(Monitor):
    """score = what the model says after reasoning of at most `max_tokens` tokens.

    Args:
        model: the language model.
        question: what it reasons about.
        max_tokens: of the reasoning; 0 asks for the verdict at once, under the same instruction.
        reading: "forced" log-odds, or the verdict as "written".
        temperature, seed: of the sampling; at temperature 0 the likeliest token is taken.
    """

    kind: ClassVar[str] = "thinking"

    def __init__(
        self,
        model: LanguageModel,
        question: Question | None = None,
        max_tokens: int = 64,
        reading: Reading = "forced",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if reading == "written" and max_tokens < 1:
            raise ValueError("a written verdict needs at least one token; ask for the forced one, or for more tokens")
        self.model, self.question, self.max_tokens, self.reading = model, question, max_tokens, reading
        self.temperature, self.seed = temperature, seed

    def _score(self, texts: UnlabelledDomain) -> Scores:
        what = f"thinking about {texts.name}"
        thoughts = self.model.think(
            texts.question, texts.texts, self.max_tokens, self.temperature, self.seed, description=what
        )
        if self.reading == "forced":
            forced = thoughts.forced
            return Scores(texts.ids, forced.values, forced.reasons, forced.verdict_mass, forced.truncated)
        read = [written_verdict(answer, texts.question) for answer in thoughts.written]
        values = np.array([np.nan if isinstance(verdict, str) else 2.0 * verdict - 1 for verdict in read])
        return Scores(texts.ids, values, tuple(verdict if isinstance(verdict, str) else None for verdict in read))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        held = {
            "max_tokens": self.max_tokens,
            "reading": self.reading,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        write_monitor(folder, self.kind, self.question, model=model_reference(self.model), **held)

    @classmethod
    def from_json(cls, held: dict[str, Any], model: LanguageModel, question: Question | None) -> ThinkingMonitor:
        """The monitor that `save` wrote to monitor.json."""
        how = {name: held[name] for name in ("max_tokens", "reading", "temperature", "seed")}
        return cls(model, question, **how)


def written_verdict(answer: Generation, question: Question) -> bool | str:
    """True for flagged, False for cleared; or the reason why what was written is no verdict.

    Verdict lines count where there are some, and must agree. Without one the verdict is the one verdict word that occurs, spelt as
    in the question; an answer with both words leaves it open.
    """
    if answer.reason is not None:
        return answer.reason
    words = {question.flagged.strip(): True, question.cleared.strip(): False}
    _, *behind = answer.text.split(VERDICT_LINE)
    if behind:
        found = {
            flagged
            for part in behind
            for word, flagged in words.items()
            if re.match(rf"\W*{re.escape(word)}(?!\w)", part, re.IGNORECASE)
        }
        unclear = "verdict lines that contradict each other" if found else "no verdict word behind the verdict line"
    else:
        found = {
            flagged for word, flagged in words.items() if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer.text)
        }
        unclear = "both verdict words and no verdict line" if found else "no verdict"
    if len(found) == 1:
        return found.pop()
    return f"{unclear} in {'an answer' if answer.finished else 'as many tokens as it had'}"
