"""Few-shot methods: examples from the target itself, with labels that nobody gave.

`random-shots` is the control: random labels. `bootstrap` re-estimates the labels of its own examples three times: texts are packed
k to a sequence with their current labels, every text's log-odds are read after the examples before it, averaged over several
packings, and the upper half becomes flagged. It is a reference for searches: it keeps to no rules, and its labels are only means to
its examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from elicit.domains import UnlabelledDomain
from elicit.methods.alarms import degenerate, of_contexts, without_examples
from elicit.methods.cost import Pass, Sizes
from elicit.methods.pool import Pool
from elicit.methods.registry import Elicited, label_free
from elicit.monitors.few_shot import FewShotMonitor
from elicit.monitors.verdict import VerdictMonitor

Floats = NDArray[np.float64]
SHOTS = 12
POOL = 84  # texts whose labels are re-estimated
ROUNDS = 3
STILL = 0.1  # share of labels that may change in the last round without an alarm
PACKINGS = 2  # independent orders per round, so that a text is read early in one sequence and late in another


def _cost_of_random_shots(sizes: Sizes) -> Iterator[Pass]:
    for texts in sizes.scored:
        yield texts.after(sizes.train.examples(SHOTS), what="random labels")


@label_free(
    "random-shots", "12 target texts with random labels as few-shot examples: the control", _cost_of_random_shots
)
def random_shots(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A few-shot monitor whose examples carry random labels, half of them flagged."""
    pool = Pool.of(monitor, target, SHOTS)
    pool = pool.take(pool.examples(range(len(pool))))
    flagged = np.random.default_rng(seed).permutation(len(pool)) % 2 == 0
    shots = list(zip(pool.texts, map(bool, flagged), strict=True))
    return Elicited(FewShotMonitor(pool.model, pool.question, shots), {}, tuple(without_examples(shots)))


def _cost_of_bootstrap(sizes: Sizes) -> Iterator[Pass]:
    pool = sizes.train.at_most(POOL)
    yield pool.verdicts()
    yield pool.packed(SHOTS, ROUNDS * PACKINGS)
    for texts in sizes.scored:
        yield texts.after(pool.examples(SHOTS), what="the labels of bootstrap")


@label_free(
    "bootstrap",
    "few-shot examples whose labels the model re-estimates itself, starting from its own verdicts",
    _cost_of_bootstrap,
)
def bootstrap(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A few-shot monitor with the most confident self-labelled examples, half of them flagged where readings differ.

    The examples' labels start from the monitor's zero-shot verdicts, split at their median.
    """
    rng = np.random.default_rng(seed)
    pool = Pool.of(monitor, target, POOL)
    first = pool.verdicts("bootstrap, first verdicts")
    start = first.values
    odds = np.where(np.isfinite(start), start, np.nanmedian(start))
    flagged = _upper_half(odds)
    changes, readings = [], list[Floats]()
    for round_ in range(ROUNDS):
        where = [rows for _ in range(PACKINGS) for rows in pool.packs(rng.permutation(len(pool)).tolist(), SHOTS)]
        read = pool.read(where, flagged, f"bootstrap, round {round_ + 1} of {ROUNDS}")
        readings += read
        odds = _mean_by_row(read, where, len(pool))
        before, flagged = flagged, _upper_half(odds)
        changes.append(int((before != flagged).sum()))
    order = np.argsort(odds, kind="stable")
    half = min(SHOTS, len(pool)) // 2
    surest = [row for pair in zip(order[:half], order[::-1][:half], strict=True) for row in pair]
    chosen = rng.permutation(pool.examples(surest))
    shots = [(pool.texts[row], bool(flagged[row])) for row in chosen]
    details = {
        "pool": len(pool),
        "rounds": ROUNDS,
        "flagged_share": round(float(flagged.mean()), 4),
        "labels_changed_per_round": changes,
    }
    warnings = [*degenerate(flagged), *of_contexts(first.verdict_mass, readings, shots)]
    if changes[-1] > STILL * len(pool):
        warnings.append(f"{changes[-1] / len(pool):.0%} of the labels still changed in the last round")
    return Elicited(FewShotMonitor(pool.model, pool.question, shots), details, tuple(warnings))


def _mean_by_row(read: list[Floats], where: list[list[int]], count: int) -> Floats:
    """Mean over packings of each text's log-odds, less the mean at its place in the sequence; 0 for one that was not read.

    Log-odds drift with the number of examples that stand before a text; what counts is a text against others at its place.
    """
    total, times = np.zeros(count), np.zeros(count)
    for place in range(max(len(values) for values in read)):
        there = [(rows[place], values[place]) for values, rows in zip(read, where, strict=True) if place < len(values)]
        at, values = (np.array(column) for column in zip(*there, strict=True))
        known = np.isfinite(values)
        if known.any():  # a text may stand at one place in both packings
            np.add.at(total, at[known], values[known] - values[known].mean())
            np.add.at(times, at[known], 1)
    return np.asarray(total / np.maximum(times, 1))


def _upper_half(odds: Floats) -> NDArray[np.bool_]:
    return np.asarray(odds > np.median(odds))
