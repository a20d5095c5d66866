"""Consistency search over verdict-token logits: labels that the model, shown some of them in its context, predicts for the others.

The objective is that of internal coherence maximisation (`icm`; Wen et al., 2025, arXiv 2506.10139), the arithmetic is not. Texts
are packed k to a sequence in random order, each with its current label, and every text's verdict log-odds are read after the
labelled texts before it: one pass over the data gives as many conditional log-odds as there are texts, where the original asks
one prompt for each. Every sequence is read twice, with its labels and with all of them swapped. Of the two readings r⁺ and r⁻,

    even = (r⁺ + r⁻) / 2      is what the model thinks of the text whatever the labels before it are: a verdict, calibrated in
                              context (after Zhao et al., 2021, arXiv 2102.09690);
    odd  = (r⁺ − r⁻) / 2      is what those labels say about it, and no text's own label is among them: mutual predictability.

Log-odds drift with the number of texts before, so both are taken as distances from the mean at their place in the sequence.

A text's verdict is the mean of its zero-context log-odds, which carry what training on sources taught, and of even. Calibrated by
the shape of its distribution alone it is the prior π. The odd part is weighed beside it as a second rater would be: with
p_i = σ(π_i), m₁ and m₀ the means of odd weighted by p and 1 − p, and s² its variance around them,

    log-odds_i = π_i + (m₁ − m₀)/s² · (odd_i − (m₁ + m₀)/2).

Where labels in the context predict nothing, m₁ = m₀ and nothing is added to the verdict, alone and in context; nor to that of a
text that stood first in its sequence. How many labels left the verdict alone is reported.
The objective is by how many bits per text the odd evidence, read under the labels of the last round, predicts the labels better
than the share of flagged labels alone does. More texts of the same kind do not change it, though from a few dozen it comes out too
high: what the evidence is worth is measured on the labels that it helps to give. Swapping all labels swaps the sign of odd
as well, so mutual predictability cannot tell a labelling from its opposite; only the verdicts do: how well odd agrees with them is
reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from elicit.domains import UnlabelledDomain
from elicit.domains.rules import Pair, pairs_of, repair
from elicit.methods.alarms import ERRORS, degenerate, drifted, label_entropy, left_out, of_contexts, one_group
from elicit.methods.cost import Pass, Sizes
from elicit.methods.evidence import SURE, Evidence, prior_log_odds
from elicit.methods.pool import Pool, surest_of_each
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.monitors.calibration import Calibration, fit_calibration
from elicit.monitors.context import ContextMonitor
from elicit.monitors.verdict import VerdictMonitor

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Log-odds of packs of rows under labels, one array per pack.
Read = Callable[[Sequence[Sequence[int]], Bools], list[Floats]]

POOL = 1000
PACK = 12  # texts per sequence, where there are enough for
PACKS = 4  # sequences: a reading is compared with those at its place in the others
CHAINS = 2  # searches from different labels
ROUNDS = 2  # of each; a round is two passes over the data
SHOTS = 12  # of the monitor
CONTEXTS = 2  # of the monitor


def _cost(sizes: Sizes) -> Iterator[Pass]:
    pool = sizes.train.at_most(POOL)
    yield pool.verdicts()
    yield pool.packed(pack_size(pool.count), 2 * CHAINS * ROUNDS)
    for texts in sizes.scored:
        yield texts.verdicts()
        yield texts.after(pool.examples(SHOTS), 2 * CONTEXTS, "the labels of consistency")


@label_free(
    "consistency",
    "labels that the model predicts from each other in its context, each read beside its opposite, with the verdict as prior",
    _cost,
)
def consistency(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A context monitor whose examples are the surest labels of the search."""
    pool = Pool.of(monitor, target, POOL)
    zero = pool.verdicts(f"consistency {target.name}, verdicts")
    if not np.isfinite(zero.values).all():
        pool = pool.take(np.flatnonzero(np.isfinite(zero.values)).tolist())
    verdicts = zero.values[np.isfinite(zero.values)]
    rng = np.random.default_rng(seed)
    alone = pool.tokens_of_verdicts()
    tokens = [alone]
    readings: list[Floats] = []

    def read(packs: Sequence[Sequence[int]], labels: Bools) -> list[Floats]:
        tokens.extend(map(pool.tokens, packs))
        found = pool.read(packs, labels, f"consistency {target.name}")
        readings.extend(found)
        return found

    pairs = pairs_of(target.rules, pool.groups)
    found = search(
        verdicts, read, lambda: pool.packs(rng.permutation(len(pool)).tolist(), pack_size(len(pool))), pairs, rng
    )
    context = ContextMonitor(
        pool.model, pool.question, _examples(pool, found, rng), found.calibration.slope, found.evidence.gain
    )
    labelling = Labelling(pool.ids, found.labels, found.log_odds)
    details = found.details() | {
        "unsure": int(labelling.unsure.sum()),
        "passes": round(sum(tokens) / alone, 2),
        "tokens_per_label": round(sum(tokens) / len(pool)),
    }
    if np.isfinite(zero.verdict_mass).any():
        details["verdict_mass"] = round(float(np.nanmean(zero.verdict_mass)), 4)
    warnings = (
        *found.warnings(),
        *of_contexts(zero.verdict_mass, readings, context.contexts),
        *left_out(len(pool), target.texts),
    )
    return Elicited(context, details, warnings, labelling)


