"""How many labels of a target are labels of an adjacent domain worth?

A monitor is trained on m adjacent labels and then on k labels of the target, for all m and k of a grid. Which labels these are is
drawn anew under every seed; within one, the smaller sets are parts of the larger ones. What m adjacent labels are worth is read off
the curve of target labels alone: the k at which it reaches what the adjacent labels reach by themselves.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

from elicit.domains import Domain, drop_overlap
from elicit.errors import DomainError
from elicit.evaluation import Resampled, difference, mean_over_seeds
from elicit.evaluation.bootstrap import CONFIDENCE, in_words, rounded, undefined
from elicit.monitors import KeywordMonitor, Scores, VerdictMonitor
from elicit.reports.cells import Cell, share, signed
from elicit.reports.charts import Curve, curves
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.training import TrainingConfig
from experiments.experiment import Findings, Folder, compared, held_out

KEYWORDS = "keywords"


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
        source: the adjacent domain.
        targets: each is learnt and measured on its own.
        adjacent: numbers of adjacent labels, from 0.
        labels: numbers of target labels, from 0.
        seeds: of training.
        test_texts: at most this many of each target.
        fewest_examples: few labels are passed over as often as it takes to learn from so many examples, at least once.
        batch_size: small, since there may be few labels.
        model: catalogue name, folder or hub id.
    """

    source: str
    targets: tuple[str, ...]
    adjacent: tuple[int, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    test_texts: int
    fewest_examples: int
    batch_size: int = 8
    model: str = "smollm2-135m-instruct"


PRESETS = {
    "smoke": Preset("vader/amazon", ("vader/nyt",), (0, 16), (0, 8), (0,), 16, fewest_examples=8),
    "default": Preset(
        "vader/amazon",
        ("vader/tweets",),
        (0, 64, 800),
        (0, 16, 64, 256),
        (0, 1, 2),
        160,
        fewest_examples=400,
    ),
    "full": Preset(
        "vader/movie",  # of reviews there are fewer than the most that are asked for
        ("vader/tweets", "vader/nyt", "facts/elements", "sarcasm/headlines"),
        (0, 64, 250, 500, 1000, 2000),
        (0, 16, 64, 256),
        (0, 1, 2, 3, 4),
        1000,
        fewest_examples=2000,
    ),
}


def run_scaling(preset: Preset, folder: Folder) -> Findings:
    """The grid of adjacent and target labels on every target."""
    targets = [folder.domain(name) for name in preset.targets]
    tests = [held_out(target, preset.test_texts) for target in targets]
    source = folder.domain(preset.source)
    part = drop_overlap(source.train, targets).require_labels()
    warnings = []
    if dropped := len(source.train.require_labels()) - len(part):
        warnings.append(f"{source.name}: texts not trained on, since a target holds them too: {dropped}")
    enough(part, preset.adjacent)
    rows: list[dict[str, Any]] = []
    for target, test in zip(targets, tests, strict=True):
        labelled = target.train.require_labels()
        enough(labelled, preset.labels)
        rows += target_rows(folder, preset, part, labelled, test)
    return Findings(rows, summary(rows), sections(rows, preset), MEASURED, warnings)


def enough(part: Domain, sizes: Sequence[int]) -> None:
    """Refuse sizes that a domain has not got, before anything is trained.

    Raises:
        DomainError: there are fewer labels.
    """
    if max(sizes) > len(part):
        raise DomainError(
            f"{part.name}: {len(part)} labelled texts to train on, but {max(sizes)} are asked for; ask for fewer"
        )


def target_rows(folder: Folder, preset: Preset, source: Domain, labelled: Domain, test: Domain) -> list[dict[str, Any]]:
    """One row per cell of the grid, then what each number of adjacent labels is worth."""
    scores: dict[str, Scores] = {}
    for m in preset.adjacent:
        for k in preset.labels:
            for seed in preset.seeds:
                parts = [drawn(part, size, seed) for part, size in ((source, m), (labelled, k)) if size]
                name = f"adjacent-{m}-target-{k}-{seed}" if parts else "untrained"
                scores[f"{m} {k} {seed}"] = folder.scores(
                    test,
                    name,
                    lambda: trained(folder, preset, parts, name, seed),  # noqa: B023
                )
                if parts:
                    scores[f"{KEYWORDS} {m} {k} {seed}"] = folder.scores(
                        test,
                        f"{KEYWORDS}-{name}",
                        lambda: KeywordMonitor.fit_domains(parts),  # noqa: B023
                    )
    figures, n = compared(test, scores)
    means = {
        (m, k): mean_over_seeds([figures[f"{m} {k} {seed}"] for seed in preset.seeds])
        for m in preset.adjacent
        for k in preset.labels
    }
    rows: list[dict[str, Any]] = []
    for (m, k), found in means.items():
        row = {
            "kind": "cell",
            "target": test.name,
            "adjacent_labels": m,
            "target_labels": k,
            "steps": sum(config(preset, size).steps(size) for size in (m, k) if size),
            "seeds": len(preset.seeds),
        }
        row |= {"n": n, "coverage": statistics.mean(scores[f"{m} {k} {seed}"].coverage for seed in preset.seeds)}
        row["auroc"] = found.to_json()
        row["versus_no_adjacent"] = difference(found, means[0, k]) if m else undefined("it has no adjacent labels")
        if m or k:
            keyword = mean_over_seeds([figures[f"{KEYWORDS} {m} {k} {seed}"] for seed in preset.seeds])
            row |= {"keyword_auroc": keyword.to_json(), "versus_keyword": difference(found, keyword)}
        rows.append(row)
    alone = [means[0, k] for k in preset.labels]
    rises = difference(alone[-1], alone[0])["reading"] == "better"
    flat = f"{preset.labels[-1]} target labels are not clearly better than none, so that there is no curve to read from"
    for m in preset.adjacent[1:]:
        value = worth(means[m, 0], alone, preset.labels) if rises else undefined(flat) | {"at_least": 0}
        rows.append({"kind": "worth", "target": test.name, "adjacent_labels": m, "target_labels_worth": value})
        if value["value"] is not None:
            rows[-1]["target_labels_per_adjacent_label"] = rounded(value["value"] / m)
    return rows


def drawn(part: Domain, size: int, seed: int) -> Domain:
    """So many labelled texts, half of them flagged as far as there are enough: those that come first in a seed's order."""
    order = np.random.default_rng(seed).permutation(len(part)).tolist()
    of = {label: [row for row in order if part.labels[row] == label] for label in (1, 0)}
    few, many = sorted(of.values(), key=len)
    few = few[: size // 2]
    return part.take(sorted([*few, *many[: size - len(few)]]))


def trained(folder: Folder, preset: Preset, parts: Sequence[Domain], name: str, seed: int) -> VerdictMonitor:
    """The model trained on one set of labels after the other: adjacent ones, then those of the target."""
    monitor = folder.untrained(preset.model)
    for part in parts:
        adjacent = part.name == preset.source
        # What was learnt from adjacent labels alone serves all targets, and all numbers of their labels.
        of = f"adjacent-{len(part)}-{seed}" if adjacent else f"{part.name.replace('/', '-')}-{name}"
        judges = folder.judges(preset.source) if adjacent else []
        monitor = folder.trained(of, monitor, [part], config(preset, len(part)), seed, judges)
    return monitor


def config(preset: Preset, labels: int) -> TrainingConfig:
    """The same for adjacent labels and for those of the target: what they are worth must not depend on how they were learnt."""
    epochs = max(1.0, preset.fewest_examples / labels)
    return TrainingConfig(texts=labels, epochs=epochs, batch_size=preset.batch_size)


def worth(adjacent: Resampled, alone: Sequence[Resampled], labels: Sequence[int]) -> dict[str, Any]:
    """How many target labels alone reach what adjacent labels reach alone, with an interval over texts and seeds.

    The curve of target labels is made to rise (isotonic regression) and joined between the measured numbers on a scale of
    log (1 + k). Nothing is read beyond its ends: where the adjacent labels do better than the most target labels, the value is
    undefined, and an end of the interval that lies there is None.

    Args:
        adjacent: AUROC of adjacent labels alone.
        alone: AUROC of target labels alone, by number of labels.
        labels: those numbers, from 0.
    """
    value = crossing(adjacent.value, [figure.value for figure in alone], labels)
    replicates = np.stack([figure.replicates for figure in alone], axis=1)
    drawn = np.array([crossing(*pair, labels) for pair in zip(adjacent.replicates, replicates, strict=True)])
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (float(end) for end in np.quantile(drawn, tails, method="nearest"))
    low, high = min(low, value), max(high, value)
    if not np.isfinite(value):
        beyond = f"more than {labels[-1]}: the curve of target labels does not reach that of the adjacent ones"
        return undefined(beyond) | ({"at_least": rounded(low)} if np.isfinite(low) else {"at_least": labels[-1]})
    entry: dict[str, Any] = {"value": rounded(value), "low": rounded(low)}
    return entry | {"high": rounded(high) if np.isfinite(high) else None}


def crossing(level: float, curve: Sequence[float], labels: Sequence[int]) -> float:
    """The smallest number of labels at which a curve, made to rise, reaches a level; infinite where it does not."""
    rising = isotonic_regression(np.asarray(curve, dtype=np.float64))
    if level <= rising[0]:
        return float(labels[0])
    if level > rising[-1]:
        return float("inf")
    at = int(np.argmax(rising >= level))
    share_of_step = (level - rising[at - 1]) / (rising[at] - rising[at - 1])
    left, right = np.log1p(labels[at - 1]), np.log1p(labels[at])
    return float(np.expm1(left + share_of_step * (right - left)))


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What adjacent labels are worth, and whether the most of them help beside target labels."""
    sentences = []
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        worths = [row for row in own if row["kind"] == "worth"]
        sentences += [f"{target}: {in_target_labels(row)}" for row in worths]
        sentences += [
            f"{target}: {row['adjacent_labels']} adjacent labels alone are worse than none, "
            f"{in_words(row['versus_no_adjacent'], sign='+')} of AUROC."
            for row in own
            if row["kind"] == "cell"
            and not row["target_labels"]
            and row["versus_no_adjacent"].get("reading") == "worse"
        ]
        most = worths[-1]["adjacent_labels"]
        beside = [
            row for row in own if row["kind"] == "cell" and row["adjacent_labels"] == most and row["target_labels"]
        ]
        read = [f"{row['target_labels']} ({row['versus_no_adjacent']['reading']})" for row in beside]
        if beside:
            sentences.append(
                f"{target}: with {most} adjacent labels against none, beside target labels: {', '.join(read)}."
            )
    return sentences


def in_target_labels(row: Mapping[str, Any]) -> str:
    """What so many adjacent labels are worth, in words."""
    found, m = row["target_labels_worth"], row["adjacent_labels"]
    if found["value"] is None:
        least = f" (at least {found['at_least']:.0f})" if found["at_least"] else ""
        return f"what {m} adjacent labels are worth cannot be told from the numbers of target labels that were tried{least}."
    high = f"{found['high']:.0f}" if found["high"] is not None else "more than were tried"
    return (
        f"{m} adjacent labels are worth {found['value']:.0f} [{found['low']:.0f}, {high}] target labels, "
        f"{row['target_labels_per_adjacent_label']:.2f} each."
    )


def sections(rows: Sequence[Mapping[str, Any]], preset: Preset) -> list[Section]:
    """Curves with bands per target, the grid, and what adjacent labels are worth."""
    cells = [row for row in rows if row["kind"] == "cell"]
    panels = {
        target: [
            _curve([row for row in cells if row["target"] == target and row["target_labels"] == k], k)
            for k in preset.labels
        ]
        for target in preset.targets
    }
    said = "; ".join(
        f"{target}, {curve.name}: "
        + ", ".join(f"{x:g} adjacent {y:.3f}" for x, y in zip(curve.x, curve.y, strict=True))
        for target, held in panels.items()
        for curve in held
    )
    drawing = Drawing(
        "curves",
        "curves",
        f"AUROC by number of adjacent labels, one curve per number of target labels. {said}.",
        curves(
            panels, f"labels of {preset.source}", "AUROC", preset.adjacent, logarithmic=True, reference=(0.5, "chance")
        ),
        caption="AUROC on held-out labels of the target; bands are 95 % intervals over texts and seeds.",
    )
    grid = Table(
        "Means over seeds, 95 % intervals over texts and seeds",
        (
            "Target",
            "Adjacent labels",
            "Target labels",
            "Steps",
            "AUROC",
            "Above no adjacent",
            "Keywords, same labels",
            "Above keywords",
            "Texts",
            "Coverage",
        ),
        [
            (
                row["target"],
                row["adjacent_labels"],
                row["target_labels"],
                row["steps"],
                row["auroc"],
                signed(row["versus_no_adjacent"]),
                row.get("keyword_auroc"),
                signed(row["versus_keyword"]) if "versus_keyword" in row else None,
                row["n"],
                share(row["coverage"]),
            )
            for row in cells
        ],
    )
    value = Table(
        "What adjacent labels alone are worth in target labels alone",
        ("Target", "Adjacent labels", "Worth target labels", "Per adjacent label"),
        [
            (
                row["target"],
                row["adjacent_labels"],
                _worth(row["target_labels_worth"]),
                row.get("target_labels_per_adjacent_label"),
            )
            for row in rows
            if row["kind"] == "worth"
        ],
    )
    return [Section("Adjacent labels", drawings=[drawing], tables=[value, grid])]


def _curve(rows: Sequence[Mapping[str, Any]], k: int) -> Curve:
    figures = [row["auroc"] for row in rows]
    return Curve(
        f"{k} target labels",
        [row["adjacent_labels"] for row in rows],
        [figure["value"] for figure in figures],
        [figure["low"] for figure in figures],
        [figure["high"] for figure in figures],
    )


def _worth(found: Mapping[str, Any]) -> Cell:
    if found["value"] is None:
        least = f"at least {found['at_least']:.0f}" if found["at_least"] else "not known"
        return Cell(least, found["undefined"], kind="undefined")
    high = f"{found['high']:.0f}" if found["high"] is not None else "beyond"
    return Cell(f"{found['value']:.0f}", f"[{found['low']:.0f}, {high}]", repr(found["value"]))


MEASURED = (
    "A monitor is trained on adjacent labels first and then on those of the target. They are drawn anew under every seed, under "
    "which the smaller sets are parts of the larger ones; both have as many flagged as cleared texts, as far as there are enough.",
    "Keywords are fitted on the same labels, adjacent and the target’s together.",
    "Few labels, adjacent or the target’s, are passed over as often as it takes to learn from as many examples as the preset says: "
    "they are not to be worth less only because they were learnt less. How many steps a training took stands in the table.",
    "Every figure is on the same test texts of the target; intervals draw these texts and seeds, and with them the labels learnt "
    "from. Differences are paired.",
    "What adjacent labels are worth is read off the curve of target labels alone, made to rise and joined between measured numbers "
    "on a scale of log (1 + k). Nothing is read beyond the last measured number: it is then undefined.",
)
