"""Retention: does a trained model still follow instructions as it did before? Held-out pairs that no training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elicit.evaluation.bootstrap import Resampled, bootstrap_weights, weighted_mean
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
        templates: (n,) what made each pair, empty for pairs from elsewhere. Pairs of one template are much alike, so that
            resamples draw whole templates.
    """

    loss: NDArray[np.float64]
    passes: NDArray[np.float64]
    templates: tuple[str, ...]

    def pass_rate(self) -> Resampled:
        """Share of right answers among those that can be checked, and its resamples, the same pairs for every model."""
        return weighted_mean(self.passes, self._weights())

    def loss_growth(self, before: Retention) -> Resampled:
        """By what share the loss grew since another model, paired: the same pairs in each draw."""
        now, then = (weighted_mean(each.loss, self._weights()) for each in (self, before))
        return Resampled(now.value / then.value - 1, now.replicates / then.replicates - 1)

    def to_json(self) -> dict[str, Any]:
        """Mean loss and share of right answers, with intervals that draw whole templates."""
        return {
            "n": len(self.loss),
            "loss": weighted_mean(self.loss, self._weights()).to_json(),
            "pass_rate": self.pass_rate().to_json(),
        }

    def _weights(self) -> NDArray[np.float32]:
        """(1 + r, n): the pairs as they are, and how often each is in each resample."""
        every = np.ones((1, len(self.loss)), np.float32)
        groups = [template or None for template in self.templates]
        return np.concatenate([every, bootstrap_weights(np.zeros(len(groups)), groups)])

    def held(self) -> dict[str, Any]:
        """Everything for JSON; `from_held` gives back an equal one."""
        return {
            "loss": self.loss.tolist(),
            "passes": [float(right) if np.isfinite(right) else None for right in self.passes],
            "templates": list(self.templates),
        }

    @classmethod
    def from_held(cls, held: Mapping[str, Any]) -> Retention:
        """What `held` gave."""
        passes = [np.nan if right is None else right for right in held["passes"]]
        templates = tuple(held["templates"])
        return cls(np.array(held["loss"], dtype=np.float64), np.array(passes, dtype=np.float64), templates)


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
        templates=tuple(pair.template for pair in pairs),
    )
