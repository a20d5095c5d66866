"""Which label-free method survives imbalance, distractors, impossible, few or long texts, other words?

Every method is elicited twice from the same trained monitor, on the target's training texts as they are and on a harder version of
them, and both monitors are measured on the same test texts (in their harder version where the challenge is in the texts or in the
question). What the differences say is read in `survival`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from elicit.domains import Domain
from elicit.domains.challenges import (
    IMPOSSIBLE,
    inverted,
    lengthened,
    truncated,
    with_balance,
    with_distractor,
    with_impossible,
    with_words,
)
from elicit.errors import DomainError, RunError
from elicit.evaluation import difference, mean_over_seeds
from elicit.evaluation.bootstrap import resampled_means, undefined
from elicit.methods import Labelling, elicit_monitor
from elicit.methods.states import read_upper_layers
from elicit.monitors import KeywordMonitor, Monitor, ProbeMonitor, Scores, VerdictMonitor
from elicit.monitors.blend import BlendMonitor
from elicit.runs import OF_ONE_METHOD
from elicit.training import TrainingConfig
from experiments.experiment import Findings, Folder, compared, held_out
from experiments.survival import (
    FAILS,
    NO_BASELINE,
    NOTHING_TO_LOSE,
    PLAIN,
    REVERSED,
    UNTOUCHED,
    reading,
    sections,
    summary,
)

KEYWORDS = "keyword-source"
REFERENCES = ("transfer", KEYWORDS)
IMPOSSIBLE_SHARE = 1 / 3
PADDING = 60  # words around every text
KEPT = 8  # words of a truncated text

Pair = tuple[Domain, Domain]  # texts to elicit on, texts to measure on
Challenge = Callable[["Preset", Domain, Domain, int], Pair]


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
        source: what the monitor was trained on.
        target: where methods are elicited and measured.
        challenges: by name.
        methods: label-free ones, and references that stand beside them.
        seeds: of training, of methods and of what is drawn for a challenge.
        source_texts, epochs: of training.
        pool: training texts of the target, without labels, where a challenge does not say how many.
        test_texts: at most this many.
        model: catalogue name, folder or hub id.
    """

    source: str
    target: str
    challenges: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    source_texts: int
    epochs: float
    pool: int
    test_texts: int
    model: str = "smollm2-135m-instruct"


def _balance(flagged: float) -> Challenge:
    # Only the texts to elicit on: AUROC does not depend on the balance of those that it is measured on.
    return lambda preset, train, test, seed: (with_balance(_shuffled(train, seed), flagged, preset.pool), test)


def _of_size(size: int) -> Challenge:
    return lambda preset, train, test, seed: (_shuffled(train, seed).take(range(min(size, len(train)))), test)


def _shuffled(domain: Domain, seed: int) -> Domain:
    """Few texts, or few of a class, are others under each seed: a finding must not rest on one of them."""
    return domain.take(np.random.default_rng(seed).permutation(len(domain)).tolist())


def _both(change: Callable[[Domain, int], Domain]) -> Challenge:
    """A challenge in the texts or in the question meets both parts, under draws of their own."""
    return lambda preset, train, test, seed: (
        change(train.sample(preset.pool), 2 * seed),
        change(test, 2 * seed + 1),
    )


CHALLENGES: dict[str, Challenge] = {
    "1 % flagged": _balance(0.01),
    "10 % flagged": _balance(0.1),
    "90 % flagged": _balance(0.9),
    "99 % flagged": _balance(0.99),
    "random word": _both(with_distractor),
    # The texts with an answer are drawn at random: a method that samples by a hash would take those of the lowest hashes alone.
    "impossible texts": lambda preset, train, test, seed: (
        with_impossible(_shuffled(train, seed).take(range(min(preset.pool, len(train)))), IMPOSSIBLE_SHARE, seed),
        test,
    ),
    "16 texts": _of_size(16),
    "32 texts": _of_size(32),
    "512 texts": _of_size(512),
    "long texts": _both(lambda domain, seed: lengthened(domain, PADDING, seed)),
    "truncated texts": _both(lambda domain, _: truncated(domain, KEPT)),
    "True and False": _both(lambda domain, _: with_words(domain, "True", "False")),
    "words swapped": _both(lambda domain, _: inverted(domain)),
}

