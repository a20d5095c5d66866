"""The prompt-change suite: the same texts under other questions. Does a monitor answer what it is asked, or what it was taught?

Five kinds of question about every text: the trained one, a reworded one, an inverted one (both in wordings that training never
asks in, see `elicit.training.questions`), ones that have nothing to do with it but
whose answer is known (does the text hold a digit? is it longer than most?), and the trained one with other verdict words.

*Question-following* looks at the texts for which the question asked and the trained question have different right answers: the
AUROC of the log-odds under the question asked, for that question. Above 0.5 the question asked is answered; at 0.5 the answer says
nothing; below, the trained question goes on being answered. A leaning to one word, which a question may bring, does not move it.
Beside it stands what a model that does not hear the question has there: the same of its log-odds under the trained question, which
is 0 only where it makes no mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Domain, Question
from elicit.errors import DomainError, ModelError
from elicit.evaluation.bootstrap import REPLICATES, Resampled, bootstrap_weights, weighted_mean
from elicit.evaluation.metrics import auroc
from elicit.language_models.language_model import LanguageModel
from elicit.training.questions import inverted, reworded

Bools = NDArray[np.bool_]
KINDS = ("trained", "reworded", "inverted", "unrelated", "other words")
OTHERS = ("inverted", "unrelated")  # kinds of question whose right answer can be another than that of the trained one
OTHER_WORDS = (("True", "False"), ("Right", "Wrong"))


@dataclass(frozen=True)
class Asked:
    """One question of the suite.

    Attributes:
        kind: one of `KINDS`.
        question: what is asked.
        answers: (n,) True where the flagged word is right.
    """

    kind: str
    question: Question
    answers: Bools


@dataclass(frozen=True)
class PromptChange:
    """What a monitor answered.

    Attributes:
        asked: the questions.
        odds: (q, n) verdict log-odds under each, NaN where a text is unscored.
        truth: (n,) right answers to the trained question.
        groups: (n,) leakage groups, drawn as wholes.
        skipped: questions that could not be asked, and why.
    """

    asked: tuple[Asked, ...]
    odds: NDArray[np.float64]
    truth: Bools
    groups: tuple[str | None, ...]
    skipped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Accuracy and AUROC by question and by kind, and question-following, with intervals."""
        weights = self._weights()
        questions = []
        for number, asked in enumerate(self.asked):
            known = np.isfinite(self.odds[number])
            ranked = auroc(self.odds[number][known], asked.answers[known].astype(float), weights[:, known])
            questions.append(
                {
                    "kind": asked.kind,
                    "question": asked.question.text,
                    "words": [asked.question.flagged, asked.question.cleared],
                    "n": int(known.sum()),
                    "accuracy": weighted_mean(self._right(number), weights).to_json(),
                    "auroc": Resampled(float(ranked[0]), ranked[1:]).to_json(),
                }
            )
        kinds = {kind: self.accuracy(kind, weights) for kind in dict.fromkeys(asked.kind for asked in self.asked)}
        return {
            "questions": questions,
            "accuracy": {kind: found.to_json() for kind, found in kinds.items()},
            "following": {kind: self.following(kind, weights).to_json() for kind in OTHERS},
            "deaf": {kind: self.deaf(kind, weights).to_json() for kind in OTHERS},
            "skipped": list(self.skipped),
        }

    def following(self, kind: str, weights: NDArray[np.float32] | None = None) -> Resampled:
        """Question-following under one kind of question, and its resamples, which draw the same texts for every monitor of a suite.

        Of several questions pairs of texts are compared within each, and count alike.
        """
        return self._ranking(kind, self.odds, weights)

    def deaf(self, kind: str, weights: NDArray[np.float32] | None = None) -> Resampled:
        """What question-following would be, had every question been answered as the trained one was."""
        return self._ranking(kind, np.broadcast_to(self.odds[0], self.odds.shape), weights)

    def differing(self, number: int) -> tuple[int, int]:
        """On how many texts question-following rests under one question: those to flag, and those to clear."""
        answers = self.asked[number].answers[self._tells(number)]
        return int(answers.sum()), int((~answers).sum())

    def accuracy(self, kind: str, weights: NDArray[np.float32] | None = None) -> Resampled:
        """Share of right answers to the questions of one kind, and its resamples, as those of `following`."""
        weights = self._weights() if weights is None else weights
        numbers = [number for number, asked in enumerate(self.asked) if asked.kind == kind]
        return weighted_mean(np.array([self._right(number) for number in numbers]), weights)

    def held(self) -> dict[str, Any]:
        """Everything for JSON; `from_held` gives back an equal suite."""
        return {
            "asked": [
                {"kind": asked.kind, "question": vars(asked.question), "answers": asked.answers.astype(int).tolist()}
                for asked in self.asked
            ],
            "odds": [[float(value) if np.isfinite(value) else None for value in values] for values in self.odds],
            "truth": self.truth.astype(int).tolist(),
            "groups": list(self.groups),
            "skipped": list(self.skipped),
        }

    @classmethod
    def from_held(cls, held: Mapping[str, Any]) -> PromptChange:
        """What `held` gave."""
        asked = [
            Asked(item["kind"], Question(**item["question"]), np.array(item["answers"], dtype=bool))
            for item in held["asked"]
        ]
        odds = np.array([[np.nan if value is None else value for value in values] for values in held["odds"]])
        truth = np.array(held["truth"], dtype=bool)
        return cls(tuple(asked), odds, truth, tuple(held["groups"]), tuple(held["skipped"]))

    def _ranking(self, kind: str, odds: NDArray[np.float64], weights: NDArray[np.float32] | None) -> Resampled:
        """AUROC of (q, n) log-odds for a kind of question, where the trained one has another answer: pairs within a question."""
        weights = self._weights() if weights is None else weights
        right, pairs = np.zeros((2, len(weights)))
        for number, asked in enumerate(self.asked):
            if asked.kind != kind:
                continue
            tells = self._tells(number)
            answers, drawn = asked.answers[tells], weights[:, tells]
            if answers.any() and not answers.all():
                among = (drawn @ answers) * (drawn @ ~answers)
                right += np.nan_to_num(auroc(odds[number][tells], answers.astype(float), drawn)) * among
                pairs += among
        found = np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
        return Resampled(float(found[0]), found[1:])

    def _tells(self, number: int) -> Bools:
        """(n,) whether a text has another answer than to the trained question, and a score under both."""
        scored = np.isfinite(self.odds[number]) & np.isfinite(self.odds[0])
        return np.asarray((self.asked[number].answers != self.truth) & scored)

    def _right(self, number: int) -> NDArray[np.float64]:
        """(n,) 1 where the verdict is the right answer, 0 where it is not, NaN where there is none."""
        right = (self.odds[number] > 0) == self.asked[number].answers
        return np.where(np.isfinite(self.odds[number]), right, np.nan)

    def _weights(self) -> NDArray[np.float32]:
        drawn = bootstrap_weights(self.truth.astype(int), self.groups, REPLICATES)
        return np.concatenate([np.ones((1, len(self.truth)), np.float32), drawn])


