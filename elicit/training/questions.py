"""Other wordings of a question: reworded ones keep the verdict, inverted ones turn it around.

The last wording of either list is kept for measuring (`held_out`), and training asks in the others.

A model that is trained on one wording learns to ignore the question, and goes on answering it when another is asked. Trained on
several wordings, of which half want the opposite verdict, it has to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elicit.domains import Domain, Question

REWORDED = ("{question} Judge by the text alone.", "Consider the text below. {question}")
INVERTED = (
    'Would it be wrong to answer "{flagged}" to this question about the text: {question}',
    'Is "{cleared}" the right answer to this question about the text: {question}',
)


def reworded(domain: Domain, held_out: bool = False) -> list[Question]:
    """Questions whose verdicts are those of the domain's own: of the domain, or else made from a template."""
    return _part(domain, domain.reworded or REWORDED, held_out)


def inverted(domain: Domain, held_out: bool = False) -> list[Question]:
    """Questions whose flagged verdict is right where the domain's own question is answered by the cleared one."""
    return _part(domain, domain.inverted or INVERTED, held_out)


def deal(domain: Domain, count: int, seed: int) -> list[tuple[Question, bool]]:
    """For each of `count` texts a wording at random, and whether it is an inverted one, which half of them are.

    Half of the upright ones have the domain's own wording, since that is what will be asked.
    """
    rng = np.random.default_rng([seed, 1])
    upright, turned = reworded(domain), inverted(domain)
    own = [domain.question] * len(upright)
    return [
        (_one([*own, *upright], rng), False) if place % 2 else (_one(turned, rng), True)
        for place in rng.permutation(count).tolist()
    ]


def _one(questions: Sequence[Question], rng: np.random.Generator) -> Question:
    return questions[int(rng.integers(len(questions)))]


def _part(domain: Domain, texts: Sequence[str], held_out: bool) -> list[Question]:
    """The last wording, or all before it; a single one is kept for measuring, and templates take its place in training."""
    own = domain.question
    words = {"{question}": own.text, "{flagged}": own.flagged, "{cleared}": own.cleared}
    if len(texts) == 1 and not held_out:
        texts = (REWORDED if texts == domain.reworded else INVERTED)[:-1] + tuple(texts)
    found = []
    for text in texts[-1:] if held_out else texts[:-1]:
        for mark, word in words.items():
            text = text.replace(mark, word)
        found.append(replace(own, text=text))
    return found
