"""The prompt-change suite on models that answer in known ways."""

import json

import numpy as np
import pytest

from elicit.domains import Question, Row, make_domain
from elicit.errors import DomainError, ModelError
from elicit.evaluation import difference
from elicit.evaluation.prompt_change import Asked, PromptChange, prompt_change, suite
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
    assert deaf.following().value == 0.0
    assert reader.following().value == 1.0
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
    assert difference(reader.following(), deaf.following()) == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "reading": "better",
    }


@pytest.mark.parametrize(("rule", "flagged"), [(lambda _q, _t: True, 1.0), (lambda _q, _t: False, 0.0)])
def test_one_word_whatever_is_asked_follows_as_lots_do_and_its_leaning_is_told(rule, flagged: float) -> None:
    constant = prompt_change(Model(rule), DOMAIN).to_json()
    assert (constant["following"]["value"], constant["following"]["low"]) == (0.5, 0.5)
    assert constant["flagged"]["value"] == flagged


def test_following_is_the_mean_over_both_right_answers_and_both_kinds() -> None:
    """By hand: eight texts, of which six are flagged under the trained question."""
    truth = np.array([True] * 6 + [False] * 2)
    digit = np.array([True, True, False, False, False, False, True, False])
    asked = [
        Asked("trained", Question("Good?"), truth),
        Asked("inverted", Question("Bad?"), ~truth),
        Asked("unrelated", Question("A digit?"), digit),
    ]
    yes, no, unscored = 1.0, -1.0, np.nan
    odds = [
        [yes] * 8,
        [no, no, no, yes, yes, unscored, yes, no],  # No is right for six, 3 of 5 scored; Yes for two, 1 of 2
        [yes, no, no, yes, yes, yes, no, yes],  # differs on four with No, 1 right of 4, and on one with Yes, 0 of 1
    ]
    suite_of_eight = PromptChange(tuple(asked), np.array(odds), truth, (None,) * 8)
    assert suite_of_eight.following().value == pytest.approx(((3 / 5 + 1 / 2) / 2 + (1 / 4 + 0) / 2) / 2)
    assert suite_of_eight.flagged().value == pytest.approx(8 / 15)
    only_inverted = PromptChange(tuple(asked[:2]), np.array(odds[:2]), truth, (None,) * 8)
    assert only_inverted.following().value == pytest.approx((3 / 5 + 1 / 2) / 2)


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
    np.testing.assert_array_equal(again.following().replicates, found.following().replicates)


def test_texts_that_are_not_read_whole_are_not_asked_about() -> None:
    rows = [Row(f"long-{i}", f"fine {i} " + "x " * 600 + "?", i % 2) for i in range(6)]
    whole = [Row(str(i), text, label) for i, (text, label) in enumerate(zip(DOMAIN.texts, DOMAIN.labels, strict=True))]
    found = prompt_change(Model(right), make_domain("films", DOMAIN.question, [*whole, *rows]))
    assert len(found.truth) == len(DOMAIN)
    assert "texts too long to be read whole: 6" in found.skipped
