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


def test_every_source_is_compared_with_every_other() -> None:
    """The second and third contradict each other in words alone; the first one contradicts neither."""
    swapped = source("b", Question("Is it good?", "No", "Yes"), 0)  # its label 0 is Yes
    true = source("c", Question("Is it good?", "True", "False"), 1)
    first = source("a", Question("Is it good?", "Yes", "No"), 1)
    for order in ([first, swapped, true], [first, true, swapped], [true, swapped, first]):
        with pytest.raises(DomainError, match="in opposite ways"):
            check_contradictions(order)
    check_contradictions([first, swapped])
    check_contradictions([first, true])
