"""Sources that contradict each other: one question about one text, answered in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from elicit.domains import Domain
from elicit.domains.domain import normalise
from elicit.errors import DomainError


def check_contradictions(domains: Sequence[Domain]) -> None:
    """Refuse sources that answer one question about one text with two words.

    A domain's other wordings are asked in training too, and an inverted one wants the other word.

    Raises:
        DomainError: two domains do; the message shows the pair.
    """
    seen: dict[tuple[str, str], tuple[str, str, int, str]] = {}
    for domain in domains:
        wordings = list(_wordings(domain))
        for name, text, label in zip(domain.ids, domain.texts, domain.labels, strict=True):
            if label is None or not text.strip():
                continue
            for question, words in wordings:
                other = seen.setdefault((question, normalise(text)), (domain.name, name, label, words[label]))
                if other[3] == words[label]:
                    continue
                masked = any(part.sensitive for part in domains)
                shown = "a masked text" if masked else repr(text[:80])
                raise DomainError(
                    f"{other[0]} (id {other[1]!r}, label {other[2]}) and {domain.name} (id {name!r}, label {label}) answer the "
                    f"same question about {shown} in opposite ways; correct one of the labels or leave a source out"
                )


def _wordings(domain: Domain) -> Iterator[tuple[str, dict[int, str]]]:
    """Every question that is asked about a domain's texts, and the word that is right by label."""
    own = domain.question
    words = {1: own.flagged, 0: own.cleared}
    for text in (own.text, *domain.reworded):
        yield normalise(text), words
    for text in domain.inverted:
        yield normalise(text), {1: own.cleared, 0: own.flagged}
