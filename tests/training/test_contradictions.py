"""Sources that answer one question about one text with two words, whatever the question's wording and the labels' side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elicit.domains import Domain, Question, Row, make_domain
from elicit.errors import DomainError
from elicit.training.contradictions import check_contradictions

POSITIVE = Question("Positive or negative?", "Positive", "Negative")
NEGATIVE = Question("Positive or negative?", "Negative", "Positive")


def source(name: str, question: Question, label: int, **wordings: tuple[str, ...]) -> Domain:
    rows = [Row("0", "great", label), *(Row(str(i), f"{i} of {name} alone", i % 2) for i in range(1, 9))]
    return replace(make_domain(name, question, rows), **wordings)


def test_labels_of_two_sides_may_be_one_word() -> None:
    check_contradictions([source("a", POSITIVE, 1), source("b", NEGATIVE, 0)])
    with pytest.raises(DomainError, match=r"a \(id '0', label 1\) and b \(id '0', label 1\) .* about 'great'"):
        check_contradictions([source("a", POSITIVE, 1), source("b", NEGATIVE, 1)])


def test_other_words_for_one_answer_are_no_contradiction() -> None:
    asked, true = source("a", Question("Is it good?"), 1), Question("Is it good?", "True", "False")
    check_contradictions([asked, source("b", true, 1)])
    with pytest.raises(DomainError, match=r"a \(id '0', label 1\) and b \(id '0', label 0\)"):
        check_contradictions([asked, source("b", true, 0)])


@pytest.mark.parametrize(("wording", "allowed", "refused"), [("reworded", 1, 0), ("inverted", 0, 1)])
def test_what_one_source_asks_another_may_ask_in_its_wordings(wording: str, allowed: int, refused: int) -> None:
    other = Question("Is this one?")
    asked = source("a", Question("Is it good?"), 1, **{wording: ("Is this one?",)})
    check_contradictions([asked, source("b", other, allowed)])
    with pytest.raises(DomainError, match="in opposite ways"):
        check_contradictions([asked, source("b", other, refused)])
