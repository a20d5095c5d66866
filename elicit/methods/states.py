"""Hidden states for the probes: which layers, and how many texts."""

from __future__ import annotations

PROBE_TEXTS = 400  # texts on which a probe is fitted: beyond some hundreds the layers' directions hardly move


def upper_layers(count: int) -> tuple[int, ...]:
    """The upper half of a model's layers, without the last, whose states already turn into logits."""
    return tuple(range(count // 2, max(count // 2 + 1, count - 1)))