@dataclass(frozen=True)
class Found:
    """Where the search ended.

    Attributes:
        log_odds: (n,) of each text's label: verdict plus the evidence of the labels in its contexts.
        labels: (n,) the most probable labels that obey the rules.
        prior: (n,) log-odds of the verdict, alone and in context.
        calibration: of the verdicts, alone and in context, that gave the prior.
        evidence: by which odd readings count.
        objectives: (c,) of each chain, in bits per text by which contexts predict the labels better than their share does.
        reliability: correlation of the verdict alone with the verdict in context, two readings of one thing.
        read: number of texts that the best chain read behind labels.
        flip: correlation of what the labels before a text say about it with its verdict alone: −1 where they say the opposite.
        agreement: share of the texts to which all chains gave one label.
        drift: share of the texts whose label is not that of the verdict alone.
    """

    log_odds: Floats
    labels: Bools
    prior: Floats
    calibration: Calibration
    evidence: Evidence
    objectives: tuple[float, ...]
    reliability: float
    read: int
    flip: float
    agreement: float
    drift: float

    def details(self) -> dict[str, object]:
        """Figures about the search, none of which involves a label that somebody gave."""
        share = float(self.labels.mean())
        return {
            "texts": len(self.labels),
            "objective_bits": [round(value, 4) for value in self.objectives],
            "gain_of_context": round(self.evidence.gain, 4),
            "flagged_share": round(share, 4),
            "mean_label_entropy_bits": label_entropy(self.log_odds),
            "verdict_reliability": round(self.reliability, 4),
            "flip_asymmetry": round(self.flip, 4),
            "agreement_of_restarts": round(self.agreement, 4),
            "drift": round(self.drift, 4),
        }

    def warnings(self) -> tuple[str, ...]:
        """Alarms: what makes the labelling doubtful."""
        alarms = degenerate(self.labels)
        if self.flip < ERRORS / np.sqrt(max(self.read, 1)):
            alarms.append(
                f"what labels in the context say was not seen to agree with the verdicts (correlation {self.flip:.2f}): they "
                "predict nothing, or which label is which is a guess"
            )
        if self.reliability < 0.1:
            alarms.append(
                f"verdicts alone and in context hardly agree (correlation {self.reliability:.2f}): if they are noise, which label "
                "is which is a guess"
            )
        if self.agreement < 0.8:
            alarms.append(f"restarts agree on {self.agreement:.0%} of the labels only")
        return (*alarms, *one_group(self.calibration), *drifted(self.drift))


