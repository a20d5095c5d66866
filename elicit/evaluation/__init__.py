"""Agreement with held-out labels: metrics, bootstrap intervals, calibration without labels, gap recovered."""

from elicit.evaluation.agreement import evaluate_target
from elicit.evaluation.calibration import Calibration, fit_calibration
from elicit.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Calibration", "Evaluation", "evaluate", "evaluate_target", "fit_calibration"]
