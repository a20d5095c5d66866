"""Monitors without labels: source training, label-free elicitation, honest agreement.

from elicit import load_domain, load_monitor, train_monitor, elicit_monitor, evaluate
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elicit.domains import Domain, Exclusive, Implies, Opposite, Question, Same, UnlabelledDomain, load_domain
    from elicit.evaluation import evaluate
    from elicit.methods import Elicited, elicit_monitor, label_free
    from elicit.monitors import load_monitor
    from elicit.training import TrainingConfig, train_monitor

_HOME = {
    "Domain": "domains",
    "Exclusive": "domains",
    "Implies": "domains",
    "Opposite": "domains",
    "Question": "domains",
    "Same": "domains",
    "UnlabelledDomain": "domains",
    "load_domain": "domains",
    "load_monitor": "monitors",
    "train_monitor": "training",
    "TrainingConfig": "training",
    "Elicited": "methods",
    "elicit_monitor": "methods",
    "label_free": "methods",
    "evaluate": "evaluation",
}
__all__ = [
    "Domain",
    "Elicited",
    "Exclusive",
    "Implies",
    "Opposite",
    "Question",
    "Same",
    "TrainingConfig",
    "UnlabelledDomain",
    "elicit_monitor",
    "evaluate",
    "label_free",
    "load_domain",
    "load_monitor",
    "train_monitor",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import on first use: `elicit --help` need not wait for torch."""
    if name in _HOME:
        return getattr(importlib.import_module(f"elicit.{_HOME[name]}"), name)
    raise AttributeError(f"module 'elicit' has no attribute {name!r}")
