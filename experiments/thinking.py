"""Does reasoning in the model's own words make its verdicts better, before and after training on verdicts alone?

Every monitor is asked under one instruction that wants a few sentences and then a verdict line, with reasoning of at most so many
tokens; 0 tokens asks for the verdict line at once, so that what reasoning adds is told apart from what the instruction changes. The
verdict is read in two ways: *written* by the model itself, where it wrote one, and *forced* as log-odds right after the reasoning.
Students are fine-tuned, without labels, on what the trained monitor says of the target's texts after reasoning, and on what
`state-consistency` says of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from elicit.domains import Domain
from elicit.evaluation import difference, mean_over_seeds
from elicit.evaluation.bootstrap import undefined
from elicit.methods.self_training import Teacher, self_training
from elicit.methods.state_consistency import state_consistency
from elicit.methods.thinking import thinking
from elicit.monitors import KeywordMonitor, Monitor, Scores, ThinkingMonitor, VerdictMonitor
from elicit.reports.cells import share, signed
from elicit.reports.charts import Curve, Interval, curves, intervals
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.runs import OF_ONE_METHOD
from elicit.training import TrainingConfig
from experiments.experiment import FEW, Findings, Folder, compared, held_out

STARTS = ("untrained", "trained")
FEWEST = 5  # scored texts of a class, below which an AUROC and its interval are chance
DIRECT, FORCED, WRITTEN, STUDENT, KEYWORDS = "direct", "forced", "written", "student", "keywords"


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
        source: what the trained monitor was trained on.
        targets: each is measured on its own.
        budgets: tokens of reasoning.
        seeds: of training.
        source_texts, epochs: of training.
        student_texts: training texts of the target, without labels, that students learn from.
        student_budget: tokens of their teacher's reasoning.
        test_texts: at most this many of each target.
        teachers: of students, by name.
        model: catalogue name, folder or hub id.
    """

    source: str
    targets: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    source_texts: int
    epochs: float
    student_texts: int
    student_budget: int
    test_texts: int
    teachers: tuple[str, ...] = ("thinking", "state-consistency")
    model: str = "smollm2-135m-instruct"


PRESETS = {
    "smoke": Preset("vader/amazon", ("vader/tweets",), (0, 4), (0,), 16, 1.0, 8, 4, 16, ("thinking",)),
    "default": Preset(
        source="vader/amazon",
        targets=("vader/tweets", "vader/nyt"),
        budgets=(0, 16, 64),
        seeds=(0, 1, 2),
        source_texts=480,
        epochs=2.0,
        student_texts=48,
        student_budget=16,
        test_texts=100,
    ),
    "full": Preset(
        source="vader/amazon",
        targets=("vader/tweets", "vader/nyt", "pyrit/refusal", "agent/web-policy"),
        budgets=(0, 16, 64, 256),
        seeds=(0, 1, 2, 3, 4),
        source_texts=2000,
        epochs=2.0,
        student_texts=400,
        student_budget=64,
        test_texts=500,
    ),
}


@dataclass(frozen=True)
class Way:
    """One way to a verdict: which monitor, how it is read, and how much it reasons first."""

    start: str
    reading: str
    budget: int = 0
    teacher: str = ""

    @property
    def name(self) -> str:
        parts = (self.start, self.reading, str(self.budget) if self.reading in (FORCED, WRITTEN) else self.teacher)
        return "-".join(part for part in parts if part)


BY_KEYWORDS = Way(STARTS[0], KEYWORDS)


def run_thinking(preset: Preset, folder: Folder) -> Findings:
    """Every budget and reading, untrained and trained, and students of the trained monitor."""
    targets = {name: folder.domain(name) for name in preset.targets}
    source = folder.source(preset.source, list(targets.values()), preset.source_texts)
    rows, warnings = [], list[str]()
    for name, target in targets.items():
        found, alarms = target_rows(folder, preset, source, name, target)
        rows += found
        warnings += alarms
    return Findings(rows, summary(rows), sections(rows, preset), MEASURED, warnings)


def ways(preset: Preset) -> list[Way]:
    """All that is compared."""
    found = [Way(start, DIRECT) for start in STARTS]
    for start in STARTS:
        found += [Way(start, FORCED, budget) for budget in preset.budgets]
        found += [Way(start, WRITTEN, budget) for budget in preset.budgets if budget]
    return found + [Way("trained", STUDENT, teacher=name) for name in preset.teachers]


