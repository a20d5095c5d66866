"""Synthetic contrast pairs with a known truth, and distractors after Farquhar et al. (2023, "Challenges with
unsupervised LLM knowledge discovery", arXiv 2312.10029): what a probe should find, and what it finds instead.

States of text i under answer a ∈ {+1, −1} are

    common_i + noise_ia + a · (answer word + truth_i · strength · u + distractor_i · pull · v)

with orthogonal unit directions u and v, truth and distractor ±1, and standard normal noise in every coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """x_pos, x_neg: (n, d) states; truth, distractor: (n,) 0 or 1; direction, distraction: (d,) unit vectors."""

    x_pos: Floats
    x_neg: Floats
    truth: NDArray[np.int64]
    distractor: NDArray[np.int64]
    direction: Floats
    distraction: Floats


def planted(
    n: int = 500,
    d: int = 256,
    signal: float = 1.0,
    balance: float = 0.5,
    answer_word: float = 1.0,
    common: float = 1.0,
    pull: float = 0.0,
    random_state: int = 0,
) -> Pairs:
    """Pairs with a planted truth, and a distractor that is independent of it where `pull` is above 0.

    Args:
        signal: strength of truth along u, relative to the noise of one state's coordinate.
        balance: share of texts that are true.
        answer_word: length of what all positive states share and all negative states have opposite, per coordinate.
        common: standard deviation of what the two states of a text share, per coordinate.
        pull: strength of the distractor along v.
    """
    random = np.random.default_rng(random_state)
    truth, distractor = _drawn(random, n, balance), _drawn(random, n, 0.5)
    return _pairs(random, truth, distractor, d, signal, pull * _signed(distractor), answer_word, common)


def random_word(n: int = 500, d: int = 256, signal: float = 1.0, pull: float = 3.0, random_state: int = 0) -> Pairs:
    """A random word follows each text, one of two ("banana", "shed"), and the state says consistently which.

    The word is exclusive-or'd with the answer, as in their theorem 1, and it is also readable from both states alike,
    which is what cluster normalisation goes by.
    """
    random = np.random.default_rng(random_state)
    truth, word = _drawn(random, n, 0.5), _drawn(random, n, 0.5)
    pairs = _pairs(random, truth, word, d, signal, pull * _signed(word), 1.0, 1.0)
    shown = _unit(random, d, (pairs.direction, pairs.distraction)) * 3 * pull * _signed(word)[:, None]
    return Pairs(pairs.x_pos + shown, pairs.x_neg + shown, truth, word, pairs.direction, pairs.distraction)


def opinion(
    n: int = 500, d: int = 256, signal: float = 1.0, pull: float = 3.0, agreement: float = 0.5, random_state: int = 0
) -> Pairs:
    """A character states an opinion in each text, and the state says whether the answer agrees with it.

    Args:
        agreement: share of texts in which the character is right; at 0.5 the opinion tells nothing about the truth.
    """
    random = np.random.default_rng(random_state)
    truth = _drawn(random, n, 0.5)
    right = _drawn(random, n, agreement)
    said = np.where(right == 1, truth, 1 - truth)
    pairs = _pairs(random, truth, said, d, signal, pull * _signed(said), 1.0, 1.0)
    shown = _unit(random, d, (pairs.direction, pairs.distraction)) * 3 * pull * _signed(said)[:, None]
    return Pairs(pairs.x_pos + shown, pairs.x_neg + shown, truth, said, pairs.direction, pairs.distraction)


def negation(n: int = 500, d: int = 256, signal: float = 1.0, pull: float = 3.0, random_state: int = 0) -> Pairs:
    """Half of the texts carry a "not": the state follows the statement without it more strongly than the statement
    itself.

    The distractor is the truth of the statement without its negation, so that it equals the truth in the other half of
    the texts.
    """
    random = np.random.default_rng(random_state)
    truth, negated = _drawn(random, n, 0.5), _drawn(random, n, 0.5)
    bare = np.where(negated == 1, 1 - truth, truth)
    pairs = _pairs(random, truth, bare, d, signal, pull * _signed(bare), 1.0, 1.0)
    shown = _unit(random, d, (pairs.direction, pairs.distraction)) * 3 * pull * _signed(negated)[:, None]
    return Pairs(pairs.x_pos + shown, pairs.x_neg + shown, truth, bare, pairs.direction, pairs.distraction)


def found(scores: NDArray[Any], pairs: Pairs) -> dict[str, float]:
    """Accuracy of (n,) scores above 0 against truth and against the distractor, each up to the sign that the probe
    cannot know.

    The larger of accuracy and its complement answers "which feature is this?", on data whose truth is planted; it is no
    measure of a monitor.
    """
    verdicts = np.asarray(scores) > 0
    both = {"truth": pairs.truth, "distractor": pairs.distractor}
    accuracy = {name: float((verdicts == (feature == 1)).mean()) for name, feature in both.items()}
    return {name: max(value, 1 - value) for name, value in accuracy.items()}


def _pairs(
    random: np.random.Generator,
    truth: NDArray[np.int64],
    distractor: NDArray[np.int64],
    d: int,
    signal: float,
    pulls: Floats,
    answer_word: float,
    common: float,
) -> Pairs:
    n = len(truth)
    u = _unit(random, d, ())
    v = _unit(random, d, (u,))
    half = answer_word * random.standard_normal(d) + signal * _signed(truth)[:, None] * u + pulls[:, None] * v
    shared = common * random.standard_normal((n, d))
    x_pos = shared + half + random.standard_normal((n, d))
    x_neg = shared - half + random.standard_normal((n, d))
    return Pairs(x_pos, x_neg, truth, distractor, u, v)


def _drawn(random: np.random.Generator, n: int, share: float) -> NDArray[np.int64]:
    """Exactly the nearest number of ones, in random places: chance imbalance is not what is studied."""
    values = np.zeros(n, dtype=np.int64)
    values[: round(n * share)] = 1
    return random.permutation(values)


def _signed(bits: NDArray[np.int64]) -> Floats:
    return np.where(bits == 1, 1.0, -1.0)


def _unit(random: np.random.Generator, d: int, others: tuple[Floats, ...]) -> Floats:
    """A random unit vector (d,) that is orthogonal to others."""
    vector = random.standard_normal(d)
    for other in others:
        vector = vector - (vector @ other) * other
    return np.asarray(vector / np.linalg.norm(vector))
