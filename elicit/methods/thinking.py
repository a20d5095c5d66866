"""Thinking: verdicts after reasoning in the model's own words, as a monitor of their own and as teacher for self-training."""

from __future__ import annotations

from collections.abc import Iterator

from elicit.domains import UnlabelledDomain
from elicit.methods.alarms import label_entropy, left_out
from elicit.methods.cost import START, Pass, Sizes
from elicit.methods.registry import Elicited, label_free
from elicit.methods.self_training import ROUNDS, labels_from_scores, self_training
from elicit.methods.states import PROBE_TEXTS
from elicit.monitors.thinking import ThinkingMonitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import TrainingConfig

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
    labelling, warnings = labels_from_scores(found, target.sample(PROBE_TEXTS))
    labels = labelling.labels
    details = {
        "texts": len(labels),
        "flagged_share": round(float(labels.mean()), 4),
        "mean_label_entropy_bits": label_entropy(labelling.log_odds),
        "unsure": int(labelling.unsure.sum()),
    }
    return Elicited(found, details, (*warnings, *left_out(len(labels), target.texts)), labelling)


@label_free(
    "thinking-self-training",
    "fine-tuned on the verdicts after reasoning of which the model is sure",
    _cost_of_students,
    "training",
)
def thinking_self_training(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A LoRA monitor that says at once what it says after reasoning: `self_training` with `thinking` as its teacher."""
    return self_training(monitor, target, seed, teacher=thinking)
