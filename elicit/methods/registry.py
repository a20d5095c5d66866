"""The methods by name: label-free ones, and the references that they are compared with.

A label-free method is a function of a monitor and an `UnlabelledDomain`, a type without labels. A reference gets whatever labels
its name promises. The two kinds are registered by different decorators, so that nothing label-free is ever handed a label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from elicit.domains import Domain, UnlabelledDomain
from elicit.monitors.monitor import Monitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import TrainingConfig

LabelsUsed = Literal["none", "source", "target"]


@dataclass(frozen=True)
class Elicited:
    """What a label-free method found.

    Attributes:
        monitor: scores new texts of the target.
        details: figures about the search itself, JSON values; none of them involves a label.
        warnings: what to know before trusting it.
    """

    monitor: Monitor
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ingredients:
    """What a reference may use.

    Attributes:
        untrained: the model as it came.
        load_start: gives `start`, training it first when that was not done yet.
        sources: training splits of the source domains, with labels.
        target: training split of the target with its labels, or None when it has none.
        training: how models are fine-tuned.
        seed: of everything random.
        folder: where adapters go.
    """

    untrained: VerdictMonitor
    load_start: Callable[[], VerdictMonitor]
    sources: Sequence[Domain]
    target: Domain | None
    training: TrainingConfig
    seed: int
    folder: Path

    @property
    def start(self) -> VerdictMonitor:
        """The transfer monitor, or the untrained one when there is no source."""
        return self.load_start()


LabelFree = Callable[[VerdictMonitor, UnlabelledDomain, int], Elicited]


@dataclass(frozen=True)
class Method:
    """One entry of `elicit methods`.

    Attributes:
        name: what users write.
        description: one line.
        labels: the labels that it uses itself; a label-free method started from a source-trained monitor inherits "source".
        label_free: the function, for label-free methods.
        reference: the function, for references.
    """

    name: str
    description: str
    labels: LabelsUsed
    label_free: LabelFree | None = None
    reference: Callable[[Ingredients], Monitor] | None = None


METHODS: dict[str, Method] = {}


def label_free(name: str, description: str) -> Callable[[LabelFree], LabelFree]:
    """Register a function of (monitor, unlabelled target, seed) as a label-free method."""

    def register(function: LabelFree) -> LabelFree:
        METHODS[name] = Method(name, description, "none", label_free=function)
        return function

    return register


def reference(
    name: str, labels: LabelsUsed, description: str
) -> Callable[[Callable[[Ingredients], Monitor]], Callable[[Ingredients], Monitor]]:
    """Register a function of `Ingredients` as a reference that uses these labels."""

    def register(function: Callable[[Ingredients], Monitor]) -> Callable[[Ingredients], Monitor]:
        METHODS[name] = Method(name, description, labels, reference=function)
        return function

    return register
