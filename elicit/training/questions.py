"""Other wordings of a question: reworded ones keep the verdict, inverted ones turn it around.

The last wording of either list is kept for measuring (`held_out`), and training asks in the others.

A model that is trained on one question learns to ignore it, and goes on answering it when another is asked. Asked about a
text a second time, in another wording, an inverted one, or about something else that a look at the text answers, it has to read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from elicit.domains import Domain, Question

MARKS = re.compile(r"\{(question|flagged|cleared)\}")
REWORDED = ("{question} Judge by the text alone.", "Consider the text below. {question}")
INVERTED = (
    'Would it be wrong to answer "{flagged}" to this question about the text: {question}',
    'Is "{cleared}" the right answer to this question about the text: {question}',
)

# Nothing that the prompt-change suite asks: what it measures is whether a model follows questions that it was never trained on.
ASIDES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("Is there a comma anywhere in it?", lambda text: "," in text),
    ('Does the word "the" occur here?', lambda text: "the" in re.findall(r"\w+", text.casefold())),
    ('Did the writer use the word "is"?', lambda text: "is" in re.findall(r"\w+", text.casefold())),
    ("Is the last character a full stop?", lambda text: text.strip().endswith(".")),
    ("Does it begin with a vowel?", lambda text: text.strip()[:1].casefold() in set("aeiou")),
    ("Is any word written in capitals alone?", lambda text: re.search(r"\b[A-Z]{2,}\b", text) is not None),
)


def reworded(domain: Domain, held_out: bool = False) -> list[Question]:
    """Questions whose verdicts are those of the domain's own: of the domain, or else made from a template."""
    return _part(domain.question, domain.reworded, REWORDED, held_out)


def inverted(domain: Domain, held_out: bool = False) -> list[Question]:
    """Questions whose flagged verdict is right where the domain's own question is answered by the cleared one."""
    return _part(domain.question, domain.inverted, INVERTED, held_out)


def inverted_questions(domain: Domain, rows: Sequence[int], share: float, seed: int) -> dict[int, Question]:
    """By row, the inverted question that stands in the place of the domain's own: for such a share of the rows of either class.

    Shared out within the classes, so that at a half the flagged word is right as often as the other, whatever the classes are.
    """
    rng = np.random.default_rng([seed, 3])
    turned = inverted(domain)
    classes = [rng.permutation([row for row in rows if domain.labels[row] == label]).tolist() for label in (0, 1)]
    return {row: _one(turned, rng) for of_class in classes for row in of_class[: round(share * len(of_class))]}


def second_questions(domain: Domain, seed: int) -> list[tuple[Question, bool]]:
    """For each text of a domain another question, and whether the flagged verdict is right there.

    Half of the questions are inverted ones, a quarter has nothing to do with the domain's own, the rest are reworded.
    """
    rng = np.random.default_rng([seed, 1])
    upright, turned = reworded(domain), inverted(domain)
    asked = []
    for row, place in enumerate(rng.permutation(len(domain)).tolist()):
        flagged = domain.labels[row] == 1
        kind = place % 4
        if kind < 2:
            asked.append((_one(turned, rng), not flagged))
        elif kind == 2:
            asked.append((_one(upright, rng), flagged))
        else:
            asked.append(_aside(domain, domain.texts[row], bool(rng.integers(2)), rng))
    return asked


def _aside(domain: Domain, text: str, wanted: bool, rng: np.random.Generator) -> tuple[Question, bool]:
    """A question that a look at the text answers, with the wanted answer if one has it: no question always has one answer."""
    answers = [(replace(domain.question, text=question), answer(text)) for question, answer in ASIDES]
    found = [aside for aside in answers if aside[1] == wanted] or answers
    return found[int(rng.integers(len(found)))]


def _one(questions: Sequence[Question], rng: np.random.Generator) -> Question:
    return questions[int(rng.integers(len(questions)))]


def _part(own: Question, wordings: Sequence[str], templates: Sequence[str], held_out: bool) -> list[Question]:
    """The last wording, or all before it; a single one is kept for measuring, and templates take its place in training."""
    made = [_filled(template, own) for template in templates]
    learnt = wordings if len(wordings) > 1 else made
    texts = (wordings or made)[-1:] if held_out else learnt[:-1]
    return [replace(own, text=text) for text in texts]


def _filled(template: str, own: Question) -> str:
    """A template in one go: what looks like a mark within a question's own words stays as it is."""
    words = {"question": own.text, "flagged": own.flagged, "cleared": own.cleared}
    return MARKS.sub(lambda mark: words[mark[1]], template)
