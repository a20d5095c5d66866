"""Scores of a monitor: one float per text, or a reason why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """Log-odds-like scores of n texts, higher = more suspicious.

    A text that could not be scored has NaN in `values` and a sentence in `reasons`: it is never 0 and never dropped.

    Attributes:
        ids: (n,) identifiers of the texts, in the order of the domain that was scored.
        values: (n,) float64, NaN where unscored.
        reasons: (n,) None where scored, else why not.
        verdict_mass: (n,) probability on the two verdict tokens together, NaN where it was not computed.
        truncated: (n,) True where a text was longer than the monitor reads, and lost its middle; None where that is not known.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float64]
    reasons: tuple[str | None, ...]
    verdict_mass: NDArray[np.float64] | None = None
    truncated: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        if not len(self.ids) == len(values) == len(self.reasons):
            raise ValueError(f"{len(self.ids)} ids, {len(values)} values and {len(self.reasons)} reasons")
        for row, (value, reason) in enumerate(zip(values, self.reasons, strict=True)):
            if np.isfinite(value) == (reason is not None):
                raise ValueError(f"row {row}: a text has either a finite score or a reason, got {value} and {reason!r}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) True where a text has a score."""
        return np.isfinite(self.values)

    @property
    def coverage(self) -> float:
        """Share of the texts that have a score."""
        return float(self.scored.mean()) if len(self) else 0.0

    @property
    def cut(self) -> int:
        """How many texts are known to have lost their middle."""
        return 0 if self.truncated is None else int(self.truncated.sum())

    def unscored(self) -> dict[str, int]:
        """How many texts are unscored, by reason."""
        return dict(Counter(reason for reason in self.reasons if reason is not None))


def scores_from(ids: Sequence[str], values: Sequence[float], reasons: Sequence[str | None] | None = None) -> Scores:
    """Scores from plain sequences; a value that is not finite without a reason becomes "the score is not a number"."""
    array = np.array(values, dtype=np.float64)
    given: list[str | None] = list(reasons) if reasons is not None else [None] * len(array)
    for row, value in enumerate(array):
        if given[row] is not None:
            array[row] = np.nan
        elif not np.isfinite(value):
            array[row], given[row] = np.nan, "the score is not a finite number"
    return Scores(tuple(ids), array, tuple(given))
