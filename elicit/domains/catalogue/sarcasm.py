"""sarcasm/headlines: headlines of a satirical and of a serious newspaper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from elicit.domains.artefacts import Artefact, read_member
from elicit.domains.catalogue.entry import Entry
from elicit.domains.domain import Question, Row

_ARTEFACT = Artefact("evals==3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78")


def _parse(archive: Path) -> Iterator[Row]:
    content = read_member(archive, "evals/registry/data/sarcasm/samples.jsonl").decode("utf-8")
    for number, line in enumerate(line for line in content.split("\n") if line.strip()):
        record = json.loads(line)
        yield Row(str(number), record["input"][-1]["content"], int(record["ideal"]))


ENTRIES = (
    Entry(
        name="sarcasm/headlines",
        question=Question("Is this headline sarcastic?"),
        licence="MIT",
        flagged=13548,
        cleared=14950,
        artefact=_ARTEFACT,
        parse=_parse,
        notes="The label is the newspaper that a headline comes from, so style tells too. 46 MB to fetch.",
    ),
)
