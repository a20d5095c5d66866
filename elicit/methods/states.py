"""Hidden states for the probes: which layers, and how many texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from elicit.domains import UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.language_models.states import States
from elicit.methods.cost import Pass, Sizes

PROBE_TEXTS = 400  # texts on which a probe is fitted: beyond some hundreds the layers' directions hardly move


def upper_layers(count: int) -> tuple[int, ...]:
    """The upper half of a model's layers, without the last, whose states already turn into logits."""
    return tuple(range(count // 2, max(count // 2 + 1, count - 1)))


def cost_of_states(sizes: Sizes) -> Iterator[Pass]:
    """A probe is fitted on states of the target's training texts, and scores states: all probes of a run share them."""
    for texts in (sizes.train.at_most(PROBE_TEXTS), *sizes.scored):
        yield texts.states()


def states_and_verdicts(model: LocalModel, texts: UnlabelledDomain, fewest: int) -> tuple[States, NDArray[np.bool_]]:
    """Hidden states of the upper layers with verdicts, and (n,) True for the texts that have both.

    Raises:
        DomainError: fewer than `fewest` texts have them.
    """
    if len(texts) >= fewest:
        layers = upper_layers(model.layers)
        states = model.states(texts.question, texts.texts, layers, f"hidden states {texts.name}", log_odds=True)
        assert states.log_odds is not None
        usable = states.usable & np.isfinite(states.log_odds)
        if usable.sum() >= fewest:
            return states, usable
    raise DomainError(
        f"{texts.name}: at least {fewest} texts that can be read are needed, and these {len(texts)} hold fewer"
    )


def read_upper_layers(model: LocalModel, texts: UnlabelledDomain) -> None:
    """One pass for all monitors that look at hidden states: each then finds its own layers in the cache."""
    layers = upper_layers(model.layers)
    for _ in model.stream_states(texts.question, texts.texts, layers, f"hidden states {texts.name}", log_odds=True):
        pass
