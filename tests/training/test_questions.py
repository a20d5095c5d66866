"""Wordings of a question, and how they are dealt out."""

from dataclasses import replace

from elicit.domains import Question, Row, load_domain, make_domain
from elicit.training.questions import deal, inverted, reworded

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


def test_the_last_of_a_domain_s_own_wordings_is_kept_for_measuring() -> None:
    own = replace(DOMAIN, reworded=("Do people like it?",), inverted=("Is it bad?", "Is it poor?"))
    assert [question.text for question in reworded(own)] == ["Is it good? Judge by the text alone."]
    assert [question.text for question in reworded(own, held_out=True)] == ["Do people like it?"]
    assert [question.text for question in inverted(own)] == ["Is it bad?"]
    assert [question.text for question in inverted(own, held_out=True)] == ["Is it poor?"]
    amazon = load_domain("vader/amazon")
    for kind in (reworded, inverted):
        assert not set(kind(amazon)) & set(kind(amazon, held_out=True))


def test_half_of_the_texts_are_asked_the_other_way_round_and_a_quarter_in_the_domain_s_own_words() -> None:
    dealt = deal(DOMAIN, 400, seed=0)
    assert sum(turned for _, turned in dealt) == 200
    assert 70 <= sum(question == DOMAIN.question for question, _ in dealt) <= 130
    upright, turned = set(reworded(DOMAIN)) | {DOMAIN.question}, set(inverted(DOMAIN))
    assert {question for question, is_turned in dealt if is_turned} == turned
    assert {question for question, is_turned in dealt if not is_turned} == upright
    assert deal(DOMAIN, 400, seed=0) == dealt != deal(DOMAIN, 400, seed=1)
