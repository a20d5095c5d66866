"""A domain: texts, one question about each, the two verdict words, and perhaps labels.

What a label-free method receives is an `UnlabelledDomain`, a type of its own that has no labels: it cannot leak what it does
not hold.
Everything that decides which text goes where (deduplication, splits, samples) looks at texts and groups, never at labels;
`balanced_sample`, which is meant for sources, is the one exception.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from elicit.domains.rules import Rule, check_rules, rule_from_json, tied
from elicit.errors import DomainError

T = TypeVar("T")
FEWEST_ROWS = 8
SPLITS = (("train", 0.60), ("calibration", 0.15), ("test", 0.25))


@dataclass(frozen=True)
class Question:
    """One question that can be asked about every text of a domain, and the two words that answer it.

    Attributes:
        text: the question, "Does the agent do something unsafe?" say.
        flagged: verdict word of label 1, the suspicious answer.
        cleared: verdict word of label 0.
    """

    text: str
    flagged: str = "Yes"
    cleared: str = "No"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DomainError("the question is empty; write one question that each text answers")
        if not self.flagged.strip() or not self.cleared.strip():
            raise DomainError("a verdict word is empty; name two words such as Yes and No")
        if self.flagged.strip() == self.cleared.strip():
            raise DomainError(f"both verdict words are {self.flagged!r}; name two different words, such as Yes and No")


@dataclass(frozen=True)
class Row:
    """One row of a data set before validation: label is 1 (flagged), 0 (cleared) or None (unknown)."""

    id: str
    text: str
    label: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class UnlabelledDomain:
    """n texts and a question, and nothing about their labels.

    Attributes:
        name: the domain's name, for messages and folders.
        question: what is asked about each text.
        ids: (n,) unique identifiers.
        texts: (n,) the texts as they are.
        groups: (n,) leakage group of each text or None; rows of one group are not independent.
        rules: which labels texts of these groups cannot have at the same time.
    """

    name: str
    question: Question
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    rules: tuple[Rule, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_texts(cls, texts: Sequence[str], question: Question, name: str = "texts") -> UnlabelledDomain:
        """A domain of plain texts, whose ids are their positions."""
        ids = tuple(str(row) for row in range(len(texts)))
        return cls(name, question, ids, tuple(texts), (None,) * len(ids))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> UnlabelledDomain:
        """The rows at these positions, in this order."""
        at = [int(row) for row in rows]
        return replace(self, ids=_pick(self.ids, at), texts=_pick(self.texts, at), groups=_pick(self.groups, at))

    def with_rules(self, *rules: Rule) -> UnlabelledDomain:
        """The same texts under these consistency rules, beside those that they are under already.

        Raises:
            DomainError: a rule names a group that no text has, or the rules contradict each other.
        """
        together = tuple(dict.fromkeys((*self.rules, *rules)))
        check_rules(self.name, together, self.groups)
        return replace(self, rules=together)

    def sample(self, size: int) -> UnlabelledDomain:
        """At most `size` rows, chosen and ordered by a hash of their text; rows that rules tie together come together."""
        return self.take(sampled(self, size))

    def fingerprint(self) -> str:
        """Hash of everything that can influence a label-free method."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that holds question, ids, texts, groups and rules."""
        return {
            "name": self.name,
            "question": vars(self.question),
            "ids": list(self.ids),
            "texts": list(self.texts),
            "groups": list(self.groups),
            "rules": [rule.to_json() for rule in self.rules],
        }

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json()), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> UnlabelledDomain:
        held = json.loads(path.read_text(encoding="utf-8"))
        ids, texts, groups = (tuple(held[name]) for name in ("ids", "texts", "groups"))
        rules = tuple(rule_from_json(rule) for rule in held["rules"])
        return cls(held["name"], Question(**held["question"]), ids, texts, groups, rules)


