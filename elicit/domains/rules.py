"""Consistency rules: what labels of related texts cannot be at the same time, said about groups and never about labels.

At most one answer to a question is correct (`Exclusive`), a claim and its negation are not both true (`Opposite`). A rule names
groups of a domain; from these it derives pairs of texts with the label combinations that it forbids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elicit.errors import DomainError

Combination = tuple[bool, bool]
Members = dict[str, list[int]]
MOST_PAIRS = 200_000  # about which an integer program takes seconds


class Pair(NamedTuple):
    """Two texts whose labels cannot be this combination at the same time."""

    first: int
    second: int
    forbidden: Combination

    def broken(self, first: bool, second: bool) -> bool:
        return (first, second) == self.forbidden


class Rule(ABC):
    """One rule about one or two groups of texts."""

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """The groups that the rule names."""

    @abstractmethod
    def pairs(self, members: Members) -> Iterator[Pair]:
        """The pairs of texts that the rule is about, each with a combination that it forbids."""

    def to_json(self) -> dict[str, str]:
        """The rule's name and its groups; `rule_from_json` gives back an equal rule."""
        return {"rule": type(self).__name__, **vars(self)}


@dataclass(frozen=True)
class Exclusive(Rule):
    """At most one text of the group is flagged."""

    group: str

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.group,)

    def pairs(self, members: Members) -> Iterator[Pair]:
        for first, second in combinations(members[self.group], 2):
            yield Pair(first, second, (True, True))


@dataclass(frozen=True)
class _BetweenTwo(Rule):
    first: str
    second: str

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.first, self.second)

    def _each(self, members: Members, *forbidden: Combination) -> Iterator[Pair]:
        for first, second in product(members[self.first], members[self.second]):
            if first != second:
                yield from (Pair(first, second, combination) for combination in forbidden)


@dataclass(frozen=True)
class Implies(_BetweenTwo):
    """Whenever a text of the first group is flagged, every text of the second group is."""

    def pairs(self, members: Members) -> Iterator[Pair]:
        return self._each(members, (True, False))


@dataclass(frozen=True)
class Same(_BetweenTwo):
    """The texts of the first group carry the label of the texts of the second."""

    def pairs(self, members: Members) -> Iterator[Pair]:
        return self._each(members, (True, False), (False, True))


@dataclass(frozen=True)
class Opposite(_BetweenTwo):
    """The texts of the first group carry the label that the texts of the second do not."""

    def pairs(self, members: Members) -> Iterator[Pair]:
        return self._each(members, (True, True), (False, False))


def rule_from_json(held: dict[str, str]) -> Rule:
    """What `to_json` wrote."""
    kinds: dict[str, type[Exclusive] | type[_BetweenTwo]] = {
        kind.__name__: kind for kind in (Exclusive, Implies, Same, Opposite)
    }
    return kinds[held["rule"]](**{key: value for key, value in held.items() if key != "rule"})


def check_rules(name: str, rules: Sequence[Rule], groups: Sequence[str | None]) -> None:
    """Refuse rules that no labelling can obey.

    Raises:
        DomainError: a rule names a group that no text has, the rules are about too many pairs, or they contradict each other.
    """
    known = {group for group in groups if group is not None}
    for rule in rules:
        for group in rule.groups:
            if group not in known:
                some = ", ".join(repr(group) for group in sorted(known)[:3]) or "none"
                raise DomainError(
                    f"{name}: {rule} names the group {group!r}, which no text has (of texts that repeat each other the first is "
                    f"kept, with its group); there are {some}, …"
                )
    pairs = list(islice(_pairs(rules, groups), MOST_PAIRS + 1))
    if len(pairs) > MOST_PAIRS:
        sizes = Counter(group for group in groups if group is not None)
        named = max((group for rule in rules for group in rule.groups), key=lambda group: sizes[group])
        raise DomainError(
            f"{name}: the rules are about more than {MOST_PAIRS:,} pairs of texts, and labels that obey so many take too long to "
            f"find; the largest of their groups is {named!r}, with {sizes[named]} texts: make the groups smaller"
        )
    if _solve(np.zeros(len(groups)), pairs) is None:
        raise DomainError(f"{name}: the rules contradict each other: no labels obey all {len(rules)} of them")


def tied(rules: Sequence[Rule], groups: Sequence[str | None]) -> list[str | None]:
    """Groups of n texts, of which those that rules tie together, at one remove or at several, have one name: that of the first.

    Texts on both sides of a rule belong to one part of a domain, or the rule says nothing about any of them.
    """
    joined: dict[str, str] = {}

    def first(group: str) -> str:
        while (before := joined.get(group, group)) != group:
            group = before
        return group

    for rule in rules:
        one, *others = sorted({first(group) for group in rule.groups})
        joined |= dict.fromkeys(others, one)
    return [None if group is None else first(group) for group in groups]


def pairs_of(rules: Sequence[Rule], groups: Sequence[str | None]) -> list[Pair]:
    """What the rules forbid among n texts, given each one's group; groups without a text here forbid nothing."""
    return list(_pairs(rules, groups))


def _pairs(rules: Sequence[Rule], groups: Sequence[str | None]) -> Iterator[Pair]:
    members: Members = defaultdict(list)
    for row, group in enumerate(groups):
        if group is not None:
            members[group].append(row)
    return (pair for rule in rules for pair in rule.pairs(members))


def repair(log_odds: NDArray[np.float64], pairs: Sequence[Pair]) -> NDArray[np.bool_]:
    """The most probable labels that break no rule: all of them at once, as an integer program (HiGHS).

    Args:
        log_odds: (n,) of each text's label being 1, on its own evidence.
        pairs: what is forbidden; not contradictory (`check_rules`).

    Returns:
        (n,) labels. Without pairs, log_odds > 0.
    """
    free = np.asarray(log_odds > 0)
    if not any(pair.broken(bool(free[pair.first]), bool(free[pair.second])) for pair in pairs):
        return free
    found = _solve(log_odds, pairs)
    if found is None:
        raise ValueError("the rules contradict each other")
    return found


def _solve(log_odds: NDArray[np.float64], pairs: Sequence[Pair]) -> NDArray[np.bool_] | None:
    """Labels with the largest sum of log-odds that break no rule; None when every labelling breaks one."""
    if not pairs:
        return np.asarray(log_odds > 0)
    # Imported here: most domains have no rules, and listing them need not wait for scipy.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    # A forbidden combination (a, b) is ±y_i ± y_j ≤ a + b − 1 with a plus where the label would be 1.
    signs = [(1.0 if label else -1.0) for pair in pairs for label in pair.forbidden]
    columns = [row for pair in pairs for row in (pair.first, pair.second)]
    rows = np.repeat(np.arange(len(pairs)), 2)
    matrix = csr_array((signs, (rows, columns)), shape=(len(pairs), len(log_odds)))
    most = np.array([sum(pair.forbidden) - 1.0 for pair in pairs])
    found = milp(
        -log_odds,
        integrality=np.ones(len(log_odds)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, ub=most),
    )
    return None if found.x is None else np.asarray(found.x > 0.5)
