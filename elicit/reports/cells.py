"""Cells of a page's tables: figures with their intervals, numbers, words, and what is undefined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elicit.reports.rows import Measure, read_measure

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: the figure, or a word.
        small: what stands beside it in small type: the interval, or the reason why there is no figure.
        sort: what the column sorts by; empty sorts last in either direction.
        kind: "number", "undefined" or "text".
        title: explanation on hover, for details that the page also says elsewhere.
    """

    text: str
    small: str = ""
    sort: str = ""
    kind: str = "number"
    title: str = ""


def measure_cell(measure: Measure, percent: bool = False, signed: bool = False) -> Cell:
    """A figure with its interval."""
    if measure.value is None:
        return Cell(DASH, kind="undefined")
    form = f"{{:{'+' if signed else ''}z{'.0%' if percent else '.3f'}}}"
    small = ""
    if measure.low is not None and measure.high is not None:
        small = f"[{form.format(measure.low)}, {form.format(measure.high)}]".replace("-", "−")
    said = form.format(measure.value).replace("-", "−")
    return Cell(said, small, repr(measure.value), title=measure.warning)


def percent(entry: Mapping[str, Any], signed: bool = False) -> Cell:
    """A figure of `results.json` as per cent; a change shows its sign."""
    measure = read_measure(entry)
    return _undefined(measure) if measure.value is None else measure_cell(measure, percent=True, signed=signed)


def signed(entry: Mapping[str, Any]) -> Cell:
    """A difference of `results.json`."""
    measure = read_measure(entry)
    return _undefined(measure) if measure.value is None else measure_cell(measure, signed=True)


def share(value: float) -> Cell:
    """A share as per cent, rounded down, so that 99.96 % never reads as complete."""
    said = "100%" if value >= 1 else f"{int(value * 1000 + 1e-9) / 10:.1f}%"
    return Cell(said, sort=repr(value))


def as_cell(held: Any) -> Cell:
    """What stands in a cell: a figure of `results.json`, a number, a word, nothing, or a cell as it is."""
    if isinstance(held, Cell):
        return held
    if held is None:
        return Cell(DASH, kind="text")
    if isinstance(held, Mapping):
        measure = read_measure(held)
        return _undefined(measure) if measure.value is None else measure_cell(measure)
    if isinstance(held, int | float) and not isinstance(held, bool):
        said = f"{held:,}" if isinstance(held, int) else f"{held:.3g}" if abs(held) < 100 else f"{held:,.0f}"
        return Cell(said.replace("-", "−"), sort=repr(held))
    return Cell(str(held), sort=str(held), kind="text")


def _undefined(measure: Measure) -> Cell:
    return Cell("undefined", measure.undefined, kind="undefined")