@dataclass(frozen=True)
class Domain:
    """n texts, a question about each, and labels where they are known.

    Attributes:
        name, question, ids, texts, groups, rules: as in `UnlabelledDomain`.
        labels: (n,) 1 = flagged, 0 = cleared, None = unknown.
        licence: licence of the data.
        sensitive: True where the texts are harmful to read; they are masked wherever the toolkit prints rows.
        notes: what to know before trusting a figure on this domain.
        contradicted: ids whose copies carried both labels; they keep their place and lose their label.
        duplicates: how many repeated texts were left out.
        reworded: other wordings of the question, with the same verdicts.
        inverted: wordings that want the opposite verdict.
    """

    name: str
    question: Question
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    labels: tuple[int | None, ...]
    licence: str = ""
    sensitive: bool = False
    notes: str = ""
    contradicted: frozenset[str] = field(default=frozenset())
    duplicates: int = 0
    rules: tuple[Rule, ...] = ()
    reworded: tuple[str, ...] = ()
    inverted: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> bool:
        """True when at least one row has a label."""
        return any(label is not None for label in self.labels)

    @property
    def train(self) -> Domain:
        """60 % of the rows: what training and elicitation may see."""
        return self._split("train")

    @property
    def calibration(self) -> Domain:
        """15 % of the rows: where thresholds are fitted, without labels."""
        return self._split("calibration")

    @property
    def test(self) -> Domain:
        """25 % of the rows: only scored, then compared with their labels."""
        return self._split("test")

    def unlabelled(self) -> UnlabelledDomain:
        """The same texts as a type that has no labels."""
        return UnlabelledDomain(self.name, self.question, self.ids, self.texts, self.groups, self.rules)

    def with_rules(self, *rules: Rule) -> Domain:
        """The same rows under consistency rules, which no label has a part in.

        Raises:
            DomainError: a rule names a group that no text has, or the rules contradict each other.
        """
        return replace(self, rules=self.unlabelled().with_rules(*rules).rules)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Domain:
        """The rows at these positions, in this order."""
        at = [int(row) for row in rows]
        ids = _pick(self.ids, at)
        return replace(
            self,
            ids=ids,
            texts=_pick(self.texts, at),
            groups=_pick(self.groups, at),
            labels=_pick(self.labels, at),
            contradicted=self.contradicted & set(ids),
        )

    def sample(self, size: int) -> Domain:
        """At most `size` rows, chosen and ordered as those of `UnlabelledDomain.sample`, whatever their labels."""
        return self.take(sampled(self, size))

    def balanced_sample(self, size: int) -> Domain:
        """At most `size` labelled rows, half of them flagged as far as there are enough. It reads labels: for sources only."""
        order = [row for row in hash_order(self.texts) if self.labels[row] is not None]
        of = {label: [row for row in order if self.labels[row] == label] for label in (1, 0)}
        few, many = sorted(of.values(), key=len)
        few = few[: (size + 1) // 2]
        chosen = {*few, *many[: size - len(few)]}
        return self.take([row for row in order if row in chosen])

    def label_array(self) -> NDArray[np.float64]:
        """(n,) labels as floats, NaN where unknown."""
        return np.array([np.nan if label is None else label for label in self.labels], dtype=np.float64)

    def require_labels(self) -> Domain:
        """The labelled rows, for training.

        Raises:
            DomainError: a row has no label, there are fewer than 8 labelled rows, or all labels are alike.
        """
        for name, label in zip(self.ids, self.labels, strict=True):
            if label is None and name not in self.contradicted:
                raise DomainError(
                    f"{self.name}: the row with id {name!r} has no label, and training needs one in every row; "
                    "label it 0 or 1, or leave the row out"
                )
        kept = self.take([row for row, label in enumerate(self.labels) if label is not None])
        if len(kept) < FEWEST_ROWS:
            raise DomainError(f"{self.name}: {len(kept)} labelled rows; training needs at least {FEWEST_ROWS}")
        if len(set(kept.labels)) < 2:
            word = self.question.flagged if kept.labels[0] == 1 else self.question.cleared
            raise DomainError(
                f"{self.name}: every label is {kept.labels[0]} ({word}); training needs rows of both classes"
            )
        return kept

    def fingerprint(self) -> str:
        """Hash of texts, question, groups and labels."""
        held = json.dumps([self.unlabelled().to_json(), list(self.labels)], sort_keys=True)
        return hashlib.sha256(held.encode()).hexdigest()

    def _split(self, wanted: str) -> Domain:
        names = split_names(self.texts, tied(self.rules, self.groups))
        if set(names) != {name for name, _ in SPLITS}:  # rules that tie nearly all texts together cannot be kept whole
            names = split_names(self.texts, self.groups)
        part = self.take([row for row, name in enumerate(names) if name == wanted])
        if not len(part):
            raise DomainError(
                f"{self.name}: no row is left for the {wanted} split, since rows of one group stay together and there are "
                f"only {len(set(_units(self.texts, self.groups)))} groups; name a finer group column or leave it out"
            )
        return part


def make_domain(
    name: str, question: Question, rows: Iterable[Row], *, licence: str = "", sensitive: bool = False, notes: str = ""
) -> Domain:
    """A domain from raw rows: checked and with repeated texts left out.

    The first of several rows with the same normalised text stays. When copies carry both labels, or one of them none, the row
    stays without a label: which texts a target holds must not depend on its labels.

    Raises:
        DomainError: fewer than 8 rows, a label other than 0, 1 or None, or an id that occurs twice.
    """
    kept: dict[str, Row] = {}
    seen_labels: dict[str, set[int | None]] = defaultdict(set)
    ids: set[str] = set()
    count = 0
    for count, row in enumerate(rows, start=1):
        if row.label not in (0, 1, None):
            raise DomainError(
                f"{name}: row {count - 1} (id {row.id!r}) has label {row.label!r}; labels are 0, 1 or missing"
            )
        if row.id in ids:
            raise DomainError(f"{name}: the id {row.id!r} occurs twice, again in row {count - 1}; ids must be unique")
        ids.add(row.id)
        # Empty texts are not copies of one another: each stays a row, and becomes an unscored one.
        key = normalise(row.text) or f"\0{row.id}"
        kept.setdefault(key, row)
        seen_labels[key].add(row.label)
    if len(kept) < FEWEST_ROWS:
        raise DomainError(f"{name}: {len(kept)} different texts; a domain needs at least {FEWEST_ROWS}")
    final = [row if len(seen_labels[key]) == 1 else replace(row, label=None) for key, row in kept.items()]
    contradicted = frozenset(row.id for key, row in kept.items() if len(seen_labels[key]) > 1)
    return Domain(
        name=name,
        question=question,
        ids=tuple(row.id for row in final),
        texts=tuple(row.text for row in final),
        groups=tuple(row.group for row in final),
        labels=tuple(row.label for row in final),
        licence=licence,
        sensitive=sensitive,
        notes=notes,
        contradicted=contradicted,
        duplicates=count - len(final),
    )


def check_names(what: str, domains: Sequence[Domain]) -> None:
    """Refuse domains of one name, whose figures could not be told apart.

    Raises:
        DomainError: two of them have it.
    """
    names = [domain.name for domain in domains]
    for name in names:
        if names.count(name) > 1:
            raise DomainError(f"two {what} are called {name}; give each its own name")


def check_overlap(sources: Sequence[Domain], targets: Sequence[Domain]) -> None:
    """Refuse sources that share texts with a target.

    Raises:
        DomainError: texts are shared, so that agreement on the target would partly measure memory.
    """
    for source in sources:
        for target in targets:
            shared = len(_shared(source, [target]))
            if shared == len(source):
                raise DomainError(f"{target.name} holds all texts of {source.name}; choose another source")
            if shared:
                raise DomainError(
                    f"{source.name} and {target.name} share {shared} texts, so agreement on {target.name} would partly measure "
                    "memory; choose another source, or pass --drop-overlap to train without the shared texts"
                )


def drop_overlap(source: Domain, targets: Sequence[Domain]) -> Domain:
    """The source without the texts that a target holds too."""
    shared = _shared(source, targets)
    return source.take([row for row in range(len(source)) if row not in shared])


def _shared(source: Domain, targets: Sequence[Domain]) -> set[int]:
    held = {normalise(text) for target in targets for text in target.texts if text.strip()}
    return {row for row, text in enumerate(source.texts) if normalise(text) in held}


def normalise(text: str) -> str:
    """The form in which two texts count as the same: Unicode-folded, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def hash_order(texts: Sequence[str]) -> list[int]:
    """Positions of the texts in the order of a hash of their content: random-looking, and the same everywhere."""
    keys = [_hash(normalise(text)) for text in texts]
    return sorted(range(len(texts)), key=lambda row: (keys[row], row))


def sampled(domain: Domain | UnlabelledDomain, size: int) -> list[int]:
    """Positions of at most `size` rows in the order of a hash of their text.

    Rows that rules tie together are taken all or not at all, where they do not exceed `size` by themselves.
    """
    order = hash_order(domain.texts)
    if not domain.rules:
        return order[:size]
    named = {group for rule in domain.rules for group in rule.groups}
    units: dict[str | int, list[int]] = defaultdict(list)
    for row, unit in enumerate(tied(domain.rules, domain.groups)):
        units[row if unit is None or domain.groups[row] not in named else unit].append(row)
    of = {row: rows for rows in units.values() for row in rows}
    chosen: set[int] = set()
    for row in order:
        if row in chosen or len(chosen) == size:
            continue
        rows = of[row] if len(of[row]) <= size else [row]
        if len(chosen) + len(rows) <= size:
            chosen.update(rows)
    return [row for row in order if row in chosen]


def split_names(texts: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """(n,) the split of each row. Whole groups, in the order of a hash, fill train, then calibration, then test."""
    units = _units(texts, groups)
    members: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        members[unit].append(row)
    names = [""] * len(units)
    done = 0
    for unit in sorted(members, key=_hash):
        rows = members[unit]
        share = (done + len(rows) / 2) / len(units)
        split = next((name for name, end in _ends() if share <= end), SPLITS[-1][0])
        for row in rows:
            names[row] = split
        done += len(rows)
    return names


def _ends() -> list[tuple[str, float]]:
    total, ends = 0.0, []
    for name, share in SPLITS:
        total += share
        ends.append((name, total))
    return ends


def _units(texts: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    return [
        f"group:{group}" if group is not None else f"text:{normalise(text)}"
        for text, group in zip(texts, groups, strict=True)
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _pick(column: tuple[T, ...], rows: list[int]) -> tuple[T, ...]:
    return tuple(column[row] for row in rows)
