"""Verdict log-odds as a language model gives them, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elicit.language_models.generation import Generation
from elicit.language_models.prompts import EncodedText


@dataclass(frozen=True)
class Readings:
    """Verdict log-odds of n texts.

    Attributes:
        values: (n,) logit(flagged) − logit(cleared), NaN where there is a reason.
        reasons: (n,) why a text has no log-odds, else None.
        truncated: (n,) True where the middle of the text was left out.
        verdict_mass: (n,) probability on both verdict tokens together; NaN where it was not computed.
    """

    values: NDArray[np.float64]
    reasons: tuple[str | None, ...]
    truncated: NDArray[np.bool_]
    verdict_mass: NDArray[np.float64]


@dataclass(frozen=True)
class Thoughts:
    """What a model wrote about n texts before it gave its verdict.

    Attributes:
        written: (n,) reasoning, and what follows it where the tokens allowed.
        forced: log-odds of the verdict right after each reasoning, whatever was written behind it.
    """

    written: tuple[Generation, ...]
    forced: Readings


def that_fit(encoded: Sequence[EncodedText], room: int) -> tuple[list[int], list[str | None]]:
    """The rows of the texts that can be read in `room` tokens, and (n,) why the others cannot."""
    reasons = [text.reason for text in encoded]
    for row, text in enumerate(encoded):
        if reasons[row] is None and len(text.ids) > room:
            reasons[row] = "the text does not fit into the model's context after its examples"
    return [row for row, reason in enumerate(reasons) if reason is None], reasons
