"""Internal coherence maximisation: Algorithm 1 of Wen et al. (2025, arXiv 2506.10139), one prompt per label and step.

It looks for the labels D with the highest U(D) = α · P(D) − I(D): P the mean log-probability that the model gives each label
when all the other labelled texts stand before it, I the number of broken rules. From K random labels it visits texts at random,
those that share a rule with a labelled text a hundred times as often until they have a label, gives each the label that the
model prefers after all others, mends broken rules, and keeps the change when U rises, or by chance as in simulated annealing. P is
a mean: every log-probability is negative, so that under the sum in the paper's equation no text would ever be added. (The authors'
code takes the mean of the labels' log-odds.) As there, half of the first K are flagged. Two things are not as there: probabilities
are those of the two verdict words alone, and a text that has the label that the model prefers, or that rules leave it, is not drawn
again before another label changes; when that holds of all, the search is over.

This is the reference beside which `consistency` stands. Each step reads the label of every text again after all others, so
labelling N texts of L tokens takes about N³L/3 tokens; the pool is therefore small, and it must fit into one context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from elicit.domains import UnlabelledDomain
from elicit.domains.rules import Pair, pairs_of
from elicit.methods.alarms import ERRORS, degenerate, drifted, label_entropy, left_out, of_contexts
from elicit.methods.cost import START, Pass, Sizes
from elicit.methods.pool import Pool, surest_of_each
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.few_shot import FewShotMonitor
from elicit.monitors.verdict import VerdictMonitor

POOL = 24
SEEDS = 8  # K
ALPHA = 50.0
FIRST_TEMPERATURE, LAST_TEMPERATURE, COOLING = 10.0, 0.01, 0.99
NEAR = 100.0  # times as often as others is a text drawn whose label a rule ties to one that is known
FIXES = 10  # most pairs that are mended after one proposal
STEPS_PER_TEXT = 12  # as many as the authors' 3,000 for 256 texts

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Labels = dict[int, bool]
# Log-odds of each row's label being 1 after a context of labelled rows; NaN where they cannot be read.
Score = Callable[[Sequence[tuple[Labels, int]]], list[float]]


def _cost(sizes: Sizes) -> Iterator[Pass]:
    pool = sizes.train.at_most(POOL)
    yield pool.verdicts()
    # What the search reads, and at its end each label once more, all of them inverted.
    tokens = round((pool.count**2 / 3 + pool.count) * pool.examples(pool.count))
    seen = pool.head + pool.examples(pool.count) / 4  # of half of the pool, on average
    yield Pass(START, f"each label of {pool.name} after all others, at every step", "reading", tokens, seen=seen)
    for texts in sizes.scored:
        yield texts.after(pool.examples(pool.count), what="the labels of icm")


@label_free(
    "icm",
    f"internal coherence maximisation (Wen et al., 2025), one prompt per label and step: slow, {POOL} texts at most",
    _cost,
)
def icm(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A few-shot monitor whose examples are the labels that the search found."""
    pool = Pool.of(monitor, target, POOL).that_fits_one_context()
    cost = {"requests": 0, "tokens": 0}
    readings: list[Floats] = []

    def read(asked: Sequence[tuple[Labels, int]]) -> list[float]:
        packs = [[*((pool.encoded[other], label) for other, label in sorted(context.items())), (pool.encoded[row], False)]
                 for context, row in asked]  # fmt: skip
        values = pool.model.packed_log_odds(pool.question, packs, f"icm {target.name}", last_only=True)
        readings.extend(values)
        return [float(value) for (value,) in values]

    def tokens_of(asked: Sequence[tuple[Labels, int]]) -> int:
        return sum(pool.tokens([*context, row]) for context, row in asked)

    def score(asked: Sequence[tuple[Labels, int]]) -> list[float]:
        cost["requests"] += len(asked)
        cost["tokens"] += tokens_of(asked)
        return read(asked)

    found = search(score, len(pool), pairs_of(target.rules, pool.groups), np.random.default_rng(seed))
    rows = sorted(found.labels)
    labels = np.array([found.labels[row] for row in rows])
    labelling = Labelling(tuple(pool.ids[row] for row in rows), labels, np.array([found.log_odds[row] for row in rows]))
    # For the alarms alone, as are the verdicts: neither belongs to the algorithm, and its cost is counted without them.
    opposite = {row: not label for row, label in found.labels.items()}
    inverted = [(_without(opposite, row), row) for row in rows]
    lead = flip_lead(labels, labelling.log_odds, np.nan_to_num(read(inverted), nan=0.0))
    alone = pool.model.log_odds(pool.question, pool.texts, description=f"icm {target.name}, verdicts")
    verdicts = alone.values[rows]
    told = np.isfinite(verdicts)
    by_verdict = fit_calibration(verdicts).flagged(verdicts)
    drift = round(float(np.mean(labels[told] != by_verdict[told])), 4) if told.any() else None
    # All of them where they leave half of the context to the text behind them.
    chosen = pool.examples([rows[at] for at in surest_of_each(labels, labelling.log_odds)])
    shots = [(pool.texts[row], found.labels[row]) for row in sorted(chosen)]
    details = {
        "pool": len(pool),
        "objective": round(found.objective, 4),
        "steps": found.steps,
        "accepted": found.accepted,
        "flagged_share": round(float(labels.mean()), 4),
        "mean_label_entropy_bits": label_entropy(labelling.log_odds),
        "drift": drift,
        "shots": len(shots),
        "requests_per_label": round(cost["requests"] / len(found.labels), 1),
        "tokens_per_label": round(cost["tokens"] / len(found.labels)),
        "tokens_of_alarms_per_label": round((tokens_of(inverted) + pool.tokens_of_verdicts()) / len(found.labels)),
    }
    if np.isfinite(mean_lead := balanced_lead(labels, lead)[0]):
        details["lead_over_inverted"] = round(mean_lead, 4)
    if np.isfinite(alone.verdict_mass).any():
        details["verdict_mass"] = round(float(np.nanmean(alone.verdict_mass)), 4)
    warnings = [
        *degenerate(labels),
        *symmetric(labels, lead),
        *drifted(drift),
        *of_contexts(alone.verdict_mass, readings, shots),
        *left_out(len(pool), target.texts),
    ]
    if len(found.labels) < len(pool):
        warnings.append(f"of these, texts that were left without a label: {len(pool) - len(found.labels)}")
    return Elicited(FewShotMonitor(pool.model, pool.question, shots), details, tuple(warnings), labelling)


