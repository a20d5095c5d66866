"""The prompt-change suite on models that answer in known ways."""

import json

import numpy as np
import pytest

from elicit.domains import Question, Row, make_domain
from elicit.errors import DomainError, ModelError
from elicit.evaluation import difference
from elicit.evaluation.prompt_change import OTHERS, Asked, PromptChange, prompt_change, suite
from elicit.language_models.readings import Readings

WORDS = ("fine 7 stars", "bad", "fine and a good deal longer than most", "bad?")
ROWS = [Row(str(i), f"{WORDS[i % 4]} {'x' * i}", 1 - i % 2) for i in range(40)]
DOMAIN = make_domain("film", Question("Is it good?"), ROWS)


class Model:
    """Answers by a rule on (question, text) instead of a language model."""

    def __init__(self, rule, refuses: str = "") -> None:
        self._rule, self._refuses = rule, refuses

    def log_odds(self, question, texts, shots=(), description=""):
        if self._refuses and question.flagged == self._refuses:
            raise ModelError("not one token")
        values = np.array([1.0 if self._rule(question.text, text) else -1.0 for text in texts])
        cut = np.array([len(text) > 1000 for text in texts])
        return Readings(values, (None,) * len(texts), cut, np.full(len(texts), np.nan))


def good(_question: str, text: str) -> bool:
    return text.startswith("fine")


def right(question: str, text: str) -> bool:
    if "digit" in question:
        return any(letter.isdigit() for letter in text)
    if "question mark" in question:
        return "?" in text
    if "longer than" in question:
        return len(text.split()) > int(question.split("longer than ")[1].split()[0])
    inverted = question.startswith(("Would it be wrong", 'Is "No"'))
    return good(question, text) ^ inverted


def test_a_model_that_ignores_the_question_follows_none_and_one_that_reads_it_follows_all() -> None:
    deaf, reader = (prompt_change(Model(rule), DOMAIN) for rule in (good, right))
    for kind in OTHERS:
        assert deaf.following(kind).value == deaf.deaf(kind).value == reader.deaf(kind).value == 0.0
        assert reader.following(kind).value == 1.0
    found = deaf.to_json()
    assert found["accuracy"]["trained"]["value"] == found["accuracy"]["reworded"]["value"] == 1.0
    assert found["accuracy"]["inverted"]["value"] == 0.0
    assert found["accuracy"]["other words"]["value"] == 1.0
    assert {row["kind"] for row in found["questions"]} == {
        "trained",
        "reworded",
        "inverted",
        "unrelated",
        "other words",
    }
    assert difference(reader.following("inverted"), deaf.following("inverted")) == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "reading": "better",
    }


@pytest.mark.parametrize("word", [True, False])
def test_one_word_whatever_is_asked_follows_nothing_and_the_trained_question_neither(word: bool) -> None:
    constant = prompt_change(Model(lambda _q, _t: word), DOMAIN).to_json()
    for kind in OTHERS:
        figure = constant["following"][kind]
        assert (figure["low"], figure["value"], figure["high"]) == (0.5, 0.5, 0.5)


def test_following_by_hand() -> None:
    """Eight texts, of which six are flagged under the trained question; one has no answer."""
    truth = np.array([True] * 6 + [False] * 2)
    digit = np.array([True, True, False, False, False, False, True, True])
    mark = np.array(
        [True, True, True, True, True, True, True, False]
    )  # differs where Yes is right alone: it tells nothing
    asked = [
        Asked("trained", Question("Good?"), truth),
        Asked("inverted", Question("Bad?"), ~truth),
        Asked("unrelated", Question("A digit?"), digit),
        Asked("unrelated", Question("A mark?"), mark),
    ]
    odds = [
        [6, 5, 4, 3, 2, 1, 0, 2.5],  # trained
        [1, 2, 3, 4, 5, np.nan, 2.5, 5],  # Yes is right for the last two: above 2 and 4.5 of five
        [9, 9, 1, 2, 3, 4, 2, 8],  # differs on texts 3 to 6 with No, on the last two with Yes: above 1.5 and 4 of four
        [1, 2, 3, 4, 5, 6, 7, 8],
    ]
    found = PromptChange(tuple(asked), np.array(odds, dtype=float), truth, (None,) * 8)
    assert found.following("inverted").value == pytest.approx((2 + 4.5) / 10)
    assert found.deaf("inverted").value == pytest.approx((0 + 1) / 10)  # of the texts that both questions scored
    assert found.following("unrelated").value == pytest.approx((1.5 + 4) / 8)
    assert [found.differing(number) for number in range(4)] == [(0, 0), (2, 5), (2, 4), (1, 0)]
    leaning = PromptChange(
        tuple(asked), np.array(odds, dtype=float) + np.array([[0], [50], [-50], [0]]), truth, (None,) * 8
    )
    assert leaning.following("inverted").value == found.following("inverted").value
    alone = PromptChange(tuple(asked[:2]), np.array(odds[:2], dtype=float), truth, (None,) * 8)
    assert alone.to_json()["following"]["unrelated"]["value"] is None


