"""spam/sms: text messages, spam or not (the SMS Spam Collection)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from elicit.domains.artefacts import Artefact, read_member
from elicit.domains.catalogue.entry import Entry
from elicit.domains.domain import Question, Row

_ARTEFACT = Artefact("textdescriptives==2.8.4", "de97af21c622918196523f0692059c0680a8afe0ca4a63d41bd0789c69899d78")


def _parse(archive: Path) -> Iterator[Row]:
    content = read_member(archive, "textdescriptives/data/spam.csv").decode("latin-1")
    records = csv.reader(io.StringIO(content, newline=""))
    next(records)
    for number, (label, *parts) in enumerate(records):
        # Fifty messages were cut into several columns at their commas; the empty columns at the end are padding.
        yield Row(str(number), ",".join(parts).rstrip(","), int(label == "spam"))


ENTRIES = (
    Entry(
        name="spam/sms",
        question=Question("Is this text message spam?"),
        licence="CC BY 4.0",
        flagged=642,
        cleared=4515,
        artefact=_ARTEFACT,
        parse=_parse,
        notes=(
            "Seven messages in eight are no spam; 415 copies are left out. Words alone give the label away: the "
            "keyword baseline reaches .99."
        ),
    ),
)
