"""Blend monitors: the verdict and a linear read-out of hidden states, from one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.local import LocalModel
from elicit.monitors.monitor import Monitor, model_reference, write_monitor
from elicit.monitors.probe import prompt_states
from elicit.monitors.scores import Scores
from elicit.monitors.verdict import save_adapter

Floats = NDArray[np.float64]


class BlendMonitor(Monitor):
    """score = slope · verdict log-odds + Σ over layers of weightᵀ · state + bias.

    Args:
        model: the language model.
        question: what the evidence answers.
        layers: (l,) layers that are read, at the last prompt token.
        weights: (l, d) read-out of each layer.
        slope: of the verdict log-odds.
        bias: added to every score.
    """

    kind: ClassVar[str] = "blend"

    def __init__(
        self,
        model: LocalModel,
        question: Question,
        layers: tuple[int, ...],
        weights: Floats,
        slope: float,
        bias: float,
    ) -> None:
        self.model, self.question = model, question
        self.layers, self.weights, self.slope, self.bias = layers, weights, slope, bias

    def _score(self, texts: UnlabelledDomain) -> Scores:
        values: list[NDArray[np.float64]] = []
        reasons: list[str | None] = []
        parts = self.model.stream_states(
            texts.question, texts.texts, self.layers, f"scoring {texts.name}", log_odds=True
        )
        for states in parts:
            assert states.log_odds is not None
            read = np.einsum("nld,ld->n", prompt_states(states).astype(np.float64), self.weights)
            values.append(np.where(states.usable, self.slope * states.log_odds + read + self.bias, np.nan))
            reasons += states.reasons
        return Scores(texts.ids, np.concatenate(values), tuple(reasons))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.model, folder)
        save_file({"weights": torch.from_numpy(np.ascontiguousarray(self.weights))}, folder / "blend.safetensors")
        held = {"layers": list(self.layers), "slope": self.slope, "bias": self.bias}
        write_monitor(folder, self.kind, self.question, model=model_reference(self.model), **held)

    @classmethod
    def from_folder(cls, folder: Path, held: dict[str, Any], model: LocalModel, question: Question) -> BlendMonitor:
        weights = load_file(folder / "blend.safetensors")["weights"].numpy()
        return cls(model, question, tuple(held["layers"]), weights, float(held["slope"]), float(held["bias"]))
