"""vader/*: sentiment of four kinds of short text, each rated by 20 people (Hutto and Gilbert, ICWSM 2014)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from elicit.domains.artefacts import Artefact, read_member
from elicit.domains.catalogue.entry import Entry
from elicit.domains.domain import Question, Row

_ARTEFACT = Artefact(
    "vaderSentiment==3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", sdist=True
)
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
# Ratings go from -4 to +4. Nearer to 0 than this the raters do not agree on a sign.
_MARGIN = 0.5
_NOTES = (
    "Mean of 20 human ratings: positive from +0.5, negative up to -0.5, the middle left out. "
    "Words alone carry much of the label: compare with the keyword baseline."
)
_REWORDED = (
    "Does the author write favourably?",
    "Would you call the tone of this text positive rather than negative?",
    "Is this text approving or happy?",
)
_INVERTED = (
    "Is the sentiment of this text negative?",
    "Does the author write unfavourably?",
    "Would you call the tone of this text negative rather than positive?",
)


def _parse(member: str, archive: Path) -> Iterator[Row]:
    content = read_member(archive, _INNER, f"hutto_ICWSM_2014/{member}_GroundTruth.txt").decode("utf-8")
    for line in content.split("\n"):
        if not line.strip():
            continue
        name, rating, text = line.rstrip("\r").split("\t", 2)
        mean = float(rating)
        if abs(mean) >= _MARGIN:
            # Snippets of one review or editorial are numbered 12_1, 12_2 and so on; a tweet stands alone.
            group = name.partition("_")[0] if "_" in name else None
            yield Row(name, text, int(mean > 0), group)


def _entry(name: str, member: str, flagged: int, cleared: int, grouped: str = "") -> Entry:
    return Entry(
        name=f"vader/{name}",
        # One wording for the four kinds of text, so that a transfer between them changes the texts and nothing else.
        question=Question("Is the sentiment of this text positive?"),
        licence="MIT",
        flagged=flagged,
        cleared=cleared,
        artefact=_ARTEFACT,
        parse=partial(_parse, member),
        notes=f"{_NOTES} {grouped}".strip(),
        reworded=_REWORDED,
        inverted=_INVERTED,
    )


ENTRIES = (
    _entry("movie", "movieReviewSnippets", 4995, 5075),
    _entry("amazon", "amazonReviewSnippets", 1744, 1233, "Snippets of one review are a group."),
    _entry("nyt", "nytEditorialSnippets", 1175, 1756, "Snippets of one editorial are a group."),
    _entry("tweets", "tweets", 2315, 1057),
)
