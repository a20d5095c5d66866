"""Retention: does a trained model still follow instructions as it did before? Held-out pairs that no training has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.evaluation.bootstrap import REPLICATES, Resampled, resampled_means
from elicit.language_models.language_model import LanguageModel
from elicit.training.instructions import Instruction, own_instructions

PAIRS = 130  # ten of each held-out template
ANSWER = 48  # tokens of an answer that is checked


@dataclass(frozen=True)
class Retention:
    """How a model does on n instructions.

    Attributes:
        loss: (n,) mean negative log-likelihood of each response's tokens, in nats.
        passes: (n,) 1 where its own answer is right, 0 where not, NaN where that cannot be checked.
    """

    loss: NDArray[np.float64]
    passes: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Mean loss and share of right answers, with intervals that draw whole pairs."""
        return {
            "n": len(self.loss),
            "loss": resampled_means(self.loss).to_json(),
            "pass_rate": resampled_means(self.passes[np.isfinite(self.passes)]).to_json(),
        }

    def against(self, before: Retention, seed: int = 0) -> dict[str, Any]:
        """By what share the loss grew, and how many more answers are right, both paired: the same pairs in each draw."""
        draws = np.random.default_rng(seed).integers(0, len(self.loss), (REPLICATES, len(self.loss)))
        growth = self.loss[draws].mean(1) / before.loss[draws].mean(1) - 1
        gain = (self.passes - before.passes)[np.isfinite(self.passes)]
        return {
            "loss_growth": Resampled(float(self.loss.mean() / before.loss.mean() - 1), growth).to_json(),
            "pass_rate_gain": resampled_means(gain, seed).to_json(),
        }


def retention(model: LanguageModel, pairs: Sequence[Instruction] = ()) -> Retention:
    """Measure a model on instruction pairs.

    Args:
        model: with or without an adapter.
        pairs: instructions and right responses; without any, the project's own held-out ones.
    """
    pairs = pairs or own_instructions(PAIRS, held_out=True)
    read = model.response_log_likelihoods([(pair.prompt, pair.response) for pair in pairs])
    answers = model.answer([pair.prompt for pair in pairs], ANSWER)
    passes = [pair.passes(answer.text) for pair, answer in zip(pairs, answers, strict=True)]
    return Retention(
        loss=np.array([-values.mean() for values in read]),
        passes=np.array([np.nan if right is None else float(right) for right in passes]),
    )
