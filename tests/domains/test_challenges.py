"""Challenges: what changes, what stays, and that labels have no part in it where they must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicit.domains import Domain, Question, Row, make_domain
from elicit.domains.challenges import (
    DISTRACTORS,
    IMPOSSIBLE,
    inverted,
    lengthened,
    truncated,
    with_balance,
    with_distractor,
    with_impossible,
    with_words,
)
from elicit.errors import DomainError

ROWS = [Row(str(i), f"text number {i} is {('bad', 'good')[i % 2]}", i % 2) for i in range(200)]
DOMAIN = make_domain("toy", Question("Is it good?"), ROWS)


def without_labels(domain: Domain) -> Domain:
    return replace(domain, labels=(None,) * len(domain))


@given(st.integers(1, 99), st.integers(4, 150))
def test_balance_is_the_share_asked_for_with_both_classes(percent: int, size: int) -> None:
    found = with_balance(DOMAIN, percent / 100, size)
    flagged = sum(label == 1 for label in found.labels)
    assert 0 < flagged < len(found)
    assert len(found) <= size
    assert abs(flagged - len(found) * percent / 100) <= 1
    assert set(found.ids) <= set(DOMAIN.ids)


def test_balance_by_hand() -> None:
    # 100 texts of each class: at 80 % flagged the flagged ones run out at 125 texts.
    assert [sum(label == k for label in with_balance(DOMAIN, 0.8, 500).labels) for k in (1, 0)] == [100, 25]
    assert [sum(label == k for label in with_balance(DOMAIN, 0.01, 50).labels) for k in (1, 0)] == [1, 49]
    with pytest.raises(DomainError, match="both classes"):
        with_balance(without_labels(DOMAIN), 0.5, 20)
    with pytest.raises(DomainError, match="between 0 and 1"):
        with_balance(DOMAIN, 1.0, 20)


def test_a_distractor_stands_behind_half_of_each_class_whatever_the_labels() -> None:
    found = with_distractor(DOMAIN, seed=3)
    words = [text.split()[-1] for text in found.texts]
    assert sorted(set(words)) == sorted(DISTRACTORS)
    assert words.count(DISTRACTORS[0]) == 100
    among_flagged = sum(word == DISTRACTORS[0] for word, label in zip(words, found.labels, strict=True) if label == 1)
    assert 35 <= among_flagged <= 65
    assert [text.rsplit(" ", 1)[0] for text in found.texts] == list(DOMAIN.texts)
    assert with_distractor(without_labels(DOMAIN), seed=3).texts == found.texts
    assert with_distractor(DOMAIN, seed=4).texts != found.texts


def test_impossible_texts_say_nothing_and_have_no_label() -> None:
    found = with_impossible(DOMAIN, 0.2, seed=0)
    assert len(found) == 250
    assert found.texts[:200] == DOMAIN.texts
    mixed = [name for name in found.ids if name.startswith(IMPOSSIBLE)]
    assert len(mixed) == 50
    assert set(found.labels[200:]) == {None}
    assert set(" ".join(found.texts[200:]).split()) <= set(" ".join(DOMAIN.texts).split())
    assert not set(found.texts[200:]) & set(DOMAIN.texts)
    assert with_impossible(without_labels(DOMAIN), 0.2, seed=0).texts == found.texts


def test_long_texts_keep_the_text_in_their_middle() -> None:
    found = lengthened(DOMAIN, 60, seed=0)
    for long, text in zip(found.texts, DOMAIN.texts, strict=True):
        before, after = long.split(text)
        assert len(before.split()) >= 30
        assert len(after.split()) >= 30
        assert len(long.split()) < 60 + len(text.split()) + 20
    assert found.labels == DOMAIN.labels


def test_truncated_texts_keep_both_ends() -> None:
    found = truncated(replace(DOMAIN, texts=("a b c d e", "a b c", *DOMAIN.texts[2:])), 3)
    assert found.texts[:3] == ("a d e", "a b c", "text is bad")


def test_words_and_question_change_while_labels_stay() -> None:
    assert with_words(DOMAIN, "True", "False").question == Question("Is it good?", "True", "False")
    domain = replace(DOMAIN, reworded=("Is it fine?",), inverted=("Is it bad?", "Is it poor?"))
    found = inverted(domain)
    assert found.question == Question("Is it bad?", "No", "Yes")
    assert found.labels == domain.labels
    again = inverted(found)
    assert again.question == domain.question
    with pytest.raises(DomainError, match="no inverted wording"):
        inverted(DOMAIN)
