"""Thinking: verdicts after reasoning in the model's own words, as a monitor of their own and as teacher for self-training."""

from __future__ import annotations

import numpy as np

from elicit.domains import UnlabelledDomain
from elicit.errors import DomainError
from elicit.methods.evidence import prior_log_odds
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.methods.self_training import self_training
from elicit.methods.states import PROBE_TEXTS
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.thinking import ThinkingMonitor
from elicit.monitors.verdict import VerdictMonitor

FEWEST = 8


@label_free("thinking", "the verdict after up to 64 tokens of the model's own reasoning about each text")
def thinking(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int, max_tokens: int = 64) -> Elicited:
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
    ids = texts.take(np.flatnonzero(scores.scored)).ids
    labelling = Labelling(ids, odds > 0, odds)
    details = {"texts": len(ids), "flagged_share": round(float(np.mean(odds > 0)), 4)}
    return Elicited(found, details | {"unsure": int(labelling.unsure.sum())}, (), labelling)


@label_free("thinking-self-training", "fine-tuned on the verdicts after reasoning of which the model is sure")
def thinking_self_training(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A LoRA monitor that says at once what it says after reasoning: `self_training` with `thinking` as its teacher."""
    return self_training(monitor, target, seed, teacher=thinking)
