"""Consistency rules: what they forbid, and the repair of all contradictions at once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicit.domains import Exclusive, Implies, Opposite, Question, Row, Same, UnlabelledDomain, load_domain, make_domain
from elicit.domains.rules import Pair, pairs_of, repair, tied
from elicit.errors import DomainError

GROUPS = ["a", "a", "b", "c", None]
QUESTION = Question("Is it true?")


def allowed(rules, labels, groups=GROUPS) -> bool:
    return not any(pair.broken(labels[pair.first], labels[pair.second]) for pair in pairs_of(rules, groups))


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (Exclusive("a"), 24),  # of 32 labellings, the 8 in which both texts of group a are flagged
        (Implies("b", "c"), 24),  # the 8 with b flagged and c cleared
        (Implies("a", "b"), 20),  # b flagged: 16; b cleared: both of a cleared, which leaves 4
        (Same("b", "c"), 16),
        (Opposite("b", "c"), 16),
        (Same("a", "b"), 8),  # one label for three texts
    ],
)
def test_how_many_labellings_a_rule_allows(rule, count):
    assert sum(allowed([rule], labels) for labels in product([False, True], repeat=5)) == count


@settings(max_examples=60, deadline=None)
@given(
    odds=st.lists(st.integers(-40, 40).filter(bool), min_size=6, max_size=6),
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans()), max_size=8),
)
def test_repair_is_the_best_of_all_labellings(odds, pairs):
    rules = [Pair(i, j, (a, b)) for i, j, a, b in pairs if i != j]
    values = np.array(odds) / 10
    legal = [
        labels
        for labels in product([False, True], repeat=6)
        if not any(pair.broken(labels[pair.first], labels[pair.second]) for pair in rules)
    ]
    if not legal:
        with pytest.raises(ValueError, match="contradict"):
            repair(values, rules)
        return
    found = repair(values, rules)
    assert tuple(found) in legal
    assert values @ found == pytest.approx(max(values @ np.array(labels) for labels in legal))


def test_without_a_broken_pair_labels_are_the_signs():
    np.testing.assert_array_equal(repair(np.array([1.0, -1.0, 0.0]), []), [True, False, False])


def domain(groups=GROUPS) -> UnlabelledDomain:
    ids = tuple(map(str, range(len(groups))))
    return UnlabelledDomain("facts", QUESTION, ids, ids, tuple(groups))


class TestDomains:
    def test_a_group_that_no_text_has(self):
        with pytest.raises(DomainError, match=r"facts: Implies\(first='a', second='d'\) names the group 'd'"):
            domain().with_rules(Implies("a", "d"))

    def test_contradictory_rules(self):
        with pytest.raises(DomainError, match="facts: the rules contradict each other"):
            domain().with_rules(Same("b", "c"), Opposite("b", "c"))

    def test_further_rules_come_to_those_that_are_there(self):
        both = domain().with_rules(Same("b", "c")).with_rules(Exclusive("a"), Same("b", "c"))
        assert both.rules == (Same("b", "c"), Exclusive("a"))
        with pytest.raises(DomainError, match="contradict each other"):
            both.with_rules(Opposite("b", "c"))

    def test_a_group_of_thousands_is_refused_before_anything_is_solved(self):
        rows = [Row(str(i), f"text {i}", None, "all") for i in range(700)]
        with pytest.raises(
            DomainError, match=r"more than 200,000 pairs.* 'all', with 700 texts: make the groups smaller"
        ):
            make_domain("facts", QUESTION, rows).with_rules(Exclusive("all"))

    def test_rules_follow_the_texts_and_survive_a_file(self, tmp_path):
        ruled = domain().with_rules(Exclusive("a"), Opposite("b", "c"))
        ruled.save(tmp_path / "domain.json")
        assert UnlabelledDomain.load(tmp_path / "domain.json") == ruled
        assert ruled.fingerprint() != domain().fingerprint()
        part = ruled.take([1, 2])  # group c is gone, and one text of a
        assert part.rules == ruled.rules
        assert pairs_of(part.rules, part.groups) == []

    def test_texts_that_rules_tie_together_stay_together(self):
        """A claim and its negation: half of 400 texts, a sample of them, and the splits hold both or neither."""
        rows = [
            Row(f"{kind}{i}", f"{kind} number {i}", i % 2, f"{kind}{i}")
            for i in range(200)
            for kind in ("claim", "denial")
        ]
        rules = [Opposite(f"claim{i}", f"denial{i}") for i in range(200)]
        domain = make_domain("claims", QUESTION, rows).with_rules(*rules)
        for part in (domain.train, domain.calibration, domain.test, domain.sample(101), domain.train.sample(24)):
            assert len(pairs_of(part.rules, part.groups)) == 2 * (len(part) // 2)
        assert len(domain.sample(101)) == 100
        assert domain.sample(24).ids == domain.unlabelled().sample(24).ids
        without = make_domain("claims", QUESTION, rows)
        assert without.sample(24).ids != domain.sample(24).ids
        assert len(pairs_of(rules, without.sample(24).groups)) < 8

    def test_groups_are_tied_at_several_removes_and_only_by_rules(self):
        groups = ["d", "b", None, "a", "c", "e"]
        assert tied([Implies("c", "d"), Same("a", "b"), Opposite("b", "c")], groups) == ["a", "a", None, "a", "a", "e"]
        assert tied([Exclusive("a")], groups) == groups

    def test_rules_that_tie_everything_together_leave_all_splits_their_texts(self):
        rows = [Row(str(i), f"text {i}", i % 2, f"g{i}") for i in range(40)]
        chained = make_domain("chain", QUESTION, rows).with_rules(*(Implies(f"g{i}", f"g{i + 1}") for i in range(39)))
        parts = (chained.train, chained.calibration, chained.test)
        assert sum(map(len, parts)) == 40
        assert len(chained.sample(8)) == 8

    def test_labels_have_no_part_in_them(self):
        rows = [Row(str(i), f"text {i}", i % 2, "a" if i < 4 else "b") for i in range(8)]
        made = make_domain("facts", QUESTION, rows).with_rules(Exclusive("a"))
        assert made.unlabelled().rules == (Exclusive("a"),)

    def test_a_file_may_say_that_groups_are_exclusive(self, tmp_path):
        lines = [f'{{"text": "text {i}", "group": "g{i // 3}"}}' for i in range(9)]
        (tmp_path / "data.jsonl").write_text("\n".join(lines))
        toml = 'data = "data.jsonl"\nquestion = "Is it true?"\nexclusive = true\n'
        (tmp_path / "facts.toml").write_text(toml + 'group = "group"\n')
        assert load_domain(str(tmp_path / "facts.toml")).rules == tuple(Exclusive(f"g{i}") for i in range(3))
        (tmp_path / "facts.toml").write_text(toml)
        with pytest.raises(DomainError, match="name their column with the key 'group'"):
            load_domain(str(tmp_path / "facts.toml"))
