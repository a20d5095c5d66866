"""Agreement of monitors with held-out labels: every figure with n, coverage and an interval, or a reason why it has none.

The only place where labels meet scores. All monitors of a target are measured under the same resamples, so gap recovered
and the difference from a baseline have paired intervals.

Unscored texts are never counted as cleared. Figures are computed on the scored texts, coverage stands beside them, and
where coverage is below 1, `worst_case_auroc` says how bad it could be: unscored flagged texts ranked below everything,
unscored cleared texts above. Texts without a label are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elicit.evaluation import metrics
from elicit.evaluation.bootstrap import (
    REPLICATES,
    Resampled,
    blocks,
    bootstrap_weights,
    group_numbers,
    rounded,
    undefined,
)
from elicit.monitors.calibration import Calibration
from elicit.monitors.scores import Scores

METRICS = (
    "auroc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "kappa",
    "tpr_at_1_fpr",
    "tpr_at_5_fpr",
    "ece",
    "brier",
)
ONE_CLASS_IS_ENOUGH = ("accuracy", "ece", "brier")
FPR_TARGETS = {"tpr_at_1_fpr": 0.01, "tpr_at_5_fpr": 0.05}
CURVE_POINTS = 60
FEWEST_GROUPS = 10  # per class; a bootstrap of fewer understates the uncertainty

Mask = NDArray[np.bool_]


@dataclass
class _Target:
    """The labelled texts of a target and their resamples.

    Attributes:
        rows: (n,) which of the target's texts carry a label.
        labels: (n,) of 0 and 1.
        weights: (1 + r, n); row 0 is all ones, so that a figure and its resamples come from one computation.
        few_groups: a warning where there are few of them, or None.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    few_groups: str | None
    _aurocs: dict[tuple[bytes, bytes], Resampled] = field(default_factory=dict)

    @classmethod
    def of(
        cls, labels: Sequence[int | None], groups: Sequence[Hashable | None] | None, replicates: int, seed: int
    ) -> _Target:
        for row, label in enumerate(labels):
            if label is not None and label not in (0, 1):
                raise ValueError(f"row {row}: a label is 0, 1 or None, not {label!r}")
        if groups is not None and len(groups) != len(labels):
            raise ValueError(f"{len(labels)} labels and {len(groups)} groups")
        rows = np.array([row for row, label in enumerate(labels) if label is not None], dtype=np.int64)
        truth = np.array([int(label) for label in labels if label is not None], dtype=np.int64)
        kept = None if groups is None else [groups[row] for row in rows]
        drawn = bootstrap_weights(truth, kept, replicates, seed)
        weights = np.concatenate([np.ones((1, len(truth)), dtype=np.float32), drawn])
        return cls(rows, truth, weights, few_groups(truth, kept))

    def auroc(self, values: NDArray[np.float64], among: Mask) -> Resampled:
        """AUROC of (n,) values among some of the texts; both classes must be there."""
        key = (values[among].tobytes(), among.tobytes())
        if key not in self._aurocs:
            labels, parts = self.labels[among], blocks(*self.weights.shape)
            figures = [metrics.auroc(values[among], labels, self.weights[part][:, among]) for part in parts]
            self._aurocs[key] = _resampled(figures)
        return self._aurocs[key]

    def one_class(self, among: Mask) -> str | None:
        """Why these texts have no AUROC, or None."""
        if not len(self.labels):
            return "the target has no labels"
        if not among.any():
            return "no labelled text was scored"
        kinds = np.unique(self.labels[among])
        if len(kinds) == 2:
            return None
        word = "flagged" if kinds[0] else "cleared"
        return f"one class only: every scored text ({int(among.sum())} of {len(among)}) is labelled {word}"


