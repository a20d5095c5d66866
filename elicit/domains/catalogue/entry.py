"""What the catalogue knows about one packaged domain before anything is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from elicit.domains.artefacts import Artefact
from elicit.domains.domain import Question, Row


@dataclass(frozen=True)
class Entry:
    """One domain of the catalogue.

    Attributes:
        name: what users write: "vader/amazon".
        question: asked about each text; label 1 is the flagged answer.
        licence: licence of the data.
        flagged, cleared: labelled rows of each class after deduplication; known, so that listing fetches nothing.
        artefact: archive that holds the data.
        parse: raw rows from the path of that archive, always in the same order.
        version: raised whenever `parse` would give other rows, so that rows in a cache are not used again.
        sensitive: the texts are harmful to read, and are masked wherever rows are printed.
        notes: traps: what to know before trusting a figure on this domain.
        reworded, inverted: other wordings of the question, with the same and with the opposite verdict.
    """

    name: str
    question: Question
    licence: str
    flagged: int
    cleared: int
    artefact: Artefact
    parse: Callable[[Path], Iterable[Row]]
    version: int = 1
    sensitive: bool = False
    notes: str = ""
    reworded: tuple[str, ...] = ()
    inverted: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return self.flagged + self.cleared