def search(
    verdicts: Floats,
    read: Read,
    packs: Callable[[], list[list[int]]],
    pairs: Sequence[Pair],
    rng: np.random.Generator,
) -> Found:
    """Chains of rounds; in a round, every text is read once under the chain's labels and once under their opposites.

    Args:
        verdicts: (n,) log-odds of each text on its own.
        read: the only access to the model.
        packs: splits all texts at random into the rows of new sequences.
        pairs: what the domain's rules forbid.
        rng: of the labels with which further chains start.
    """
    count = len(verdicts)
    even = Readings(count)
    prior, calibration = _prior(verdicts)
    alone = prior > 0
    chains: list[Readings] = []

    def weighed(odd: Readings) -> tuple[Evidence, Floats]:
        """By what odd readings count, and (n,) what they say: nothing of a text without one."""
        evidence = Evidence.of(odd.mean()[odd.known], np.tanh(prior / 2)[odd.known])
        # Of few texts one may seem to tell all; it counts for no more than a verdict may.
        return evidence, np.where(odd.known, np.clip(evidence.log_odds(odd.mean()), -SURE, SURE), 0.0)

    for chain in range(CHAINS):
        # The first starts from the verdicts, the others from labels that are drawn as likely as the verdicts make them.
        labels = repair(prior if chain == 0 else prior + rng.logistic(size=count), pairs)
        for _ in range(ROUNDS):
            new, odd = packs(), Readings(count)
            plus, minus = read(new, labels), read(new, ~labels)
            even.add(new, [(a + b) / 2 for a, b in zip(plus, minus, strict=True)])
            odd.add(new, [(a - b) / 2 for a, b in zip(plus, minus, strict=True)])
            in_context = np.where(even.known, even.mean(), verdicts - verdicts.mean())
            prior, calibration = _prior((verdicts + in_context) / 2)
            _, said = weighed(odd)
            labels = repair(prior + said, pairs)
        chains.append(odd)
    # All under the verdicts of all rounds: an earlier chain's would rest on fewer.
    ends = [weighed(odd) for odd in chains]
    labelled = [repair(prior + said, pairs) for _, said in ends]
    objectives = [
        _objective(labels[odd.known], said[odd.known])
        for odd, (_, said), labels in zip(chains, ends, labelled, strict=True)
    ]
    best = int(np.argmax(objectives))
    odd, (evidence, said), labels = chains[best], ends[best], labelled[best]
    log_odds = prior + said
    return Found(
        log_odds=log_odds,
        labels=labels,
        prior=prior,
        calibration=calibration,
        evidence=evidence,
        objectives=tuple(objectives),
        reliability=_correlation(verdicts[even.known], even.mean()[even.known]),
        read=int(odd.known.sum()),
        flip=_correlation(verdicts[odd.known], odd.mean()[odd.known]),
        agreement=float(np.all([other == labels for other in labelled], axis=0).mean()),
        drift=float(np.mean(labels != alone)),
    )


def pack_size(count: int) -> int:
    """Texts per sequence when there are so many in all."""
    return max(2, min(PACK, count // PACKS))


class Readings:
    """Means by text of readings in several packs, each taken as its distance from the mean at its place in the sequence."""

    def __init__(self, count: int) -> None:
        self._total, self._count = np.zeros(count), np.zeros(count)

    def add(self, packs: Sequence[Sequence[int]], values: Sequence[Floats]) -> None:
        """One reading per row, NaN where there is none, but for the first of each sequence, before which no label stands."""
        longest = max(map(len, values))
        for place in range(1, longest):
            there = [
                (pack[place], read[place])
                for pack, read in zip(packs, values, strict=True)
                if place < len(read) and np.isfinite(read[place])
            ]
            if len(there) < 2:  # nothing to compare it with
                continue
            rows = np.array([row for row, _ in there])
            read_there = np.array([value for _, value in there])
            self._total[rows] += read_there - read_there.mean()
            self._count[rows] += 1

    @property
    def known(self) -> Bools:
        """(n,) whether a text was read."""
        return np.asarray(self._count > 0)

    def mean(self) -> Floats:
        """(n,) 0, the mean of all, for a text that was not read yet."""
        return np.asarray(self._total / np.maximum(self._count, 1))


def _prior(verdicts: Floats) -> tuple[Floats, Calibration]:
    """(n,) log-odds of the labels from verdicts alone, and the calibration that gives them."""
    calibration = fit_calibration(verdicts)
    return prior_log_odds(calibration, verdicts), calibration


def _correlation(first: Floats, second: Floats) -> float:
    """Of (n,) readings with each other; 0 where either is the same for all."""
    spread = float(first.std() * second.std()) if len(first) > 1 else 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0


def _objective(labels: Bools, evidence: Floats) -> float:
    """Bits per text by which (n,) log-odds of evidence predict the labels better than the share of flagged labels does."""
    if not len(labels):
        return 0.0
    share = float(np.clip(labels.mean(), 1e-6, 1 - 1e-6))
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    signed = np.where(labels, 1.0, -1.0) * (evidence + np.log(share / (1 - share)))
    return float(entropy - np.logaddexp(0, -signed).mean() / np.log(2))


def _examples(pool: Pool, found: Found, rng: np.random.Generator) -> list[list[tuple[str, bool]]]:
    """Contexts of the texts with the surest labels, half of them flagged as far as there are enough, in a fixed random order."""
    sure = surest_of_each(found.labels, found.log_odds)
    of = {label: [row for row in sure if found.labels[row] == label] for label in (True, False)}
    contexts = []
    for number in range(CONTEXTS):
        halves = [of[label][number::CONTEXTS][: SHOTS // 2] for label in (True, False)]
        alternating = [row for pair in zip_longest(*halves) for row in pair if row is not None]
        if fitting := pool.examples(alternating):  # fewer texts than contexts leave the last ones empty
            order = rng.permutation(fitting)
            contexts.append([(pool.texts[row], bool(found.labels[row])) for row in order])
    return contexts