@dataclass
class Search:
    """Where the search ended: labels of the texts that have one, their U, steps taken, and changes kept.

    `log_odds` are those of each label after all the others.
    """

    labels: Labels
    objective: float
    steps: int = 0
    accepted: int = 0
    log_odds: dict[int, float] = field(default_factory=dict)


@dataclass
class _Objective:
    """U(D) = α · P(D) − I(D)."""

    score: Score
    pairs: Sequence[Pair]
    _held: dict[tuple[tuple[int, bool], ...], dict[int, float]] = field(default_factory=dict)

    def __call__(self, labels: Labels) -> float:
        odds = self.log_odds(labels)
        signed = np.array([odds[row] if label else -odds[row] for row, label in labels.items()])
        return ALPHA * float(-np.logaddexp(0, -signed).mean()) - len(self.broken(labels))

    def log_odds(self, labels: Labels) -> dict[int, float]:
        """Log-odds of each label after all the others; 0 where they cannot be read."""
        key = tuple(sorted(labels.items()))
        if key not in self._held:
            odds = np.nan_to_num(self.score([(_without(labels, row), row) for row in labels]), nan=0.0)
            self._held[key] = dict(zip(labels, map(float, odds), strict=True))
        return self._held[key]

    def broken(self, labels: Labels) -> list[Pair]:
        """Pairs whose labels are what a rule forbids."""
        return [
            pair
            for pair in self.pairs
            if pair.first in labels and pair.second in labels and pair.broken(labels[pair.first], labels[pair.second])
        ]


