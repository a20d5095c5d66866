"""Agreement with held-out labels: metrics, bootstrap intervals, calibration without labels, gap recovered."""

from elicit.evaluation.agreement import (
    METRICS,
    agreement,
    difference,
    evaluate_target,
    gap_recovered,
    paired_aurocs,
)
from elicit.evaluation.bootstrap import Resampled, bootstrap_weights, mean_over_seeds
from elicit.evaluation.evaluate import Evaluation, evaluate

__all__ = [
    "METRICS",
    "Evaluation",
    "Resampled",
    "agreement",
    "bootstrap_weights",
    "difference",
    "evaluate",
    "evaluate_target",
    "gap_recovered",
    "mean_over_seeds",
    "paired_aurocs",
]