def agreement(
    scores: Scores,
    labels: Sequence[int | None],
    groups: Sequence[Hashable | None] | None,
    calibration: Calibration,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of one monitor on one target.

    Args:
        scores: of n texts.
        labels: (n,) 1 = flagged, 0 = cleared, None = unknown.
        groups: (n,) leakage groups, or None when texts are independent.
        calibration: fitted on other texts, without labels; gives verdicts (strictly above its threshold) and
            probabilities.
        replicates: resamples for the intervals.
        seed: of the resampling.

    Returns:
        A row for JSON: `n` labelled texts, `coverage` (share of them that was scored; of all texts when none is
        labelled), `unscored` (reason → count, over the same texts), each of `METRICS` as `{"value", "low", "high"}` or
        `{"value": None, "undefined": reason}`, `worst_case_auroc` when coverage is below 1, `curve` (ROC points), and
        `interval_warning` when a class occurs in fewer than 10 groups.
    """
    return _row(scores, calibration, _Target.of(_matching(scores, labels), groups, replicates, seed))


def evaluate_target(
    scores_by_method: Mapping[str, Scores],
    labels: Sequence[int | None],
    groups: Sequence[Hashable | None] | None,
    calibrations: Mapping[str, Calibration],
    floor: str = "untrained",
    ceiling: str = "verdict-target",
    baseline: str = "transfer",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Every figure of all monitors on one target, under the same resamples.

    Args:
        scores_by_method: method → scores of the same texts in the same order.
        labels, groups, replicates, seed: as in `agreement`.
        calibrations: method → calibration.
        floor, ceiling: methods between which the gap is measured: before training, and trained on target labels.
        baseline: method from which every other one should differ for the better.

    Returns:
        method → row of `agreement`, with `gap_recovered`, `versus_<baseline>` and `versus_<floor>`. All are on AUROC, over the `n`
        texts that all monitors in the comparison scored.
    """
    first = next(iter(scores_by_method.values()), None)
    if first is None:
        return {}
    for name, scores in scores_by_method.items():
        if scores.ids != first.ids:
            raise ValueError(f"{name} scored other texts than {next(iter(scores_by_method))}: they cannot be compared")
        if name not in calibrations:
            raise ValueError(f"{name} has no calibration")
    target = _Target.of(_matching(first, labels), groups, replicates, seed)
    rows: dict[str, dict[str, Any]] = {}
    for name, scores in scores_by_method.items():
        row = _row(scores, calibrations[name], target)
        parts = _paired(target, scores_by_method, (name, floor, ceiling))
        row["gap_recovered"] = parts if isinstance(parts, dict) else gap_recovered(*parts[0]) | {"n": parts[1]}
        for other in (baseline, floor):
            if name == other:
                row[f"versus_{other}"] = undefined(f"{other} is the baseline itself")
                continue
            parts = _paired(target, scores_by_method, (name, other))
            row[f"versus_{other}"] = parts if isinstance(parts, dict) else difference(*parts[0]) | {"n": parts[1]}
        rows[name] = row
    return rows


def paired_aurocs(
    scores: Mapping[str, Scores],
    labels: Sequence[int | None],
    groups: Sequence[Hashable | None] | None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[dict[str, Resampled], int]:
    """AUROC of several monitors on the n texts that all of them scored, under the same resamples; and n.

    Args:
        scores: monitor → scores of the same texts in the same order.
        labels, groups, replicates, seed: as in `agreement`.

    Raises:
        ValueError: monitors scored different texts, or there is one class only.
    """
    names = list(scores)
    if len({part.ids for part in scores.values()}) > 1:
        raise ValueError("monitors scored different texts: they cannot be compared")
    target = _Target.of(_matching(scores[names[0]], labels), groups, replicates, seed)
    found = _paired(target, scores, names)
    if isinstance(found, dict):
        raise ValueError(str(found["undefined"]))
    return dict(zip(names, found[0], strict=True)), found[1]


def few_groups(labels: ArrayLike, groups: Sequence[Hashable | None] | None) -> str | None:
    """A warning where the n texts of a class come from few groups, which are what is independent; or None."""
    truth = np.asarray(labels)
    member = group_numbers(groups, len(truth))
    counts = {word: len(np.unique(member[truth == kind])) for kind, word in ((0, "cleared"), (1, "flagged"))}
    few = [f"{count} of {word} texts" for word, count in counts.items() if count < FEWEST_GROUPS]
    return f"independent groups: {', '.join(few)}; with so few, intervals are likely too narrow" if few else None


def gap_recovered(method: Resampled, floor: Resampled, ceiling: Resampled) -> dict[str, Any]:
    """(method − floor) / (ceiling − floor) of paired AUROCs, with a paired percentile interval.

    0 is as good as the floor, 1 as good as the ceiling; it can lie outside. Undefined when the interval of the denominator
    touches 0, since the ratio then has no finite interval (Fieller 1954). The few resamples in which the denominator is
    not above 0 (at most 2.5 %) are left out.
    """
    gap = Resampled(ceiling.value - floor.value, ceiling.replicates - floor.replicates)
    low, high = gap.interval()
    if not low > 0:
        shown = f"AUROC difference {gap.value:.3f}, 95 % interval {low:.3f} to {high:.3f}"
        if high < 0:
            return undefined(f"there is no gap to recover: the ceiling is below the floor ({shown})")
        return undefined(f"there may be no gap to recover: the ceiling is not clearly above the floor ({shown})")
    usable = gap.replicates > 0
    ratio = (method.replicates - floor.replicates)[usable] / gap.replicates[usable]
    return _plain(Resampled((method.value - floor.value) / gap.value, ratio))


def difference(a: Resampled, b: Resampled) -> dict[str, Any]:
    """a − b of paired figures, with a paired percentile interval and a reading.

    `reading` is "better" or "worse" when the interval excludes 0, "undefined" where there is no figure, else "no clear
    difference". One comparison errs in 5 % of the cases; among twenty methods one is expected to differ by chance.
    """
    bounds = (a.bounds[0] - b.bounds[1], a.bounds[1] - b.bounds[0])
    found = Resampled(a.value - b.value, a.replicates - b.replicates, bounds)
    low, high = found.interval()
    plain = _plain(found)
    if plain["value"] is None:
        return plain | {"reading": "undefined"}
    return plain | {"reading": "better" if low > 0 else "worse" if high < 0 else "no clear difference"}


def roc_points(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, list[float]]:
    """ROC curve of (n,) scores with (n,) labels of both classes, for a figure: `{"fpr", "tpr"}`, at most 60 points.

    Points on a straight line are dropped; of the others, those at even distances along the curve are kept, with both ends.
    """
    counts = metrics.ThresholdCounts.of(scores, labels, np.ones((1, len(labels))))
    fpr = np.append(0.0, counts.false_alarms[0]) / counts.false_alarms[0, -1]
    tpr = np.append(0.0, counts.hits[0]) / counts.hits[0, -1]
    along = np.append(0.0, np.cumsum(np.diff(fpr) + np.diff(tpr)))
    before, after = np.diff(counts.hits[0], prepend=0.0), np.diff(counts.false_alarms[0], prepend=0.0)
    bends = before[:-1] * after[1:] != before[1:] * after[:-1]
    kept = np.flatnonzero(np.concatenate([[True], bends, [True]]))
    if len(kept) > CURVE_POINTS:
        wanted = np.linspace(0.0, along[-1], CURVE_POINTS)
        nearest = np.abs(along[kept][None, :] - wanted[:, None]).argmin(axis=1)
        kept = kept[np.unique(nearest)]
    return {"fpr": [rounded(x) for x in fpr[kept]], "tpr": [rounded(x) for x in tpr[kept]]}


def _matching(scores: Scores, labels: Sequence[int | None]) -> Sequence[int | None]:
    if len(labels) != len(scores):
        raise ValueError(f"{len(scores)} scores and {len(labels)} labels")
    return labels


def _row(scores: Scores, calibration: Calibration, target: _Target) -> dict[str, Any]:
    """See `agreement`."""
    values = scores.values[target.rows]
    scored = np.isfinite(values)
    counted: Sequence[int] = list(target.rows) if len(target.rows) else range(len(scores))
    reasons = Counter(reason for reason in (scores.reasons[row] for row in counted) if reason is not None)
    missing = sum(reasons.values())
    row: dict[str, Any] = {
        "n": len(target.rows),
        "coverage": rounded(1 - missing / len(counted)) if len(counted) else 0.0,
        "unscored": dict(reasons),
    }
    one_class = target.one_class(scored)
    if scored.any():
        labels = target.labels[scored]
        figures = _figures(values[scored], labels, target.weights, scored, calibration)
    for name in METRICS:
        if one_class is not None and (name not in ONE_CLASS_IS_ENOUGH or not scored.any()):
            row[name] = undefined(one_class)
            continue
        row[name] = figures[name].to_json()
        if name in FPR_TARGETS:
            row[name]["achieved_fpr"] = rounded(figures[f"{name} achieved"].value)
            negatives = int((labels == 0).sum())
            if FPR_TARGETS[name] * negatives < 1:
                finest = f"with {negatives} cleared texts, one false alarm is already {100 / negatives:.1f} %"
                row[name]["warning"] = "; ".join(filter(None, [finest, row[name].get("warning")]))
    if missing and len(target.rows):
        row["worst_case_auroc"] = _worst_case(values, scored, target)
    if target.few_groups is not None and len(target.rows):
        row["interval_warning"] = target.few_groups
    row["curve"] = None if one_class is not None else roc_points(values[scored], labels)
    return row


def _figures(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32],
    scored: Mask,
    calibration: Calibration,
) -> dict[str, Resampled]:
    """Every figure of m scored texts, and the achieved false-positive rates as "<name> achieved"."""
    flagged, probability = calibration.flagged(values), calibration.probability(values)
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for part in blocks(*weights.shape):
        weight = weights[part].astype(np.float64)
        if not scored.all():
            weight = weight[:, scored]
        ranked = metrics.ThresholdCounts.of(values, labels, weight)
        verdicts = metrics.Confusion.of(flagged, labels, weight)
        found = {
            "auroc": ranked.auroc(),
            "average_precision": ranked.average_precision(),
            "accuracy": verdicts.accuracy(),
            "balanced_accuracy": verdicts.balanced_accuracy(),
            "f1": verdicts.f1(),
            "kappa": verdicts.kappa(),
            "ece": metrics.expected_calibration_error(probability, labels, weight),
            "brier": metrics.brier(probability, labels, weight),
        }
        for name, rate in FPR_TARGETS.items():
            found[name], found[f"{name} achieved"] = ranked.tpr_at_fpr(rate)
        for name, figure in found.items():
            parts.setdefault(name, []).append(figure)
    return {name: _resampled(figures) for name, figures in parts.items()}


def _resampled(figures: list[NDArray[np.float64]]) -> Resampled:
    """Blocks of one figure, the first of which begins with the texts as they are."""
    joined = np.concatenate(figures)
    return Resampled(float(joined[0]), joined[1:])


def _worst_case(values: NDArray[np.float64], scored: Mask, target: _Target) -> dict[str, Any]:
    everything = np.ones_like(scored)
    reason = target.one_class(everything)
    if reason is not None:
        return undefined(reason)
    worst = np.where(scored, values, np.where(target.labels == 1, -np.inf, np.inf))
    return target.auroc(worst, everything).to_json()


def _paired(
    target: _Target, scores: Mapping[str, Scores], names: Sequence[str]
) -> tuple[list[Resampled], int] | dict[str, Any]:
    """AUROCs of several monitors on the texts that all of them scored, and how many these are; or an undefined entry."""
    absent = [name for name in names if name not in scores]
    if absent:
        return undefined(f"there is no {absent[0]} monitor to compare with")
    values = [scores[name].values[target.rows] for name in names]
    both = np.logical_and.reduce([np.isfinite(part) for part in values])
    reason = target.one_class(both)
    if reason is not None:
        return undefined(f"among the texts that {', '.join(dict.fromkeys(names))} all scored: {reason}")
    return [target.auroc(part, both) for part in values], int(both.sum())


def _plain(found: Resampled) -> dict[str, Any]:
    """A comparison for JSON: one whose resamples all agree is no cause for a warning."""
    low, high = found.interval()
    if not np.isfinite([found.value, low]).all():
        return undefined("no resample holds both classes")
    return {"value": rounded(found.value), "low": rounded(low), "high": rounded(high)}
