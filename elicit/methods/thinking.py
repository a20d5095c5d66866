"""Thinking: verdicts after reasoning in the model's own words, as a monitor of their own and as teacher for self-training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from elicit.domains import UnlabelledDomain
from elicit.domains.rules import pairs_of, repair
from elicit.errors import DomainError
from elicit.methods.cost import START, Pass, Sizes
from elicit.methods.evidence import prior_log_odds
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.methods.self_training import ROUNDS, self_training
from elicit.methods.states import PROBE_TEXTS
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.thinking import ThinkingMonitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import TrainingConfig

FEWEST = 8
THOUGHTS = 64  # tokens of the reasoning about a text


def _cost(sizes: Sizes) -> Iterator[Pass]:
    for texts in (sizes.train.at_most(PROBE_TEXTS), *sizes.scored):
        yield from texts.thought(THOUGHTS)


def _cost_of_students(sizes: Sizes) -> Iterator[Pass]:
    """Each round's student reasons about the texts again, and is then the teacher."""
    pool, model = sizes.train.at_most(PROBE_TEXTS), START
    yield from pool.thought(THOUGHTS)
    for number in range(1, ROUNDS + 1):
        model = f"thinking-self-training, round {number}"
        yield pool.trained(TrainingConfig(), model, at_most=True)
        yield from pool.thought(THOUGHTS, model)
    for texts in sizes.scored:
        yield texts.verdicts(model)


@label_free(
    "thinking", f"the verdict after up to {THOUGHTS} tokens of the model's own reasoning about each text", _cost
)
def thinking(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int, max_tokens: int = THOUGHTS) -> Elicited:
    """A thinking monitor, and the labels that its calibrated log-odds give the target's texts.

    Args:
        monitor: untrained, or trained on source domains.
        target: texts without labels.
        seed: deterministic: it plays no part.
        max_tokens: of the reasoning.
    """
    found = ThinkingMonitor(monitor.model, target.question, max_tokens)
    texts = target.sample(PROBE_TEXTS)
    scores = found.score(texts)
    if scores.scored.sum() < FEWEST:
        raise DomainError(f"{target.name}: {scores.scored.sum()} texts can be read; thinking needs at least {FEWEST}")
    read = scores.values[scores.scored]
    odds = prior_log_odds(fit_calibration(read), read)
    read_texts = texts.take(np.flatnonzero(scores.scored))
    labels = repair(odds, pairs_of(target.rules, read_texts.groups))
    labelling = Labelling(read_texts.ids, labels, odds)
    details = {"texts": len(labels), "flagged_share": round(float(labels.mean()), 4)}
    return Elicited(found, details | {"unsure": int(labelling.unsure.sum())}, (), labelling)


@label_free(
    "thinking-self-training",
    "fine-tuned on the verdicts after reasoning of which the model is sure",
    _cost_of_students,
    "training",
)
def thinking_self_training(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A LoRA monitor that says at once what it says after reasoning: `self_training` with `thinking` as its teacher."""
    return self_training(monitor, target, seed, teacher=thinking)