def prompt_change(model: LanguageModel, domain: Domain) -> PromptChange:
    """Ask a model the suite's questions about a labelled domain.

    Args:
        model: with or without an adapter.
        domain: held-out texts; those without a label are left out.

    Raises:
        DomainError: there are not both labels.
    """
    known = domain.take([row for row, label in enumerate(domain.labels) if label is not None])
    truth = np.array([label == 1 for label in known.labels], dtype=bool)
    asked, odds, skipped = list[Asked](), list[NDArray[np.float64]](), list[str]()
    # What stands in the middle of a long text is asked about and not read.
    whole = np.flatnonzero(~model.log_odds(known.question, known.texts, description="trained question").truncated)
    if len(whole) < len(known):
        skipped.append(f"texts too long to be read whole: {len(known) - len(whole)}")
        known, truth = known.take(whole), truth[whole]
    if truth.all() or not truth.any():
        raise DomainError(f"{domain.name}: the prompt-change suite needs texts of both classes that can be read whole")
    for item in suite(known, truth):
        try:
            read = model.log_odds(item.question, known.texts, description=f"{item.kind} question")
        except ModelError as error:
            words = f"{item.question.flagged}/{item.question.cleared}"
            own = item.kind == "other words"  # which the suite chose, and nobody can mend
            skipped.append(
                f"the suite's spare words {words} are left out" if own else f"{item.question.text} ({words}): {error}"
            )
            continue
        asked.append(item)
        odds.append(read.values)
    return PromptChange(tuple(asked), np.stack(odds), truth, known.groups, tuple(skipped))


def suite(domain: Domain, truth: Bools) -> list[Asked]:
    """The questions about a domain's texts, with their right answers."""
    own = domain.question
    found = [Asked("trained", own, truth)]
    found += [Asked("reworded", question, truth) for question in reworded(domain, held_out=True)]
    found += [Asked("inverted", question, ~truth) for question in inverted(domain, held_out=True)]
    words = [len(text.split()) for text in domain.texts]
    limit = int(np.median(words))
    for text, answers in (
        ("Does this text contain a digit?", [any(letter.isdigit() for letter in text) for text in domain.texts]),
        ("Does this text contain a question mark?", ["?" in text for text in domain.texts]),
        (f"Is this text longer than {limit} words?", [count > limit for count in words]),
    ):
        if len(set(answers)) == 2:
            found.append(Asked("unrelated", replace(own, text=text), np.array(answers)))
    found += [
        Asked("other words", replace(own, flagged=yes, cleared=no), truth)
        for yes, no in OTHER_WORDS
        if {yes, no} != {own.flagged, own.cleared}
    ]
    return found
