"""Wordings of a question, and how they are dealt out."""

from dataclasses import replace

from elicit.domains import Question, Row, load_domain, make_domain
from elicit.training.questions import deal, inverted, reworded

DOMAIN = make_domain(
    "film", Question("Is it good?", "Ja", "Nein"), (Row(str(i), f"text {i}", i % 2) for i in range(10))
)


def test_a_domain_without_wordings_gets_templates_with_its_own_words() -> None:
    assert all("Is it good?" in question.text for question in reworded(DOMAIN) + inverted(DOMAIN))
    assert all((question.flagged, question.cleared) == ("Ja", "Nein") for question in inverted(DOMAIN))
    assert '"Ja"' in inverted(DOMAIN)[0].text


def test_a_domain_s_own_wordings_come_first() -> None:
    own = replace(DOMAIN, reworded=("Do people like it?",), inverted=("Is it bad?", "Is it poor?"))
    assert [question.text for question in reworded(own)] == ["Do people like it?"]
    assert [question.text for question in inverted(own)] == ["Is it bad?", "Is it poor?"]
    assert "Is the sentiment of this text negative?" in load_domain("vader/amazon").inverted


def test_half_of_the_texts_are_asked_the_other_way_round_and_a_quarter_in_the_domain_s_own_words() -> None:
    dealt = deal(DOMAIN, 400, seed=0)
    assert sum(turned for _, turned in dealt) == 200
    assert 70 <= sum(question == DOMAIN.question for question, _ in dealt) <= 130
    upright, turned = set(reworded(DOMAIN)) | {DOMAIN.question}, set(inverted(DOMAIN))
    assert {question for question, is_turned in dealt if is_turned} == turned
    assert {question for question, is_turned in dealt if not is_turned} == upright
    assert deal(DOMAIN, 400, seed=0) == dealt != deal(DOMAIN, 400, seed=1)
