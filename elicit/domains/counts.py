"""What somebody who brings data wants to see counted, before anything is trained or scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from elicit.domains.domain import Domain
from elicit.errors import DomainError


def counted(domain: Domain) -> Iterator[str]:
    """Lines about labels, lengths and splits."""
    held = Counter(domain.labels)
    labels = f"labels: {held[1]} flagged, {held[0]} cleared, {held[None]} unknown"
    if domain.contradicted:
        labels += f", of which {len(domain.contradicted)} carry both"
    yield labels
    lengths = sorted(map(len, domain.texts))
    empty = sum(not text.strip() for text in domain.texts)
    yield f"characters: {lengths[len(lengths) // 2]} in the median, at most {lengths[-1]}; empty texts: {empty}"
    try:
        parts = {"train": domain.train, "calibration": domain.calibration, "test": domain.test}
        yield f"splits: {', '.join(f'{name} {len(part)}' for name, part in parts.items())}"
    except DomainError as error:
        yield f"splits: {error}"
