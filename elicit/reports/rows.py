"""Reading `results.json`: rows and figures as the other reports use them.

A run may have been written by another version, or stopped half-way: every key except target and method may be missing. What is
missing becomes *undefined with a reason*, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Results = Mapping[str, Any]
Role = Literal["untrained", "label-free", "transfer", "source reference", "target reference"]
Reading = Literal["better", "worse", "no clear difference"]

ROLES: tuple[Role, ...] = ("untrained", "label-free", "transfer", "source reference", "target reference")


@dataclass(frozen=True)
class Measure:
    """One figure with its interval, or the reason why there is none.

    Attributes:
        value: the figure, or None when it is undefined.
        low, high: ends of its interval, or None when there is none.
        undefined: why there is no value; empty when there is one.
        warning: what to know before trusting it.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: str = ""
    warning: str = ""

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class ReportRow:
    """One method on one target.

    Attributes:
        target, method, description: names, and what the method is.
        role: where it stands in every table.
        labels_used: "none", "source", "target", or "unknown" when the run does not say.
        error: why the method failed; empty when it did not.
        skipped: why the method was not run; empty when it was.
        reading: how it compares with transfer, None when that was not measured.
        unscored: texts without a score, by reason.
        held: the row as it was in the file.
    """

    target: str
    method: str
    description: str
    role: Role
    labels_used: str
    error: str
    skipped: str
    reading: Reading | None
    unscored: dict[str, int]
    held: Mapping[str, Any]

    def measure(self, name: str) -> Measure:
        """The figure of this name."""
        if self.error:
            return Measure(undefined=f"the method failed: {self.error}")
        if self.skipped:
            return Measure(undefined=f"the method was not run: {self.skipped}")
        return read_measure(self.held.get(name))

    def reading_of(self, name: str) -> str | None:
        """How the paired difference of this name reads; None when it was not measured."""
        found = self.held.get(name)
        return str(found["reading"]) if isinstance(found, Mapping) and found.get("reading") else None

    @property
    def absent(self) -> Literal["", "failed", "not run"]:
        """Why a row has no figures at all; empty when it has some. Having had nothing to run on is no failure."""
        return "failed" if self.error else "not run" if self.skipped else ""

    @property
    def label_free(self) -> bool:
        return self.role == "label-free"

    @property
    def keyword(self) -> bool:
        return self.method.startswith("keyword")

    @property
    def n(self) -> int | None:
        return _count(self.held.get("n"))

    @property
    def coverage(self) -> float | None:
        return _finite(self.held.get("coverage"))

    @property
    def verdict_mass(self) -> float | None:
        return _finite(self.held.get("verdict_mass"))

    @property
    def warnings(self) -> list[str]:
        return texts(self.held.get("warnings"))

    @property
    def interval_warning(self) -> str:
        """Why the intervals of this row's target are likely too narrow; empty when nothing says so."""
        return str(self.held.get("interval_warning") or "")

    @property
    def curve(self) -> tuple[list[float], list[float]] | None:
        """Points of the ROC curve, (false positive rates, true positive rates), or None when there are none."""
        curve = self.held.get("curve")
        if self.absent or not isinstance(curve, Mapping):
            return None
        rates = [[_finite(rate) for rate in _sequence(curve.get(name))] for name in ("fpr", "tpr")]
        points = [(x, y) for x, y in zip(*rates, strict=False) if x is not None and y is not None]
        if len(points) < 2 or len(rates[0]) != len(rates[1]):
            return None
        return [x for x, _ in points], [y for _, y in points]


@dataclass(frozen=True)
class ReportTarget:
    """A target and its rows, in the order of every table.

    Attributes:
        name, question: what was asked about which domain.
        labelled: whether agreement could be measured.
        rows: untrained, label-free methods, transfer, references with source labels, references with target labels.
        held: the target as it was in the file.
    """

    name: str
    question: str
    labelled: bool
    rows: tuple[ReportRow, ...]
    held: Mapping[str, Any] = field(default_factory=dict)

    def row(self, method: str) -> ReportRow | None:
        return next((row for row in self.rows if row.method == method), None)

    @property
    def size(self) -> str:
        """How many texts were measured, and how many of them are flagged, as far as the run says."""
        test, share = _count(self.held.get("test")), _finite(self.held.get("flagged_share"))
        parts = [] if test is None else [f"{test} test texts"]
        if not self.labelled:
            parts.append("no labels")
        elif share is not None:
            parts.append(f"{share:.0%} flagged")
        return ", ".join(parts)