# Transfer and keywords look at no text of the pool.
IN_POOL_ALONE = (
    *("1 % flagged", "10 % flagged", "90 % flagged", "99 % flagged"),
    *("impossible texts", "16 texts", "32 texts", "512 texts"),
)

IN_QUESTION_ALONE = ("True and False", "words swapped")  # keywords read no question

PRESETS = {
    "smoke": Preset(
        source="vader/amazon",
        target="vader/tweets",
        challenges=("random word", "impossible texts"),
        methods=("transfer", "keyword-source", "crc", "state-consistency"),
        seeds=(0,),
        source_texts=16,
        epochs=1.0,
        pool=12,
        test_texts=16,
    ),
    "default": Preset(
        source="vader/amazon",
        target="vader/tweets",
        challenges=tuple(name for name in CHALLENGES if name != "512 texts"),
        methods=(
            *REFERENCES,
            "random-shots",
            "ccs",
            "crc",
            "vinc",
            "kmeans",
            "pca",
            "state-consistency",
            "consistency",
        ),
        seeds=(0, 1, 2),
        source_texts=480,
        epochs=2.0,
        pool=64,
        test_texts=120,
    ),
    "full": Preset(
        source="vader/amazon",
        target="vader/tweets",
        challenges=tuple(CHALLENGES),
        methods=(
            *(*REFERENCES, "random-shots", "bootstrap", "ccs", "crc", "vinc", "kmeans", "pca"),
            *("state-consistency", "consistency", "self-training"),
        ),
        seeds=(0, 1, 2, 3, 4),
        source_texts=2000,
        epochs=2.0,
        pool=256,
        test_texts=500,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """One method under one challenge and seed.

    Attributes:
        scores: of the test texts, or None where the method failed.
        unsure: 1 for a text on which it abstains, else 0, by "possible" and "impossible"; None where it gives no labels.
        failure: why there are no scores.
    """

    scores: Scores | None
    unsure: Mapping[str, Sequence[int]] | None = None
    failure: str = ""


def run_challenges(preset: Preset, folder: Folder) -> Findings:
    """Every method under every challenge, against itself without one."""
    target = folder.domain(preset.target)
    work = _Work(preset, folder, folder.source(preset.source, [target], preset.source_texts), target)
    outcomes = {
        (challenge, method): [work.outcome(challenge, method, seed) for seed in preset.seeds]
        for challenge in (PLAIN, *preset.challenges)
        for method in preset.methods
    }
    rows = [work.row(challenge, method, outcomes) for challenge, method in outcomes]
    abstained = abstentions(outcomes)
    failed = [
        f"{challenge}, {method}: {outcome.failure}"
        for (challenge, method), held in outcomes.items()
        for outcome in held
        if outcome.scores is None
    ]
    found = sections(rows, abstained)
    return Findings([*rows, *abstained], summary(rows, abstained), found, MEASURED, list(dict.fromkeys(failed)))


class _Work:
    def __init__(self, preset: Preset, folder: Folder, source: Domain, target: Domain) -> None:
        self.preset, self.folder, self.source = preset, folder, source
        self.train, self.test = target.train, held_out(target, preset.test_texts)

    def start(self, seed: int) -> VerdictMonitor:
        config = TrainingConfig(texts=self.preset.source_texts, epochs=self.preset.epochs)
        return self.folder.trained(
            f"trained-{seed}",
            self.folder.untrained(self.preset.model),
            [self.source],
            config,
            seed,
            self.folder.judges(self.preset.source),
        )

    def pair(self, challenge: str, seed: int) -> Pair:
        if challenge == PLAIN:
            return self.train.sample(self.preset.pool), self.test
        return CHALLENGES[challenge](self.preset, self.train, self.test, seed)

    def outcome(self, challenge: str, method: str, seed: int) -> Outcome:
        """What a method does, from disk where an earlier call left it."""
        work = partial(self._outcome, challenge, method, seed)
        held = self.folder.part(work, challenge=challenge, method=method, seed=seed)
        if held["failure"]:
            return Outcome(None, failure=held["failure"])
        if tuple(held["ids"]) != self.test.ids:
            raise RunError(
                f"{self.folder.out}: {method} under {challenge!r} has scores of other texts than {self.test.name} now has; "
                "choose another --out"
            )
        values = np.array([np.nan if value is None else value for value in held["values"]], dtype=np.float64)
        return Outcome(Scores(self.test.ids, values, tuple(held["reasons"])), held["unsure"])

    def _outcome(self, challenge: str, method: str, seed: int) -> dict[str, Any]:
        pool, test = self.pair(challenge, seed)
        if method != KEYWORDS:
            self.start(seed)  # a training that fails is no finding about the method
        try:
            monitor, labelling = self._elicit(challenge, method, pool, seed)
            if isinstance(monitor, ProbeMonitor | BlendMonitor):
                read_upper_layers(monitor.model, test.unlabelled())
            scores = monitor.score(test.unlabelled())
        except OF_ONE_METHOD as error:
            # One method that cannot cope with a challenge is a finding, and no reason to end the others. A model that is not
            # there, a full disk or a lost process says nothing about the method.
            return {"failure": str(error)}
        return {
            "failure": "",
            "ids": list(scores.ids),
            "values": [float(value) if np.isfinite(value) else None for value in scores.values],
            "reasons": list(scores.reasons),
            "unsure": None if labelling is None else abstention(labelling),
        }

    def _elicit(self, challenge: str, method: str, pool: Domain, seed: int) -> tuple[Monitor, Labelling | None]:
        if method == KEYWORDS:
            return KeywordMonitor.fit_domains([self.source]), None
        if method == "transfer":
            return self.start(seed), None
        found = elicit_monitor(self.start(seed), pool.unlabelled(), method, seed)
        return self.folder.elicited(f"{challenge}/{method}-{seed}", found), found.labelling

    def row(self, challenge: str, method: str, outcomes: Mapping[tuple[str, str], Sequence[Outcome]]) -> dict[str, Any]:
        """Figures of one method under one challenge: means over seeds, beside its own without the challenge."""
        after, before = outcomes[challenge, method], outcomes[PLAIN, method]
        keywords = (
            outcomes.get((challenge, KEYWORDS), [None] * len(after)) if method != KEYWORDS else [None] * len(after)
        )
        row: dict[str, Any] = {
            "kind": "survival",
            "challenge": challenge,
            "method": method,
            "reference": method in REFERENCES,
            "seeds": len(after),
        }
        for held, verdict in ((before, NO_BASELINE), (after, FAILS)):
            failures = [each.failure for each in held if each.scores is None]
            if failures:
                reason = undefined(failures[0])
                return row | {
                    "auroc": reason,
                    "difference": reason,
                    "verdict": verdict if challenge != PLAIN else PLAIN,
                }
        pairs, counts = [], []
        for mine, plain, keyword in zip(after, before, keywords, strict=True):
            assert mine.scores is not None
            assert plain.scores is not None
            named = {"after": mine.scores, "before": plain.scores}
            if keyword is not None and keyword.scores is not None:
                named["keyword"] = keyword.scores
            try:
                figures, n = compared(self.test, named)
            except DomainError as error:
                reason = undefined(str(error))
                return row | {
                    "auroc": reason,
                    "difference": reason,
                    "verdict": FAILS if challenge != PLAIN else PLAIN,
                }
            pairs.append(figures)
            counts.append(n)
        found, plain = (mean_over_seeds([pair[key] for pair in pairs]) for key in ("after", "before"))
        row["n"] = min(counts)
        row["coverage"] = statistics.mean(each.scores.coverage for each in after if each.scores is not None)
        row["auroc"] = found.to_json()
        row["versus_keyword"] = (
            difference(found, mean_over_seeds([pair["keyword"] for pair in pairs]))
            if all("keyword" in pair for pair in pairs)
            else undefined("there are no keywords to compare with")
        )
        if challenge == PLAIN:
            return row | {"difference": undefined("it is what others are compared with"), "verdict": PLAIN}
        row["difference"] = difference(found, plain)
        if (method in REFERENCES and challenge in IN_POOL_ALONE) or (
            method == KEYWORDS and challenge in IN_QUESTION_ALONE
        ):
            return row | {"verdict": UNTOUCHED}
        low, high = self.interval(before)
        if low <= 0.5:
            return row | {"verdict": REVERSED if high < 0.5 else NOTHING_TO_LOSE}
        return row | {"verdict": reading(row["difference"])}

    def interval(self, plain: Sequence[Outcome]) -> tuple[float, float]:
        """In which the AUROC of a method lies without any challenge, on all texts that it scores there."""
        figures = [compared(self.test, {"plain": each.scores})[0]["plain"] for each in plain if each.scores is not None]
        return mean_over_seeds(figures).interval()


def abstention(labelling: Labelling) -> dict[str, list[int]]:
    """On which texts a labelling abstains, among those that have an answer and those that have none."""
    mixed = np.array([name.startswith(IMPOSSIBLE) for name in labelling.ids])
    return {
        name: labelling.unsure[among].astype(int).tolist()
        for name, among in (("possible", ~mixed), (IMPOSSIBLE, mixed))
        if among.any()
    }


def abstentions(outcomes: Mapping[tuple[str, str], Sequence[Outcome]]) -> list[dict[str, Any]]:
    """One row per method that gives labels: on how many impossible texts it abstains, and on how many possible ones."""
    rows = []
    for (challenge, method), held in outcomes.items():
        shares = [each.unsure for each in held if each.unsure and IMPOSSIBLE in each.unsure]
        if shares:
            row = {"kind": "abstention", "challenge": challenge, "method": method, "seeds": len(shares)}
            # Of the impossible texts; those that could not be read have no label to abstain from.
            row |= {"n": min(len(part[IMPOSSIBLE]) for part in shares), "coverage": 1.0}
            for name in (IMPOSSIBLE, "possible"):
                texts = min(len(part[name]) for part in shares)  # as many for every seed, unless some could not be read
                parts = [resampled_means(np.array(part[name][:texts], np.float64)) for part in shares]
                row[name] = mean_over_seeds(parts).to_json()
            rows.append(row)
    return rows


MEASURED = (
    "All methods start from one trained monitor per seed. Labels of the target choose texts for the challenges of class "
    "balance, and nothing else; methods receive texts without labels.",
    "A challenge in the texts or in the question meets the test texts too; class balance, number of texts and impossible texts "
    "only the texts that methods are elicited on. Test texts and draws are the same, so that differences are paired.",
    "Transfer and keywords look at no text of the target: of challenges in those texts alone they notice nothing.",
    "Random word: one of two words behind every text, whatever its label. Impossible texts: the words of the domain thrown "
    f"together, {IMPOSSIBLE_SHARE:.0%} of all texts. Long texts: {PADDING} words of plain statements around every text. Truncated "
    f"texts: {KEPT} words, the first and the last. Words swapped: the opposite question, so that No is the flagged word.",
    "What is measured is how texts are ranked (AUROC). Where unequal classes would put a threshold is another question.",
    "Which texts are few, and which are of the rare class, is drawn again under every seed. A class has one text at least: of few "
    "texts, 1 % is one.",
    "Where a challenge changes the texts, few-shot methods draw other ones of them as examples: that is a part of the difference.",
    "A method that falls is shown to be worse, not to be worse by more than that; among so many comparisons some fall by chance.",
    "A method that fails under a challenge does not survive it, and the reason stands in the table. A method abstains on a "
    "text when it would label it at odds below three to one.",
)
