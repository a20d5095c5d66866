"""Probe monitors: a direction in the hidden states of one layer, at the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elicit.domains import Domain, Question, UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.language_models.states import States
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.scores import Scores
from elicit.monitors.verdict import save_adapter
from probes import ContrastProbe, SupervisedProbe, load_probe

FloatArray = NDArray[np.float32]


class ProbeMonitor(Monitor):
    """score = a probe's score of the text's hidden states at one layer.

    A contrast probe reads the pair of states under both verdicts; a supervised probe reads the state at the last prompt token.

    Args:
        model: the language model whose states are read.
        question: what the states answer.
        probe: a fitted probe of one layer.
        layer: whose output it reads.
    """

    kind: ClassVar[str] = "probe"

    def __init__(
        self, model: LocalModel, question: Question, probe: ContrastProbe | SupervisedProbe, layer: int
    ) -> None:
        self.model, self.question, self.probe, self.layer = model, question, probe, layer

    @classmethod
    def fit_supervised(
        cls, probe: SupervisedProbe, model: LocalModel, domains: Sequence[Domain], layers: Sequence[int]
    ) -> ProbeMonitor:
        """Fit a probe on labelled domains; the layer is chosen by cross-validation on the same labels."""
        parts, labels = [], []
        for domain in domains:
            # With log-odds: a label-free probe on the same texts asks for both, and then there is one pass for the two.
            states = model.states(domain.question, domain.texts, layers, f"hidden states {domain.name}", log_odds=True)
            known = states.usable & np.isfinite(domain.label_array())
            parts.append(prompt_states(states)[known])
            labels.append(domain.label_array()[known].astype(int))
        y = np.concatenate(labels)
        if len(set(y.tolist())) < 2:
            raise DomainError(f"{domains[0].name}: a probe needs labels of both classes")
        probe.fit(np.concatenate(parts), y)
        return cls(model, domains[0].question, probe.best(), layers[probe.best_layer_])

    def _score(self, texts: UnlabelledDomain) -> Scores:
        values: list[NDArray[np.float64]] = []
        reasons: list[str | None] = []
        for states in self.model.stream_states(texts.question, texts.texts, [self.layer], f"scoring {texts.name}"):
            values.append(self._read(states))
            reasons += states.reasons
        return Scores(texts.ids, np.concatenate(values), tuple(reasons))

    def _read(self, states: States) -> NDArray[np.float64]:
        """(n,) the probe's scores, NaN where there are no states."""
        values, usable = np.full(len(states.reasons), np.nan), states.usable
        if usable.any():
            if isinstance(self.probe, ContrastProbe):
                flagged, cleared = contrast_pair(states)
                values[usable] = self.probe.score(flagged[usable, 0], cleared[usable, 0])
            else:
                values[usable] = self.probe.score(prompt_states(states)[usable, 0])
        return values

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        self.probe.save(folder / "probe")
        write_monitor(folder, self.kind, self.question, model=model_reference(self.model), layer=self.layer)

    @classmethod
    def from_folder(cls, folder: Path, held: dict[str, Any], model: LocalModel, question: Question) -> ProbeMonitor:
        return cls(model, question, load_probe(folder / "probe"), int(held["layer"]))


def contrast_pair(states: States) -> tuple[FloatArray, FloatArray]:
    """(n, l, d) states at the flagged verdict token, and at the cleared one."""
    return states.values[:, 1].float().numpy(), states.values[:, 2].float().numpy()


def prompt_states(states: States) -> FloatArray:
    """(n, l, d) states at the last prompt token."""
    return np.asarray(states.values[:, 0].float().numpy())
