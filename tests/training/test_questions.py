"""Wordings of a question, and how they are dealt out."""

from dataclasses import replace

from elicit.domains import Question, Row, load_domain, make_domain
from elicit.evaluation.prompt_change import suite
from elicit.training.questions import ASIDES, inverted, inverted_questions, reworded, second_questions

DOMAIN = make_domain(
    "film", Question("Is it good?", "Ja", "Nein"), (Row(str(i), f"text {i}", i % 2) for i in range(10))
)


def test_a_domain_without_wordings_gets_templates_with_its_own_words() -> None:
    for held_out in (False, True):
        asked = reworded(DOMAIN, held_out) + inverted(DOMAIN, held_out)
        assert len(asked) == 2
        assert all("Is it good?" in question.text for question in asked)
        assert all((question.flagged, question.cleared) == ("Ja", "Nein") for question in asked)
    assert '"Ja"' in inverted(DOMAIN)[0].text
    braces = replace(DOMAIN, question=Question("Is {this} {0} code?"))
    assert "Is {this} {0} code?" in inverted(braces)[0].text


def test_only_the_project_s_templates_are_filled_and_only_once() -> None:
    marks = replace(DOMAIN, question=Question("Is {flagged} or {question} a mark?", "{cleared}", "No"))
    assert reworded(marks)[0].text == "Is {flagged} or {question} a mark? Judge by the text alone."
    assert '"{cleared}" to this question about the text: Is {flagged} or {question} a mark?' in inverted(marks)[0].text
    own = replace(DOMAIN, reworded=("Is {question} here?", "Where is {flagged}?"), inverted=("No {cleared}?",))
    assert [question.text for question in reworded(own)] == ["Is {question} here?"]
    assert [question.text for question in reworded(own, held_out=True)] == ["Where is {flagged}?"]
    assert [question.text for question in inverted(own, held_out=True)] == ["No {cleared}?"]


def test_the_last_of_a_domain_s_own_wordings_is_kept_for_measuring() -> None:
    own = replace(DOMAIN, reworded=("Do people like it?",), inverted=("Is it bad?", "Is it poor?"))
    assert [question.text for question in reworded(own)] == ["Is it good? Judge by the text alone."]
    assert [question.text for question in reworded(own, held_out=True)] == ["Do people like it?"]
    assert [question.text for question in inverted(own)] == ["Is it bad?"]
    assert [question.text for question in inverted(own, held_out=True)] == ["Is it poor?"]
    amazon = load_domain("vader/amazon")
    for kind in (reworded, inverted):
        assert not set(kind(amazon)) & set(kind(amazon, held_out=True))


def test_half_of_each_class_is_asked_the_inverted_question() -> None:
    domain = make_domain("film", DOMAIN.question, (Row(str(i), f"text {i}", int(i < 12)) for i in range(100)))
    found = inverted_questions(domain, range(100), 0.5, seed=0)
    assert set(found.values()) == set(inverted(domain))
    # The flagged word is right for the 6 flagged texts asked as ever, and for the 44 cleared ones whose question is inverted.
    assert [sum(domain.labels[row] == label for row in found) for label in (0, 1)] == [44, 6]
    assert set(found) != set(inverted_questions(domain, range(100), 0.5, seed=1))
    assert not inverted_questions(domain, range(100), 0.0, seed=0)
    assert len(inverted_questions(domain, range(100), 1.0, seed=0)) == 100
    assert set(inverted_questions(domain, [3, 50], 1.0, seed=0)) == {3, 50}


def test_every_text_gets_a_second_question_with_its_right_answer() -> None:
    texts = [f"text, {i}." if i % 3 else f"AN image {i}" for i in range(400)]
    domain = make_domain(
        "film", Question("Is it good?", "Ja", "Nein"), (Row(str(i), t, i % 2) for i, t in enumerate(texts))
    )
    dealt = second_questions(domain, seed=0)
    turned, upright, asides = set(inverted(domain)), set(reworded(domain)), dict(ASIDES)
    kinds = {"turned": 0, "upright": 0, "aside": 0}
    for text, label, (question, answer) in zip(domain.texts, domain.labels, dealt, strict=True):
        if question in turned:
            kinds["turned"] += 1
            assert answer == (label == 0)
        elif question in upright:
            kinds["upright"] += 1
            assert answer == (label == 1)
        else:
            kinds["aside"] += 1
            assert answer == asides[question.text](text)
    assert kinds == {"turned": 200, "upright": 100, "aside": 100}
    # Whatever else is asked has both answers about equally often.
    assert 35 <= sum(answer for question, answer in dealt if question.text in asides) <= 65
    assert second_questions(domain, seed=0) == dealt != second_questions(domain, seed=1)


def test_asides_by_hand() -> None:
    answers = {question: answer("An apple, is it the BEST.") for question, answer in ASIDES}
    assert list(answers.values()) == [True] * len(ASIDES)
    answers = {question: answer("there isle no Best! ") for question, answer in ASIDES}
    assert list(answers.values()) == [False] * len(ASIDES)


def test_the_prompt_change_suite_asks_nothing_that_training_asks() -> None:
    amazon = load_domain("vader/amazon")
    part = amazon.test.sample(80)
    asked = {item.question.text for item in suite(part, part.label_array() == 1) if item.kind != "trained"}
    trained = {question.text for question, _ in second_questions(amazon.train, seed=0)}
    assert len(trained) > 6
    # In the suite other verdict words are asked under the trained question itself.
    assert asked & trained <= {amazon.question.text}