def search(score: Score, count: int, pairs: Sequence[Pair], rng: np.random.Generator) -> Search:
    """Algorithm 1.

    Args:
        score: log-odds of labels after contexts; the only access to the model.
        count: number of texts.
        pairs: what the domain's rules forbid.
        rng: of the first labels, the order of visits, and the acceptance of changes for the worse.
    """
    objective = _Objective(score, pairs)
    first = rng.choice(count, min(SEEDS, count), replace=False)
    labels = _mended({int(row): bool(place % 2) for place, row in enumerate(first)}, objective, rng)
    found = Search(labels, objective(labels))
    unmoved: set[int] = set()  # texts that already have the label that the model prefers: all of them, and it is over
    while found.steps < STEPS_PER_TEXT * count and len(unmoved) < count:
        found.steps += 1
        row = _draw([row for row in range(count) if row not in unmoved], found.labels, pairs, rng)
        (odds,) = score([(_without(found.labels, row), row)])
        preferred = found.labels.get(row) if np.isnan(odds) else bool(odds > 0)
        proposal = found.labels
        if preferred is not None and preferred != found.labels.get(row):
            proposal = _mended(found.labels | {row: preferred}, objective, rng)
        if proposal == found.labels:
            unmoved.add(row)
            continue
        gain = objective(proposal) - found.objective
        if accepts(gain, temperature_at(found.steps), rng):
            found.labels, found.objective = proposal, found.objective + gain
            found.accepted += 1
            unmoved.clear()
    found.log_odds = objective.log_odds(found.labels)
    return found


def temperature_at(step: int) -> float:
    """Of step 1, 2, …: the paper's schedule."""
    return float(max(LAST_TEMPERATURE, FIRST_TEMPERATURE / (1 + COOLING * np.log(step))))


def accepts(gain: float, temperature: float, rng: np.random.Generator) -> bool:
    """Whether a change is kept: always when U rises, else with probability exp(gain / temperature)."""
    return gain > 0 or rng.random() < np.exp(gain / temperature)


def flip_lead(labels: Bools, log_odds: Floats, inverted: Floats) -> Floats:
    """(n,) nats by which each label is better predicted than its opposite is when all labels are inverted.

    Args:
        labels: (n,).
        log_odds: (n,) of each label being 1, after all the others.
        inverted: (n,) the same after the opposites of all the others.
    """
    sign = np.where(labels, 1.0, -1.0)
    return np.logaddexp(0, sign * inverted) - np.logaddexp(0, -sign * log_odds)


def balanced_lead(labels: Bools, lead: Floats) -> tuple[float, float]:
    """Mean of (n,) leads, both classes counting equally, and its standard error; NaN where a class has fewer than two labels.

    A model that prefers one of the words, whatever the text, gives the labels of that word a lead, and the others as much less.
    """
    parts = [lead[labels == label] for label in (True, False)]
    if min(map(len, parts)) < 2:
        return float("nan"), float("nan")
    error = 0.5 * float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))
    return 0.5 * float(sum(part.mean() for part in parts)), error


def symmetric(labels: Bools, lead: Floats) -> list[str]:
    """An alarm where (n,) labels are not clearly better predicted than their opposites.

    Where it is silent nothing is proven: the labels were searched for, and their opposites were not.
    """
    mean, error = balanced_lead(labels, lead)
    if mean > max(0.0, ERRORS * error):
        return []
    by = f"{mean:+.2f} ± {error:.2f} nats per label" if np.isfinite(mean) else "one class has hardly any labels"
    return [f"the opposite labels may predict each other as well ({by}): which label is which is a guess"]


def _draw(rows: Sequence[int], labels: Labels, pairs: Sequence[Pair], rng: np.random.Generator) -> int:
    """One of the rows; those without a label that share a rule with a labelled one come first in most cases."""
    tied = {row for pair in pairs for row in (pair.first, pair.second) if {pair.first, pair.second} & labels.keys()}
    weights = np.array([NEAR if row in tied and row not in labels else 1.0 for row in rows])
    return int(rng.choice(rows, p=weights / weights.sum()))


def _mended(labels: Labels, objective: _Objective, rng: np.random.Generator) -> Labels:
    """ConsistencyFix: broken pairs take the allowed labels with the highest U, where that raises U."""
    left: list[Pair] = []  # as they are: mending them does not raise U
    for _ in range(FIXES):
        broken = [pair for pair in objective.broken(labels) if pair not in left]
        if not broken:
            break
        pair = broken[int(rng.integers(len(broken)))]
        options = [labels | {pair.first: a, pair.second: b} for a in (False, True) for b in (False, True)]
        best = max((option for option in options if not _broken_at(pair, objective.broken(option))), key=objective)
        if objective(best) > objective(labels):
            labels, left = best, []
        else:
            left.append(pair)
    return labels


def _broken_at(pair: Pair, broken: Sequence[Pair]) -> bool:
    """Whether any rule is broken between these two texts."""
    return any({other.first, other.second} == {pair.first, pair.second} for other in broken)


def _without(labels: Labels, row: int) -> Labels:
    return {other: label for other, label in labels.items() if other != row}
