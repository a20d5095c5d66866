"""facts/*: true and false statements, made from tables of countries and of chemical elements.

Every value stands in as many false statements as true ones, so that a word alone says nothing about the label.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from elicit.domains.artefacts import Artefact, list_members, read_member
from elicit.domains.catalogue.entry import Entry
from elicit.domains.domain import Question, Row

_COUNTRIES = Artefact("countryinfo==1.0.1", "b02f6f534f0a3b9cdc73fba7e08f247e39826acfa54bf080f8e4eba812066350")
_ELEMENTS = Artefact("periodictable==2.1.0", "e9155d2bf5ac10050abeff2f99096d4f04312c0c8a6bb432e28744367c5064b3")
_QUESTION = Question("Is this statement true?")
_REWORDED = ("Is what this sentence says correct?", "Would an encyclopedia agree with this statement?")
_INVERTED = (
    "Is this statement false?",
    "Is what this sentence says wrong?",
    "Would an encyclopedia contradict this statement?",
)
# Below this many inhabitants the table is patchy, and what is left are islands that few texts mention.
_FEWEST_PEOPLE = 100_000


def statements(kind: str, template: str, facts: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """One true and one false statement for each (entity, value).

    A false statement takes the value of another entity. In an order where equal values stand together, the value that
    stands as many places further as the commonest value has entities is always another one, and every value is handed
    out exactly as often as it occurs. (A value that more than half of the entities share has no such order; its
    entities get only the true statement.)
    """
    known = sorted(facts, key=lambda fact: (_hash(kind, fact[1]), _hash(kind, *fact)))
    shift = max(Counter(value for _, value in known).values(), default=0)
    for place, (entity, value) in enumerate(known):
        yield Row(f"{kind}-{entity}-true", template.format(entity, value), 1, entity)
        other = known[(place + shift) % len(known)][1]
        if other != value:
            yield Row(f"{kind}-{entity}-false", template.format(entity, other), 0, entity)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _countries(archive: Path) -> Iterator[Row]:
    records: dict[str, dict[str, Any]] = {}
    for member in list_members(archive):
        if member.startswith("countryinfo/data/") and member.endswith(".json"):
            record = json.loads(read_member(archive, member))
            if (record.get("population") or 0) >= _FEWEST_PEOPLE:
                records.setdefault(record["name"], record)
    capitals = [(name, record["capital"]) for name, record in records.items() if isinstance(record.get("capital"), str)]
    # Kuwait City is in Kuwait: a capital that names its country needs no knowledge.
    capitals = [
        (name, capital) for name, capital in capitals if capital and name not in capital and capital not in name
    ]
    regions = [(name, record["region"]) for name, record in records.items() if record.get("region")]
    codes = [(name, record["tld"][0]) for name, record in records.items() if record.get("tld")]
    yield from statements("capital", "The capital of {} is {}.", capitals)
    yield from statements(
        "region", "{} is in {}.", [(name, f"the {r}" if r == "Americas" else r) for name, r in regions]
    )
    yield from statements("domain", "Internet addresses of {} end in {}", codes)


def _elements(archive: Path) -> Iterator[Row]:
    # The table is a literal in a module: it is read as text, and the module never runs.
    tree = ast.parse(read_member(archive, "periodictable/core.py"))
    literal = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "element_base"
    )
    table = ast.literal_eval(literal) if literal else {}
    # Number 0 is the neutron, which is no element.
    elements = {number: (name.lower(), symbol) for number, (name, symbol, *_) in table.items() if number}
    yield from statements("symbol", "The chemical symbol of {} is {}.", elements.values())
    yield from statements(
        "number", "The atomic number of {} is {}.", [(name, str(number)) for number, (name, _) in elements.items()]
    )


ENTRIES = (
    Entry(
        name="facts/countries",
        question=_QUESTION,
        reworded=_REWORDED,
        inverted=_INVERTED,
        licence="MIT",
        flagged=580,
        cleared=580,
        artefact=_COUNTRIES,
        parse=_countries,
        notes="Statements from templates about capitals, continents and internet domains; the country is the group.",
    ),
    Entry(
        name="facts/elements",
        question=_QUESTION,
        reworded=_REWORDED,
        inverted=_INVERTED,
        licence="public domain",
        flagged=236,
        cleared=236,
        artefact=_ELEMENTS,
        parse=_elements,
        notes=(
            "Statements from templates about symbols and atomic numbers; the element is the group. Each value stands "
            "in one true and one false row, which puts a keyword baseline below .5."
        ),
    ),
)