def target_rows(
    folder: Folder, preset: Preset, source: Domain, name: str, target: Domain
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per way: means over seeds, each on the texts that it and the direct verdict of the same start have scored."""
    test, warnings = held_out(target, preset.test_texts), []
    texts = target.train.sample(preset.student_texts)
    kept: dict[Way, dict[int, Scores]] = {}
    for way in ways(preset):
        kept[way] = {}
        # The untrained model at temperature 0 is the same whatever the seed.
        for seed in preset.seeds if way.start == "trained" else preset.seeds[:1]:
            key = f"{way.name}-{seed}"
            try:
                kept[way][seed] = folder.scores(
                    test,
                    key,
                    lambda: monitor(folder, preset, way, seed, source, texts),  # noqa: B023
                )
            except OF_ONE_METHOD as error:
                warnings.append(f"{name}: {key}: {error}")
    keyword = folder.scores(
        test, f"keywords-{preset.source.replace('/', '-')}", lambda: KeywordMonitor.fit_domains([source])
    )
    beside = kept | {BY_KEYWORDS: {preset.seeds[0]: keyword}}
    rows = [row(name, way, beside, test) for way, scores in kept.items() if scores]
    figures, n = compared(test, {KEYWORDS: keyword})
    about = {"target": name, "start": "", "reading": KEYWORDS, "budget": 0, "teacher": "", "seeds": 1, "n": n}
    rows.append(about | {"coverage": keyword.coverage, "unscored": {}, "auroc": figures[KEYWORDS].to_json()})
    return rows, warnings


def monitor(folder: Folder, preset: Preset, way: Way, seed: int, source: Domain, texts: Domain) -> Monitor:
    """The monitor that goes this way."""
    start = folder.untrained(preset.model)
    if way.start == "trained":
        config = TrainingConfig(texts=preset.source_texts, epochs=preset.epochs)
        start = folder.trained(f"trained-{seed}", start, [source], config, seed, folder.judges(preset.source))
    if way.reading == DIRECT:
        return VerdictMonitor(start.model, texts.question)
    if way.reading == STUDENT:
        teachers: dict[str, Teacher] = {
            "thinking": partial(thinking, max_tokens=preset.student_budget),
            "state-consistency": state_consistency,
        }
        found = self_training(start, texts.unlabelled(), seed, teacher=teachers[way.teacher])
        return folder.elicited(f"{texts.name}/{way.name}-{seed}", found)
    reading = "forced" if way.reading == FORCED else "written"
    return ThinkingMonitor(start.model, texts.question, way.budget, reading)


def row(target: str, way: Way, kept: Mapping[Way, Mapping[int, Scores]], test: Domain) -> dict[str, Any]:
    """Figures of one way, beside the direct verdict of the same monitors on the same texts.

    Args:
        target: its name.
        way: to a verdict.
        kept: scores of every way by seed; a seed under which a way failed is not there.
        test: labelled texts.
    """
    scores, direct = list(kept[way].values()), kept.get(Way(way.start, DIRECT), {})
    both = [
        {"way": mine, "direct": as_words(direct[seed]) if way.reading == WRITTEN else direct[seed]}
        for seed, mine in kept[way].items()
        if seed in direct
    ]
    reasons: dict[str, int] = {}
    for part in scores:
        for reason, count in part.unscored().items():
            reasons[reason] = reasons.get(reason, 0) + count
    found: dict[str, Any] = {
        "target": target,
        "start": way.start,
        "reading": way.reading,
        "budget": way.budget,
        "teacher": way.teacher,
        "seeds": len(both),
        "coverage": statistics.mean(part.coverage for part in scores),
        "unscored": reasons,
    }
    few = _too_few(both, test)
    if few:
        reason = undefined(few)
        return found | {"n": min(int(part.scored.sum()) for part in scores), "auroc": reason, "versus_direct": reason}
    pairs = [compared(test, pair) for pair in both]
    mine, plain = (mean_over_seeds([figures[key] for figures, _ in pairs]) for key in ("way", "direct"))
    at_once, untrained = Way(way.start, way.reading), Way(STARTS[0], way.reading, way.budget)
    if way.reading == FORCED and way.budget:
        found["versus_at_once"] = versus(way, at_once, kept, test)
    if BY_KEYWORDS in kept:
        keyword = kept[BY_KEYWORDS]
        if way.reading == WRITTEN:
            keyword = {seed: as_words(held) for seed, held in keyword.items()}
        found["versus_keyword"] = versus(way, BY_KEYWORDS, {**kept, BY_KEYWORDS: keyword}, test)
    if way.start != STARTS[0] and untrained in kept:
        found["versus_untrained"] = versus(way, untrained, kept, test)
    fewest = min(n for _, n in pairs)
    direct = undefined("it is what others are compared with") if way.reading == DIRECT else difference(mine, plain)
    if way.reading != DIRECT and fewest < FEW:
        direct["warning"] = f"it rests on {fewest} texts that both have scored"
    return found | {"n": fewest, "auroc": mine.to_json(), "versus_direct": direct}


def versus(way: Way, other: Way, kept: Mapping[Way, Mapping[int, Scores]], test: Domain) -> dict[str, Any]:
    """Paired difference in AUROC from another way, on the texts that both have scored; the untrained model has one seed."""
    others = kept.get(other, {})
    pairs = [
        {"way": mine, "other": others[seed] if seed in others else next(iter(others.values()))}
        for seed, mine in kept[way].items()
        if seed in others or (others and other.start == STARTS[0])
    ]
    if few := _too_few(pairs, test):
        return undefined(few)
    figures, counts = zip(*(compared(test, pair) for pair in pairs), strict=True)
    found = difference(*(mean_over_seeds([each[key] for each in figures]) for key in ("way", "other")))
    if min(counts) < FEW:
        found["warning"] = f"it rests on {min(counts)} texts that both have scored"
    return found | {"n": min(counts)}


def as_words(scores: Scores) -> Scores:
    """Log-odds as the words that they make likelier, 1 and −1: AUROC would favour a ranking over words that say the same."""
    return Scores(scores.ids, np.sign(scores.values), scores.reasons)


def _too_few(both: Sequence[Mapping[str, Scores]], test: Domain) -> str:
    """Why what was scored is too little to compare, or nothing."""
    if not both:
        return "there is nothing to compare with under the same seed"
    labels = test.label_array()
    for pair in both:
        scored = np.all([part.scored for part in pair.values()], axis=0)
        flagged, cleared = (int((labels[scored] == label).sum()) for label in (1, 0))
        if min(flagged, cleared) < FEWEST:
            return f"{flagged} flagged and {cleared} cleared texts have a verdict; fewer than {FEWEST} say nothing"
    return ""


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What reasoning does to verdicts, how often one is written at all, and what students take over."""
    sentences = []
    for start in STARTS:
        for reading in (FORCED, WRITTEN):
            own = [row for row in rows if row["start"] == start and row["reading"] == reading and row["budget"]]
            if not own:
                continue
            sentences.append(
                f"The {start} model’s {reading} verdict after reasoning against its direct one: {_readings(own, 'versus_direct')}."
            )
            if reading == FORCED:
                sentences.append(
                    f"The same against no reasoning under the same instruction: {_readings(own, 'versus_at_once')}."
                )
            if reading == WRITTEN:
                covered = [row["coverage"] for row in own]
                range_ = " to ".join(dict.fromkeys(f"{value:.0%}" for value in (min(covered), max(covered))))
                sentences.append(f"The {start} model wrote a verdict that can be told for {range_} of the texts.")
    learnt = [
        row for row in rows if row["start"] == STARTS[1] and row["reading"] in (FORCED, WRITTEN) and row["budget"]
    ]
    if learnt:
        sentences.append(
            f"The trained model’s verdict after reasoning against the untrained one’s: {_readings(learnt, 'versus_untrained')}."
        )
    for teacher in dict.fromkeys(row["teacher"] for row in rows if row["reading"] == STUDENT):
        own = [row for row in rows if row["teacher"] == teacher]
        sentences.append(
            f"Students of {teacher} against the trained monitor’s direct verdict: {_readings(own, 'versus_direct')}."
        )
    return sentences


def _readings(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Counts of better, worse and neither, in words."""
    held = [row.get(key, {}).get("reading", "undefined") for row in rows]
    counts = {reading: held.count(reading) for reading in ("better", "worse", "no clear difference", "undefined")}
    said = [f"{reading} in {count}" for reading, count in counts.items() if count]
    few = [row[key]["n"] if "n" in row[key] else row["n"] for row in rows if "warning" in row.get(key, {})]
    on_few = f" ({len(few)} of them on as few as {min(few)} texts)" if few else ""
    return f"{', '.join(said) or 'nothing measured'} of {len(held)}{on_few}"


def sections(rows: Sequence[Mapping[str, Any]], preset: Preset) -> list[Section]:
    """Curves over budgets, students, and the table of all."""
    panels = {}
    for target in preset.targets:
        panels[target] = [
            Curve(
                f"{start}, {reading}",
                *([found[key] for found in own] for key in ("budget", "value", "low", "high")),
            )
            for start in STARTS
            for reading in (FORCED, WRITTEN)
            if (own := _points(rows, target, start, reading))
        ]
    drawn = Drawing(
        "thinking",
        "curves",
        "AUROC against tokens of reasoning, by target, for the untrained and the trained model, verdicts forced and written; the "
        "figures are in the table.",
        curves(
            panels, "tokens of reasoning", "AUROC", ticks=preset.budgets, logarithmic=True, reference=(0.5, "chance")
        ),
        caption="0 tokens: the same instruction, and the verdict at once. Written verdicts: of the texts that have one.",
    )
    students = {
        target: [
            Interval.of(_name(row), row["auroc"], row["reading"])
            for row in rows
            if row["target"] == target and row["reading"] in (DIRECT, STUDENT, KEYWORDS)
        ]
        for target in preset.targets
    }
    taught = Drawing(
        "students",
        "intervals",
        "AUROC of direct verdicts, of students, and of keywords, by target; the figures are in the table.",
        intervals(students, "AUROC", references={"chance": 0.5}),
    )
    table = Table(
        "Means over seeds, 95 % intervals over texts and seeds",
        (
            *("Verdict", "Target", "Tokens", "AUROC", "Against direct", "Against 0 tokens", "Against untrained"),
            *("Above keywords", "Texts", "Coverage", "Unscored because"),
        ),
        [
            (
                _name(row),
                row["target"],
                row["budget"] if row["reading"] in (FORCED, WRITTEN) else None,
                row["auroc"],
                *(
                    signed(row[key]) if key in row else None
                    for key in ("versus_direct", "versus_at_once", "versus_untrained", "versus_keyword")
                ),
                row["n"],
                share(row["coverage"]),
                "; ".join(f"{reason} ({count})" for reason, count in row["unscored"].items()) or None,
            )
            for row in rows
        ],
    )
    return [
        Section("Reasoning before the verdict", drawings=[drawn]),
        Section("Students, and direct verdicts", drawings=[taught]),
        Section("All figures", tables=[table]),
    ]


def _points(rows: Sequence[Mapping[str, Any]], target: str, start: str, reading: str) -> list[dict[str, float]]:
    return [
        {"budget": row["budget"], **{key: row["auroc"][key] for key in ("value", "low", "high")}}
        for row in rows
        if (row["target"], row["start"], row["reading"]) == (target, start, reading)
        and row["auroc"]["value"] is not None
    ]


def _name(row: Mapping[str, Any]) -> str:
    if row["reading"] == KEYWORDS:
        return "keywords, source labels"
    if row["reading"] == STUDENT:
        return f"student of {row['teacher']}"
    return f"{row['start']}, {row['reading']}"


MEASURED = (
    "Every figure is on test texts of the target; a way to a verdict is compared with the direct verdict of the same monitors on "
    "the texts that both have scored.",
    "A written verdict is the word behind a verdict line, or the only verdict word in the answer; anything else is unscored, "
    "with its reason. It is worth 1 or −1, so that its AUROC is its balanced accuracy, and it is compared with the likelier "
    "word of the direct verdict, worth as much.",
    "A forced verdict is read after the reasoning up to its first verdict line; the model’s own line is left out.",
    "Reasoning takes the likeliest token at each step. Texts and reasoning are plain text: neither can close the chat turn.",
    "Students never see a label: they learn the verdicts of which their teacher is sure.",
)
