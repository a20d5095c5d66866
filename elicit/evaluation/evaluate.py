"""`evaluate`: monitors in, agreement with a labelled domain out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elicit.domains import Domain, UnlabelledDomain
from elicit.evaluation.agreement import evaluate_target
from elicit.evaluation.bootstrap import REPLICATES
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.monitor import Monitor


@dataclass(frozen=True)
class Evaluation:
    """Agreement of several monitors on one target; `print` shows the main figures.

    Attributes:
        target: name of the domain.
        rows: monitor → metrics, as `evaluate_target` gives them.
    """

    target: str
    rows: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        width = max(len(name) for name in [*self.rows, "monitor"])
        lines = [f"{self.target}\n{'monitor':<{width}}    n  coverage  AUROC [95 %]         balanced accuracy [95 %]"]
        for name, row in self.rows.items():
            figures = f"{_figure(row['auroc']):<19}  {_figure(row['balanced_accuracy'])}"
            lines.append(f"{name:<{width}} {row['n']:>4}  {row['coverage']:>7.1%}  {figures}")
        return "\n".join(lines)


def evaluate(
    monitors: Mapping[str, Monitor],
    test: Domain,
    calibration: UnlabelledDomain | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """Score a labelled domain with each monitor and compare the scores with its labels.

    Args:
        monitors: name → monitor. "untrained", "transfer" and "verdict-target" are names with a meaning: gap recovered is measured
            between the first and the last, and every monitor is compared with the second.
        test: held-out texts with labels.
        calibration: unlabelled texts on which thresholds are fitted; without it, the test texts' own scores, still without labels.
        replicates: bootstrap draws.
        seed: of the draws.

    Raises:
        TypeError: something given is no monitor.
    """
    for name, monitor in monitors.items():
        if not isinstance(monitor, Monitor):
            raise TypeError(
                f"{name} is a {type(monitor).__name__}; a monitor is a subclass of elicit.monitors.Monitor with _score and save"
            )
    texts = test.unlabelled()
    scores = {name: monitor.score(texts) for name, monitor in monitors.items()}
    seen = scores if calibration is None else {name: monitor.score(calibration) for name, monitor in monitors.items()}
    calibrations = {name: fit_calibration(part.values) for name, part in seen.items()}
    return Evaluation(
        test.name, evaluate_target(scores, test.labels, test.groups, calibrations, replicates=replicates, seed=seed)
    )


def _figure(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "undefined"
    interval = "" if metric["low"] is None else f" [{metric['low']:.3f}, {metric['high']:.3f}]"
    return f"{metric['value']:.3f}{interval}"
