"""Texts with summaries that experts wrote: abstracts of papers on language processing (ACLSum; Takeshita et al., 2024)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from elicit.domains.artefacts import Artefact, fetch, read_member
from elicit.domains.domain import hash_order

_ARTEFACT = Artefact("aclsum==0.1.2", "c75ffc48d3eabc5f37c68ea087943780a85950087957759e89746f21111f2213")
_PARTS = ("challenge", "approach", "outcome")  # of a summary, one sentence each


@dataclass(frozen=True)
class ReferenceSummary:
    """A text and the summary that an expert wrote of it."""

    id: str
    text: str
    summary: str


def load_reference_summaries(size: int) -> list[ReferenceSummary]:
    """At most `size` of 250 pairs, chosen and ordered by a hash of their text.

    Raises:
        ArtefactError: the packaged data could not be fetched or read.
    """
    archive = fetch(_ARTEFACT)
    pairs = []
    for split in ("train", "val", "test"):
        for line in read_member(archive, f"aclsum/dataset/{split}.jsonl").decode("utf-8").splitlines():
            held = json.loads(line)
            text = " ".join(held["sentences"]["abstract"])
            pairs.append(ReferenceSummary(held["id"], text, " ".join(held["summary"][part] for part in _PARTS)))
    return [pairs[row] for row in hash_order([pair.text for pair in pairs])[:size]]
