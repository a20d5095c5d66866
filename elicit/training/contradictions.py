"""Sources that contradict each other: one question about one text, answered in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elicit.domains import Domain
from elicit.domains.domain import normalise
from elicit.errors import DomainError


def check_contradictions(domains: Sequence[Domain]) -> None:
    """Refuse sources that answer one question about one text in two ways.

    A domain's other wordings are asked in training too, and an inverted one wants the other word.

    Raises:
        DomainError: two domains do; the message shows the pair.
    """
    seen: dict[tuple[str, str], list[tuple[str, str, int, _Answer]]] = {}
    for domain in domains:
        wordings = list(_wordings(domain))
        for name, text, label in zip(domain.ids, domain.texts, domain.labels, strict=True):
            if label is None or not text.strip():
                continue
            for question, answers in wordings:
                before = seen.setdefault((question, normalise(text)), [])
                other = next((held for held in before if held[3].contradicts(answers[label])), None)
                if other is None:
                    if all(answers[label] != held[3] for held in before):
                        before.append((domain.name, name, label, answers[label]))
                    continue
                masked = any(part.sensitive for part in domains)
                shown = "a masked text" if masked else repr(text[:80])
                raise DomainError(
                    f"{other[0]} (id {other[1]!r}, label {other[2]}) and {domain.name} (id {name!r}, label {label}) answer the "
                    f"same question about {shown} in opposite ways; correct one of the labels or leave a source out"
                )


class _Answer(NamedTuple):
    """What is right: a word of a pair, of which the first one flags where a question is not inverted."""

    words: tuple[str, str]
    word: str

    def contradicts(self, other: _Answer) -> bool:
        if set(self.words) == set(other.words):
            return self.word != other.word
        return (self.word == self.words[0]) != (other.word == other.words[0])  # Yes or No here, True or False there


def _wordings(domain: Domain) -> Iterator[tuple[str, dict[int, _Answer]]]:
    """Every question that is asked about a domain's texts, and the answer that is right by label."""
    words = (domain.question.flagged, domain.question.cleared)
    flagged, cleared = _Answer(words, words[0]), _Answer(words, words[1])
    for text in (domain.question.text, *domain.reworded):
        yield normalise(text), {1: flagged, 0: cleared}
    for text in domain.inverted:
        yield normalise(text), {1: cleared, 0: flagged}