def read_targets(results: Results) -> list[ReportTarget]:
    """Targets in the order of the run, each with its rows in the order of every table."""
    described = {str(held.get("name", "")): held for held in mappings(results.get("targets"))}
    rows = [read_row(held) for held in mappings(results.get("rows"))]
    names = list(dict.fromkeys([*described, *(row.target for row in rows)]))
    targets = []
    for name in names:
        held = described.get(name, {})
        own = sorted((row for row in rows if row.target == name), key=lambda row: ROLES.index(row.role))
        labelled = held.get("labelled")
        if not isinstance(labelled, bool):
            labelled = any(row.measure("auroc").value is not None for row in own)
        targets.append(ReportTarget(name, question_text(held.get("question")), labelled, tuple(own), held))
    return targets


def read_row(held: Mapping[str, Any]) -> ReportRow:
    """One row of the file."""
    against = held.get("versus_transfer")
    # Transfer compared with itself says nothing.
    reading = against.get("reading") if isinstance(against, Mapping) and held.get("method") != "transfer" else None
    return ReportRow(
        target=str(held.get("target", "")),
        method=str(held.get("method", "")),
        description=str(held.get("description") or ""),
        role=_role(held),
        labels_used=str(held.get("labels_used") or "unknown"),
        error=str(held.get("error") or ""),
        skipped=str(held.get("skipped") or ""),
        reading=reading if reading in ("better", "worse", "no clear difference") else None,
        unscored=_reasons(held.get("unscored")),
        held=held,
    )


def read_measure(held: Any) -> Measure:
    """A figure from `{"value", "low", "high"}` or `{"value": null, "undefined": reason}`."""
    if held is None:
        return Measure(undefined="not measured")
    if not isinstance(held, Mapping):
        held = {"value": held}
    value = _finite(held.get("value"))
    if value is None:
        return Measure(undefined=str(held.get("undefined") or "not a finite number"))
    low, high = _finite(held.get("low")), _finite(held.get("high"))
    warning = str(held.get("warning") or "")
    if low is None or high is None:
        return Measure(value, warning=warning)
    return Measure(value, low, high, warning=warning)


def question_text(held: Any) -> str:
    """A question, which a file may hold as text or with its verdict words."""
    return str(held.get("text", "") if isinstance(held, Mapping) else held or "")


def mappings(held: Any) -> list[Mapping[str, Any]]:
    return [item for item in _sequence(held) if isinstance(item, Mapping)]


def texts(held: Any) -> list[str]:
    return [held] if isinstance(held, str) else [str(item) for item in _sequence(held)]


def _role(held: Mapping[str, Any]) -> Role:
    method, labels, reference = held.get("method"), held.get("labels_used"), bool(held.get("reference"))
    if method == "untrained":
        return "untrained"
    if method == "transfer":
        return "transfer"
    # A method that saw target labels is never shown among the label-free ones, whatever else its row says.
    if labels == "target":
        return "target reference"
    if held.get("label_free") or (labels in (None, "none") and not reference and "label_free" not in held):
        return "label-free"
    return "source reference"


def _reasons(held: Any) -> dict[str, int]:
    if not isinstance(held, Mapping):
        return {}
    counted = {str(reason): _count(count) for reason, count in held.items()}
    return {reason: count for reason, count in counted.items() if count}


def _sequence(held: Any) -> Sequence[Any]:
    return held if isinstance(held, Sequence) and not isinstance(held, str | bytes) else ()


def _finite(held: Any) -> float | None:
    if isinstance(held, bool) or not isinstance(held, int | float) or not math.isfinite(held):
        return None
    return float(held)


def _count(held: Any) -> int | None:
    number = _finite(held)
    return None if number is None else int(number)
