"""What a method sends through the language model, counted before it runs: each method declares its passes beside its definition.

A pass is known by its model and by what it reads, so that what several methods need is counted for the first of them only, as a
run computes it only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from elicit.training import TrainingConfig
from elicit.training.validation import TOGETHER, check_interval

START = "start"  # the monitor that label-free methods start from
UNTRAINED = "untrained"
Kind = Literal["reading", "states", "training", "writing"]


@dataclass(frozen=True)
class Pass:
    """Tokens that go through a model.

    Attributes:
        model: which weights: `START`, `UNTRAINED`, or the method that trains its own.
        what: what is read, in words. Of two passes of one model and one kind that read the same, the longer holds the other.
        kind: verdicts, hidden states too, forward and backward, or tokens that the model writes one by one.
        tokens: how many.
        disk: bytes that are kept of it.
        at_most: True where the method may end earlier.
        seen: tokens that each of them sees before itself, on average: what attention costs.
    """

    model: str
    what: str
    kind: Kind
    tokens: int
    disk: int = 0
    at_most: bool = False
    seen: float = 0.0


READING = 150  # bytes that one reading takes in the cache
SHORT = 11  # tokens of a text of a first look


@dataclass(frozen=True)
class Texts:
    """n texts as the prompts of one question take them.

    Attributes:
        name: which texts.
        count: n.
        tokens: of all texts together, with what their batches are padded with.
        shots: of all texts together as examples, which are cut when they are long.
        learnt: of all texts together in training, where they are cut as well.
        head: tokens that all prompts begin with.
        tail: tokens between a text and its verdict.
        turn: tokens besides the text of one example: its tail, verdict, and what stands before the next text.
        state: bytes of the hidden states that are kept of a text.
    """

    name: str
    count: int
    tokens: int
    shots: int
    learnt: int
    head: int
    tail: int
    turn: int
    state: int = 0

    def at_most(self, count: int) -> Texts:
        """So many of the texts, of mean length."""
        if count >= self.count:
            return self
        share = count / self.count
        tokens, shots, learnt = (round(share * part) for part in (self.tokens, self.shots, self.learnt))
        return replace(self, count=count, tokens=tokens, shots=shots, learnt=learnt)

    def first_look(self, model: str) -> Pass:
        """Two short texts by which the quick way is compared with the model's own logits."""
        return Pass(model, "a first look", "reading", 3 * self.head + 4 * (self.tail + SHORT))

    def examples(self, count: int) -> int:
        """Tokens of so many of the texts as examples."""
        return round(min(count, self.count) * (self.shots / max(1, self.count) + self.turn))

    def verdicts(self, model: str = START) -> Pass:
        """Every text on its own."""
        tokens = self.head + self.tokens + self.count * self.tail
        return Pass(model, f"verdicts of {self.name}", "reading", tokens, self.count * READING, seen=self._seen())

    def after(self, examples: int, times: int = 1, model: str = START, what: str = "examples") -> Pass:
        """Every text after so many tokens of examples, with several sets of them."""
        tokens = times * (self.head + examples + self.tokens + self.count * self.tail)
        disk = times * self.count * READING
        return Pass(model, f"{self.name} after {what}", "reading", tokens, disk, seen=self._seen(examples))

    def packed(self, size: int, times: int, model: str = START) -> Pass:
        """All texts in sequences of so many, several times."""
        tokens = times * (self.head + self.examples(self.count) - -(-self.count // size) * (self.turn - self.tail))
        disk = times * self.count * READING
        seen = self.head + self.examples(size) / 2
        return Pass(model, f"{self.name} in sequences of {size}, {times} times", "reading", tokens, disk, seen=seen)

    def states(self, model: str = START, at_most: bool = False) -> Pass:
        """Hidden states of every text under both verdicts, and its own verdict."""
        tokens = self.head + self.tokens + self.count * (self.tail + 2)
        return Pass(
            model, f"hidden states of {self.count} {self.name}", "states", tokens, self.count * self.state, at_most
        )

    def _seen(self, more: int = 0) -> float:
        """Tokens before a token of a text, on average, when so many more stand before the text."""
        return self.head + more + (self.tokens / max(1, self.count) + self.tail) / 2

    def thought(self, most: int, model: str = START) -> Iterator[Pass]:
        """Reasoning about every text, and the verdict after it."""
        tokens = self.head + self.tokens + self.count * (self.tail + most)
        what, disk = f"reasoning about {self.name}", self.count * READING
        yield Pass(model, what, "writing", self.count * most, disk, at_most=True)
        yield Pass(model, f"verdicts after {what}", "reading", tokens, disk, at_most=True)

    def trained(self, config: TrainingConfig, model: str, at_most: bool = False) -> Pass:
        """Every text once per epoch, a share of them in few-shot sequences too, and once per batch what prompts begin with."""
        texts = self.at_most(config.texts)
        tokens = -(-texts.count // config.batch_size) * texts.head + texts.learnt + texts.count * texts.tail
        tokens += round(config.shots * texts.examples(texts.count))
        return Pass(model, f"training on {self.name}", "training", round(config.epochs * tokens), at_most=at_most)

    def validated(self, config: TrainingConfig, trained_on: int, model: str = START) -> Pass:
        """Every text, cut as in training, each time that a training on so many texts is looked at."""
        steps = config.steps(trained_on)
        tokens = -(-self.count // TOGETHER) * self.head + self.learnt + self.count * self.tail
        return Pass(model, f"{self.name} on the way", "reading", steps // check_interval(steps) * tokens)


class SentTexts(Texts):
    """Texts for a server: each verdict is a prompt of its own, which is sent whole and answered with a token."""

    def first_look(self, model: str) -> Pass:
        return replace(super().first_look(model), tokens=0)

    def verdicts(self, model: str = START) -> Pass:
        return replace(super().verdicts(model), tokens=self._sent())

    def after(self, examples: int, times: int = 1, model: str = START, what: str = "examples") -> Pass:
        return replace(super().after(examples, times, model, what), tokens=times * self._sent(examples))

    def packed(self, size: int, times: int, model: str = START) -> Pass:
        each = self.count / max(1, -(-self.count // size))
        before = (each - 1) / 2 * self.examples(self.count) / max(1, self.count)  # on average, before a text
        tokens = self.shots + self.count * (self.head + before + self.tail + 1)
        return replace(super().packed(size, times, model), tokens=round(times * tokens))

    def thought(self, most: int, model: str = START) -> Iterator[Pass]:
        writing, reading = super().thought(most, model)
        yield writing
        yield replace(reading, tokens=self._sent(most))

    def _sent(self, more: int = 0) -> int:
        """Tokens of a prompt for each text, with so many more in each."""
        return self.tokens + self.count * (self.head + more + self.tail + 1)


@dataclass(frozen=True)
class Sizes:
    """What a run gives a method to work on.

    Attributes:
        sources: the sources' training splits.
        train, calibration, test: the target's splits, as far as they are used.
        training: how models are fine-tuned on the target.
    """

    sources: tuple[Texts, ...]
    train: Texts
    calibration: Texts
    test: Texts
    training: TrainingConfig

    @property
    def scored(self) -> tuple[Texts, Texts]:
        """What every monitor scores."""
        return self.calibration, self.test


Cost = Callable[[Sizes], Iterator[Pass]]


def no_passes(_: Sizes) -> Iterator[Pass]:
    """The cost of a method that needs no language model."""
    return iter(())
