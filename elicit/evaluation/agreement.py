"""Agreement of scores with held-out labels: the one place where the two meet.

Figures are computed on texts that have a score and a label; coverage, the share of texts that have a score, stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.evaluation.bootstrap import REPLICATES, bootstrap_weights, interval
from elicit.evaluation.calibration import Calibration
from elicit.evaluation.metrics import Confusion, Ranking, brier_score, expected_calibration_error
from elicit.monitors.scores import Scores

Floats = NDArray[np.float64]
Metric = dict[str, Any]
FLOOR, CEILING, BASELINE = "untrained", "verdict-target", "transfer"
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


def evaluate_target(
    scores: Mapping[str, Scores],
    labels: Sequence[int | None],
    groups: Sequence[str | None] | None,
    calibrations: Mapping[str, Calibration],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Agreement of every monitor on one target, with intervals from one common set of bootstrap draws.

    Args:
        scores: name → scores of the n test texts, in the same order for all.
        labels: (n,) held-out labels, None where unknown.
        groups: (n,) groups that are resampled whole, or None.
        calibrations: name → calibration fitted without labels.
        replicates: bootstrap draws.
        seed: of the draws.

    Returns:
        name → metrics as {"value", "low", "high"} with 95 % intervals or {"value": None, "undefined": reason}; `n`, `coverage`,
        `unscored`; `gap_recovered` and `versus_transfer`, both from paired draws; `curve`, the ROC curve.
    """
    truth = np.array([np.nan if label is None else label for label in labels], dtype=np.float64)
    known = np.isfinite(truth)
    y = truth[known].astype(np.int64)
    # The first row are the texts themselves: each metric's value and its replicates come from one call.
    draws = bootstrap_weights(y, _pick(groups, known), replicates, seed) if len(y) else np.zeros((replicates, 0))
    weights = np.vstack([np.ones(len(y)), draws])
    held = {name: _OneMonitor(part, known, y, weights, calibrations[name]) for name, part in scores.items()}
    return {
        name: monitor.row() | {"gap_recovered": _gap(name, held), "versus_transfer": _versus(name, held)}
        for name, monitor in held.items()
    }


class _OneMonitor:
    def __init__(
        self, scores: Scores, known: NDArray[np.bool_], y: NDArray[np.int64], weights: Floats, calibration: Calibration
    ) -> None:
        self.scores, self.calibration = scores, calibration
        self.values, self.y, self.weights = scores.values[known], y, weights
        self.scored = np.isfinite(self.values)

    def auroc(self, on: NDArray[np.bool_]) -> Floats:
        """(1 + r,) AUROC of the texts themselves and of each replicate, on some of the texts."""
        return Ranking.of(self.values[on], self.y[on], self.weights[:, on]).auroc()

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "n": int(self.scored.sum()),
            "coverage": round(self.scores.coverage, 6),
            "unscored": self.scores.unscored(),
        }
        reason = self._undefined()
        if reason is not None:
            return row | {name: undefined(reason) for name in METRICS}
        on = self.scored
        values, y, weights = self.values[on], self.y[on], self.weights[:, on]
        ranking = Ranking.of(values, y, weights)
        confusion = Confusion.of(self.calibration.flagged(values), y, weights)
        probability = self.calibration.probability(values)
        row |= {
            "auroc": estimate(ranking.auroc()),
            "average_precision": estimate(ranking.average_precision()),
            "accuracy": estimate(confusion.accuracy()),
            "balanced_accuracy": estimate(confusion.balanced_accuracy()),
            "f1": estimate(confusion.f1()),
            "kappa": estimate(confusion.kappa()),
            "tpr_at_1_fpr": _at_rate(ranking, 0.01, y),
            "tpr_at_5_fpr": _at_rate(ranking, 0.05, y),
            "ece": estimate(expected_calibration_error(probability, y, weights)),
            "brier": estimate(brier_score(probability, y, weights)),
            "curve": ranking.curve(),
        }
        if not on.all():
            # What if every failure hid the worst: flagged texts at the bottom, cleared ones at the top?
            worst = np.where(on, self.values, np.where(self.y == 1, -np.inf, np.inf))
            row["worst_case_auroc"] = estimate(Ranking.of(worst, self.y, self.weights).auroc())
        return row

    def _undefined(self) -> str | None:
        if not len(self.y):
            return "the target's test texts have no labels"
        if not self.scored.any():
            return "no labelled text has a score"
        if len(set(self.y[self.scored].tolist())) < 2:
            return f"every labelled text with a score has label {self.y[self.scored][0]}"
        return None


def estimate(values: Floats) -> Metric:
    """A metric from (1 + r,) values: the first on the texts themselves, the others on replicates."""
    if not np.isfinite(values[0]):
        return undefined("it cannot be computed on these texts")
    between = interval(values[1:])
    if between is None:
        return {"value": float(values[0]), "low": None, "high": None, "warning": "too few usable bootstrap draws"}
    return {"value": float(values[0]), "low": between[0], "high": between[1]}


def undefined(reason: str) -> Metric:
    """A metric that has no value, and why."""
    return {"value": None, "undefined": reason}


def _at_rate(ranking: Ranking, limit: float, y: NDArray[np.int64]) -> Metric:
    rate, achieved = ranking.at_false_positive_rate(limit)
    out = estimate(rate) | {"achieved_fpr": float(achieved[0])}
    cleared = int((y == 0).sum())
    if cleared * limit < 1:
        out["warning"] = f"{cleared} cleared texts cannot resolve a false-positive rate of {limit:.0%}"
    return out


def _gap(name: str, held: Mapping[str, _OneMonitor]) -> Metric:
    """(method − untrained) / (trained on target labels − untrained), in AUROC, on the texts that all three scored."""
    for needed in (FLOOR, CEILING):
        if needed not in held:
            return undefined(f"{needed} was not run on this target")
    reason = next((r for m in (name, FLOOR, CEILING) if (r := held[m]._undefined())), None)
    if reason is not None:
        return undefined(reason)
    on = held[name].scored & held[FLOOR].scored & held[CEILING].scored
    if len(set(held[name].y[on].tolist())) < 2:
        return undefined("too few texts were scored by all three monitors")
    method, floor, ceiling = (held[part].auroc(on) for part in (name, FLOOR, CEILING))
    between = interval((ceiling - floor)[1:])
    if between is None or between[0] <= 0:
        return undefined(f"{CEILING} is not clearly better than {FLOOR} here, so there is no gap to recover")
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate((method - floor) / (ceiling - floor))


def _versus(name: str, held: Mapping[str, _OneMonitor]) -> Metric:
    """AUROC above the transfer monitor's, paired, with a reading in words."""
    if BASELINE not in held:
        return undefined(f"{BASELINE} was not run on this target")
    reason = next((r for m in (name, BASELINE) if (r := held[m]._undefined())), None)
    if reason is not None:
        return undefined(reason)
    on = held[name].scored & held[BASELINE].scored
    if len(set(held[name].y[on].tolist())) < 2:
        return undefined("too few texts were scored by both monitors")
    out = estimate(held[name].auroc(on) - held[BASELINE].auroc(on))
    low, high = out.get("low"), out.get("high")
    clear = low is not None and high is not None and (low > 0 or high < 0)
    return out | {"reading": ("better" if out["value"] > 0 else "worse") if clear else "no clear difference"}


def _pick(groups: Sequence[str | None] | None, keep: NDArray[np.bool_]) -> list[str | None] | None:
    return None if groups is None else [group for group, kept in zip(groups, keep, strict=True) if kept]
