"""Monitors: verdict, thinking, few-shot, probe and keyword; each scores texts, and can be saved and loaded."""

from elicit.monitors.calibration import Calibration, fit_calibration
from elicit.monitors.few_shot import FewShotMonitor
from elicit.monitors.keyword import KeywordMonitor
from elicit.monitors.loading import load_monitor
from elicit.monitors.monitor import Monitor
from elicit.monitors.probe import ProbeMonitor
from elicit.monitors.scores import Scores
from elicit.monitors.thinking import ThinkingMonitor
from elicit.monitors.verdict import VerdictMonitor

__all__ = [
    "Calibration",
    "FewShotMonitor",
    "KeywordMonitor",
    "Monitor",
    "ProbeMonitor",
    "Scores",
    "ThinkingMonitor",
    "VerdictMonitor",
    "fit_calibration",
    "load_monitor",
]