def test_a_model_that_is_deaf_and_often_wrong_is_told_by_what_it_would_have_without_hearing() -> None:
    often = np.random.default_rng(0).random(len(DOMAIN)) < 0.7
    wrong = {text for text, right in zip(DOMAIN.texts, often, strict=True) if not right}
    deaf = prompt_change(Model(lambda q, text: good(q, text) ^ (text in wrong)), DOMAIN)
    for kind in OTHERS:
        assert 0.0 < deaf.following(kind).value < 0.5
        assert difference(deaf.following(kind), deaf.deaf(kind))["value"] == 0.0


def test_pairs_of_two_questions_count_alike() -> None:
    truth = np.array([True, True, True, False, False, False])
    first = np.array([False, True, True, True, True, False])  # one No, two Yes: two pairs
    second = np.array([False, False, True, True, True, True])  # two No, three Yes: six pairs
    asked = (
        Asked("trained", Question("Good?"), truth),
        Asked("unrelated", Question("One?"), first),
        Asked("unrelated", Question("Two?"), second),
    )
    odds = np.array([[0.0] * 6, [0, 9, 9, 1, 1, 9], [5, 5, 9, 1, 1, 1]], dtype=float)
    # The first ranks both of its pairs right, the second none of its six.
    assert PromptChange(asked, odds, truth, (None,) * 6).following("unrelated").value == pytest.approx(2 / 8)


DOMAIN_TRUTH = np.array([label == 1 for label in DOMAIN.labels])


def test_questions_that_all_texts_answer_alike_are_not_asked_and_words_of_two_tokens_are_skipped() -> None:
    plain = make_domain("plain", Question("Is it good?"), [Row(str(i), "word " + "x" * i, i % 2) for i in range(20)])
    assert not [item for item in suite(plain, np.arange(20) % 2 == 1) if item.kind == "unrelated"]
    found = prompt_change(Model(right, refuses="True"), DOMAIN)
    assert len(found.skipped) == 1
    assert "True/False" in found.skipped[0]


def test_one_class_is_refused() -> None:
    with pytest.raises(DomainError, match="film: the prompt-change suite needs texts of both classes"):
        prompt_change(Model(right), DOMAIN.take(range(0, 40, 2)))


def test_what_is_kept_as_json_measures_the_same() -> None:
    found = prompt_change(Model(right, refuses="True"), DOMAIN)
    found.odds[0, 3] = np.nan  # an unscored text stays unscored
    again = PromptChange.from_held(json.loads(json.dumps(found.held())))
    assert again.to_json() == found.to_json()
    assert again.skipped == found.skipped
    np.testing.assert_array_equal(again.following("inverted").replicates, found.following("inverted").replicates)


def test_texts_that_are_not_read_whole_are_not_asked_about() -> None:
    rows = [Row(f"long-{i}", f"fine {i} " + "x " * 600 + "?", i % 2) for i in range(6)]
    whole = [Row(str(i), text, label) for i, (text, label) in enumerate(zip(DOMAIN.texts, DOMAIN.labels, strict=True))]
    found = prompt_change(Model(right), make_domain("films", DOMAIN.question, [*whole, *rows]))
    assert len(found.truth) == len(DOMAIN)
    assert "texts too long to be read whole: 6" in found.skipped
