"""The methods by name: label-free ones, and the references that they are compared with.

A label-free method is a function of a monitor and an `UnlabelledDomain`, a type without labels. A reference gets whatever labels
its name promises. The two kinds are registered by different decorators, so that nothing label-free is ever handed a label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from elicit.domains import Domain, UnlabelledDomain
from elicit.methods.cost import Cost
from elicit.monitors.monitor import Monitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import TrainingConfig

LabelsUsed = Literal["none", "source", "target"]
Needs = Literal["verdicts", "hidden states", "training"]

_NAME = re.compile(r"\w[\w. -]{0,99}")
UNSURE = float(np.log(3))  # log-odds below which a label is no better than 3 to 1


@dataclass(frozen=True)
class Labelling:
    """The labels that a search gave to the texts it was shown.

    Attributes:
        ids: (n,) of the texts.
        labels: (n,) True = flagged.
        log_odds: (n,) of a label being flagged, before any consistency rule.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.bool_]
    log_odds: NDArray[np.float64]

    @property
    def unsure(self) -> NDArray[np.bool_]:
        """(n,) True for texts on which the search abstains: the evidence is weak, or speaks against the label."""
        return np.asarray(np.where(self.labels, self.log_odds, -self.log_odds) < UNSURE)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(n,) probability that each label is right, as the search sees it."""
        return np.asarray(expit(np.where(self.labels, self.log_odds, -self.log_odds)))

    def write(self, path: Path) -> None:
        """One JSON line per text: id, label (null where unsure), log-odds and the label's confidence."""
        lines = [
            json.dumps(
                {"id": i, "label": None if unsure else int(label), "log_odds": float(odds), "confidence": float(sure)}
            )
            for i, label, odds, sure, unsure in zip(
                self.ids, self.labels, self.log_odds, self.confidence, self.unsure, strict=True
            )
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Elicited:
    """What a label-free method found.

    Attributes:
        monitor: scores new texts of the target.
        details: figures about the search itself, JSON values; none of them involves a label.
        warnings: what to know before trusting it.
        labelling: the labels that it found for the target's texts, where it looks for labels.
    """

    monitor: Monitor
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    labelling: Labelling | None = None


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
Found = TypeVar("Found", bound=LabelFree)


@dataclass(frozen=True)
class Method:
    """One entry of `elicit methods`.

    Attributes:
        name: what users write.
        description: one line.
        labels: the labels that it uses itself; a label-free method started from a source-trained monitor inherits "source".
        cost: its passes through the language model, by the sizes of a run; None where nobody counted them.
        needs: what it needs of the language model; a server gives verdicts alone.
        label_free: the function, for label-free methods.
        reference: the function, for references.
        code: hash of the user's file that registered it, or "" for the project's own.
    """

    name: str
    description: str
    labels: LabelsUsed
    cost: Cost | None
    needs: Needs = "verdicts"
    label_free: LabelFree | None = None
    reference: Callable[[Ingredients], Monitor] | None = None
    code: str = ""


METHODS: dict[str, Method] = {}


def label_free(
    name: str, description: str, cost: Cost | None = None, needs: Needs = "verdicts"
) -> Callable[[Found], Found]:
    """Register a function of (monitor, unlabelled target, seed) as a label-free method; the other arguments are as in `Method`."""

    _check_name(name)

    def register(function: Found) -> Found:
        METHODS[name] = Method(name, description, "none", cost, needs, label_free=function)
        return function

    return register


def reference(
    name: str, labels: LabelsUsed, description: str, cost: Cost | None = None, needs: Needs = "verdicts"
) -> Callable[[Callable[[Ingredients], Monitor]], Callable[[Ingredients], Monitor]]:
    """Register a function of `Ingredients` as a reference that uses these labels."""
    _check_name(name)

    def register(function: Callable[[Ingredients], Monitor]) -> Callable[[Ingredients], Monitor]:
        METHODS[name] = Method(name, description, labels, cost, needs, reference=function)
        return function

    return register


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the method's name {name!r} cannot name a folder; use at most 100 letters, digits, '_', '-', '.' and spaces"
        )
