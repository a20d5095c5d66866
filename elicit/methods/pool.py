"""The texts whose labels a search looks for, in the form in which they stand in few-shot contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Question, UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.language_model import LONGEST_SHOT, LanguageModel
from elicit.language_models.prompts import EncodedText
from elicit.language_models.readings import Readings
from elicit.monitors.verdict import VerdictMonitor

Floats = NDArray[np.float64]


def surest_of_each(labels: NDArray[np.bool_], log_odds: Floats) -> list[int]:
    """Positions of (n,) labels, flagged and cleared in turn, from those for which the evidence speaks most.

    A rule may have given a text the label that the evidence speaks against; such a label comes last.
    """
    order = np.argsort(-np.where(labels, log_odds, -log_odds), kind="stable")
    halves = [[int(at) for at in order if labels[at] == label] for label in (True, False)]
    return [at for pair in zip_longest(*halves) for at in pair if at is not None]


def different(texts: Sequence[str]) -> list[int]:
    """Positions of the first of each of n texts that are not empty."""
    first = {text: row for row, text in reversed(list(enumerate(texts))) if text.strip()}
    return sorted(first.values())


@dataclass(frozen=True)
class Pool:
    """n different texts that are not empty.

    Attributes:
        name: of the domain.
        model: reads them.
        question: what is asked about each.
        ids, texts, groups: as in the domain.
        encoded: token ids of each.
    """

    name: str
    model: LanguageModel
    question: Question
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    encoded: tuple[EncodedText, ...]

    @classmethod
    def of(cls, monitor: VerdictMonitor, target: UnlabelledDomain, size: int) -> Pool:
        """At most `size` different texts of a target: of two equal ones, one would show the other its label.

        Raises:
            DomainError: there are fewer than two texts.
        """
        model, question = monitor.model, target.question
        texts = target.take(different(target.texts)).sample(size)
        encoded = model.prompt(question).encode(texts.texts, LONGEST_SHOT)
        readable = [row for row, text in enumerate(encoded) if text.reason is None]
        if len(readable) < 2:
            raise DomainError(f"{target.name}: few-shot methods need at least two different texts that are not empty")
        texts = texts.take(readable)
        kept = tuple(encoded[row] for row in readable)
        return cls(target.name, model, question, texts.ids, texts.texts, texts.groups, kept)

    def verdicts(self, description: str) -> Readings:
        """The model's verdict on each text alone.

        Raises:
            DomainError: it has none on any of them.
        """
        read = self.model.log_odds(self.question, self.texts, description=description)
        if not np.isfinite(read.values).any():
            raise DomainError(
                f"{self.name}: none of the {len(self)} texts has a verdict to start from: {read.reasons[0]}"
            )
        return read

    def __len__(self) -> int:
        return len(self.texts)

    def tokens(self, rows: Sequence[int]) -> int:
        """Tokens of a sequence of these texts with labels, up to the last verdict, as `read` sends it."""
        prompt = self.model.prompt(self.question)
        turn = len(prompt.tail) + 1 + len(prompt.between)
        return len(prompt.head) + sum(len(self.encoded[row].ids) + turn for row in rows) - len(prompt.between) - 1

    def packs(self, order: Sequence[int], most: int) -> list[list[int]]:
        """The rows, in this order, in parts of nearly equal size: at most `most` rows each, and what fits into one context.

        Raises:
            DomainError: not even two texts fit into one context.
        """
        share = -(-len(order) // -(-len(order) // most))
        out: list[list[int]] = [[]]
        for row in order:
            if len(out[-1]) == share or not self._fits([*out[-1], row]):
                out.append([])
            out[-1].append(row)
        if len(order) > 1 and max(map(len, out)) < 2:
            asked = len(self.model.prompt(self.question).head)
            raise DomainError(
                f"{self.name}: no two texts fit into the model's context of {self.model.context_length} tokens, of which what is "
                f"asked takes {asked}; shorten the texts or the question"
            )
        return out

    def read(self, packs: Sequence[Sequence[int]], flagged: NDArray[np.bool_], description: str) -> list[Floats]:
        """For each pack of k rows, (k,) log-odds of each row's label after the rows and labels before it."""
        sequences = [[(self.encoded[row], bool(flagged[row])) for row in pack] for pack in packs]
        return self.model.packed_log_odds(self.question, sequences, description)

    def examples(self, rows: Sequence[int]) -> list[int]:
        """Those of these rows, in their order, that as examples leave half of the context to the text behind them.

        None where the question takes half of it; see `without_examples`.
        """
        chosen: list[int] = []
        for row in rows:
            if 2 * self.tokens([*chosen, row]) <= self.model.context_length:
                chosen.append(row)
        return chosen

    def that_fits_one_context(self) -> Pool:
        """As many texts as, in this order and all together, fit into one context."""
        return self.take(max(self.packs(range(len(self)), len(self)), key=len))

    def take(self, rows: Sequence[int]) -> Pool:
        """The texts at these positions."""

        def pick(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[row] for row in rows)

        return replace(
            self,
            ids=pick(self.ids),
            texts=pick(self.texts),
            groups=pick(self.groups),
            encoded=pick(self.encoded),
        )

    def tokens_of_verdicts(self) -> int:
        """Tokens of one prompt for each text, as `verdicts` sends them: long texts are cut later than as examples."""
        prompt = self.model.prompt(self.question)
        around = len(prompt.head) + len(prompt.tail)
        return sum(around + len(text.ids) for text in prompt.encode(self.texts))

    def _fits(self, rows: Sequence[int]) -> bool:
        return self.tokens(rows) <= self.model.context_length
