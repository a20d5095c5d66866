"""Hidden states for the probes: which layers, and how many texts."""

from __future__ import annotations

from collections.abc import Iterator

from elicit.methods.cost import Pass, Sizes

PROBE_TEXTS = 400  # texts on which a probe is fitted: beyond some hundreds the layers' directions hardly move


def upper_layers(count: int) -> tuple[int, ...]:
    """The upper half of a model's layers, without the last, whose states already turn into logits."""
    return tuple(range(count // 2, max(count // 2 + 1, count - 1)))


def cost_of_states(sizes: Sizes) -> Iterator[Pass]:
    """A probe is fitted on states of the target's training texts, and scores states: all probes of a run share them."""
    for texts in (sizes.train.at_most(PROBE_TEXTS), *sizes.scored):
        yield texts.states()
