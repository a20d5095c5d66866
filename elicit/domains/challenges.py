"""Harder versions of a domain: what a label-free method meets outside of tidy data sets.

After arXiv 2602.20400 and Farquhar et al. (2023, arXiv 2312.10029). Each maker takes a domain and gives one
with the same question about texts that are fewer, more unequal, louder or longer. They are for building experiments: `with_balance`
reads labels, all others do not, and what a method then receives is `.unlabelled()` as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elicit.domains.domain import Domain
from elicit.errors import DomainError

DISTRACTORS = ("Banana", "Shed")
# Plain statements that no question of the catalogue is about.
FILLER = (
    "The meeting room is on the second floor.",
    "The bus leaves at a quarter past nine.",
    "There are twelve months in a year.",
    "The library opens at ten o'clock.",
    "The form has three pages.",
    "A week has seven days.",
    "The train stops at four stations.",
    "The parcel weighs two kilograms.",
)
IMPOSSIBLE = "impossible"  # first part of the ids of texts that have no answer


def with_balance(domain: Domain, flagged: float, size: int) -> Domain:
    """At most `size` labelled rows, the first of each class, of which this share is flagged, at least one row of each class.

    Fewer than `size` where the rarer class would run out.

    Raises:
        DomainError: the share is not between 0 and 1, or a class has no row.
    """
    if not 0 < flagged < 1:
        raise DomainError(f"{domain.name}: the share of flagged texts is {flagged}; it lies between 0 and 1")
    of = {label: [row for row, held in enumerate(domain.labels) if held == label] for label in (1, 0)}
    if not of[1] or not of[0]:
        raise DomainError(f"{domain.name}: class balance needs texts of both classes")
    total = min(size, int(len(of[1]) / flagged), int(len(of[0]) / (1 - flagged)))
    # Rounded, but never to none: a class that is absent is another challenge.
    count = min(max(1, round(total * flagged)), max(1, total - 1))
    chosen = {*of[1][:count], *of[0][: max(1, total - count)]}
    return domain.take(sorted(chosen))


def with_distractor(domain: Domain, seed: int, words: Sequence[str] = DISTRACTORS) -> Domain:
    """One of two words behind every text, drawn whatever the text and its label: loud, and no answer to the question."""
    drawn = np.random.default_rng(seed).permutation(len(domain)) % len(words)
    return replace(
        domain, texts=tuple(f"{text} {words[which]}" for text, which in zip(domain.texts, drawn, strict=True))
    )


def with_impossible(domain: Domain, share: float, seed: int) -> Domain:
    """Texts mixed in that have no answer, until they are this share of all; their label is unknown and their id says so.

    They are the domain's own kind of text with the words of all texts thrown together, so that nothing is said any more.
    """
    if not 0 < share < 1:
        raise DomainError(f"{domain.name}: the share of impossible texts is {share}; it lies between 0 and 1")
    count = max(1, round(len(domain) * share / (1 - share)))
    rng = np.random.default_rng(seed)
    words = [word for text in domain.texts for word in text.split()] or ["nothing"]
    lengths = [max(4, len(text.split())) for text in domain.texts]
    texts = [
        " ".join(words[at] for at in rng.integers(0, len(words), lengths[int(row)]))
        for row in rng.integers(0, len(lengths), count)
    ]
    return replace(
        domain,
        ids=(*domain.ids, *(f"{IMPOSSIBLE} {number}" for number in range(count))),
        texts=(*domain.texts, *texts),
        groups=(*domain.groups, *[None] * count),
        labels=(*domain.labels, *[None] * count),
    )


def lengthened(domain: Domain, words: int, seed: int) -> Domain:
    """At least so many words of plain statements around every text, before and behind it in an order of their own."""
    rng = np.random.default_rng(seed)

    def padding(least: int) -> str:
        said: list[str] = []
        while sum(len(sentence.split()) for sentence in said) < least:
            said.append(FILLER[int(rng.integers(len(FILLER)))])
        return " ".join(said)

    return replace(
        domain, texts=tuple(f"{padding(words // 2)} {text} {padding(words - words // 2)}" for text in domain.texts)
    )


def truncated(domain: Domain, words: int) -> Domain:
    """What is left of texts that do not fit: at most so many words, of which the middle ones go as in prompts."""

    def cut(text: str) -> str:
        held = text.split()
        return (
            text if len(held) <= words else " ".join([*held[: words // 2], *held[len(held) - (words - words // 2) :]])
        )

    return replace(domain, texts=tuple(map(cut, domain.texts)))


def with_words(domain: Domain, flagged: str, cleared: str) -> Domain:
    """The same question, answered with other words."""
    return replace(domain, question=replace(domain.question, flagged=flagged, cleared=cleared))


def inverted(domain: Domain) -> Domain:
    """The opposite question, and the verdict words swapped with it: every text keeps its label, and its verdict word changes.

    Raises:
        DomainError: the domain names no inverted wording.
    """
    if not domain.inverted:
        raise DomainError(f"{domain.name}: it has no inverted wording; name one with the key 'inverted'")
    question = domain.question
    asked = replace(question, text=domain.inverted[0], flagged=question.cleared, cleared=question.flagged)
    return replace(domain, question=asked, reworded=domain.inverted[1:], inverted=(question.text, *domain.reworded))
