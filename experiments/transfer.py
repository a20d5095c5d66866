"""How far does training on one domain carry to others, and does the distance between two domains foretell it?

Every domain is source and target in turn. A monitor trained on the target's own training texts is what transfer is measured
against: gap recovered lies between the untrained model (0) and it (1). Two more rows train on several domains with as many texts in
all: on every domain but the target, and on every domain outside the target's family (the part of its name before the slash).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from elicit.domains import Domain, drop_overlap
from elicit.evaluation import Resampled, difference, gap_recovered, mean_over_seeds
from elicit.evaluation.bootstrap import in_words, undefined
from elicit.monitors import KeywordMonitor, Monitor, Scores
from elicit.reports.cells import percent, share, signed
from elicit.reports.charts import Point, heat_map, scatter
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.training import TrainingConfig
from experiments.distances import DISTANCES, domain_distances, rank_correlation
from experiments.experiment import Findings, Folder, compared, held_out

OWN, SINGLE, FAMILY, ALL = "own labels", "one domain", "other families", "all but the target"
SAME_FAMILY, OTHER_FAMILY = "one domain of the target's family", "one domain of another family"


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
        domains: each is source and target.
        seeds: of training.
        source_texts: of each training, from one domain or several.
        epochs: of training.
        test_texts: at most this many of each target.
        distance_texts: training texts of each domain, without their labels, between which distances are measured.
        model: catalogue name, folder or hub id.
    """

    domains: tuple[str, ...]
    seeds: tuple[int, ...]
    source_texts: int
    epochs: float
    test_texts: int
    distance_texts: int
    model: str = "smollm2-135m-instruct"


PRESETS = {
    "smoke": Preset(("vader/amazon", "vader/tweets", "facts/countries"), (0,), 16, 1.0, 20, 10),
    "default": Preset(
        domains=(
            "vader/amazon",
            "vader/tweets",
            "vader/nyt",
            "facts/countries",
            "facts/elements",
            "sarcasm/headlines",
        ),
        seeds=(0, 1, 2),
        source_texts=240,
        epochs=2.0,
        test_texts=120,
        distance_texts=120,
    ),
    "full": Preset(
        domains=(
            "vader/amazon",
            "vader/tweets",
            "vader/nyt",
            "vader/movie",
            "facts/countries",
            "facts/elements",
            "sarcasm/headlines",
            "spam/sms",
            "pyrit/harm",
            "pyrit/objective",
            "agent/web-policy",
        ),
        seeds=(0, 1, 2, 3, 4),
        source_texts=2000,
        epochs=2.0,
        test_texts=1000,
        distance_texts=600,
    ),
}


@dataclass(frozen=True)
class Recipe:
    """What a monitor is trained on: labels of which domains, and the kind of row that it is for a target."""

    kind: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return "+".join(source.replace("/", "-") for source in self.sources)


def family(domain: str) -> str:
    """The part of a name before the slash."""
    return domain.split("/")[0]


def run_transfer(preset: Preset, folder: Folder) -> Findings:
    """Every source on every target, several sources together, and the distances between domains."""
    domains = {name: folder.domain(name) for name in preset.domains}
    tests = {name: held_out(domain, preset.test_texts) for name, domain in domains.items()}
    parts, warnings = training_parts(domains)
    rows: list[dict[str, Any]] = []
    aurocs: dict[tuple[str, str], Resampled] = {}
    gains: dict[str, list[tuple[Resampled, Resampled]]] = {}
    scores = scores_by_target(folder, preset, tests, parts)
    for target, test in tests.items():
        found, floor, means = target_rows(preset, target, test, scores[target])
        rows += found
        for recipe, auroc in means.items():
            gains.setdefault(recipe.kind, []).append((auroc, floor))
            if recipe.kind == SINGLE:
                near = family(recipe.sources[0]) == family(target)
                gains.setdefault(SAME_FAMILY if near else OTHER_FAMILY, []).append((auroc, floor))
            if len(recipe.sources) == 1:
                aurocs[recipe.sources[0], target] = auroc
    rows += [
        {"kind": "mean", "of": kind, "pairs": len(held), "versus_untrained": mean_gain(held)}
        for kind, held in gains.items()
        if kind not in (SAME_FAMILY, OTHER_FAMILY) or len(held) < len(gains[SINGLE])  # else it is the same mean again
    ]
    distances = folder.part(
        lambda: domain_distances(folder.untrained(preset.model).model, domains, preset.distance_texts),
        what="distances between domains",
    )
    for pair in distances:
        shortfall = [difference(aurocs[pair["source"], t], aurocs[t, t]) for t in (pair["target"],)]
        pair["auroc_below_own_labels"] = shortfall[0]
    correlations = {key: rank_correlation(distances, key, aurocs, preset.domains) for key in DISTANCES}
    rows += [{"kind": "distance", **pair} for pair in distances]
    rows += [{"kind": "rank correlation", "distance": key, "spearman": found} for key, found in correlations.items()]
    warnings += few_texts(parts, preset.source_texts)
    return Findings(
        rows, summary(rows, correlations), sections(rows, preset, distances, correlations), MEASURED, warnings
    )


def training_parts(domains: Mapping[str, Domain]) -> tuple[dict[str, Domain], list[str]]:
    """The training split of each domain without the texts that another domain holds too, and what was left out."""
    parts, warnings = {}, []
    for name, domain in domains.items():
        # First the split, then the texts that go: the test texts of the domain itself stay where they are.
        parts[name] = drop_overlap(
            domain.train, [other for key, other in domains.items() if key != name]
        ).require_labels()
        if dropped := len(domain.train.require_labels()) - len(parts[name]):
            warnings.append(f"{name}: texts not trained on, since another domain holds them too: {dropped}")
    return parts, warnings


def few_texts(parts: Mapping[str, Domain], wanted: int) -> list[str]:
    """A warning for each domain that has fewer texts than a training wants."""
    return [
        f"{name} has {len(part)} texts to train on: its own training sees fewer than the {wanted} of the others"
        for name, part in parts.items()
        if len(part) < wanted
    ]


def portions(parts: Sequence[Domain], texts: int) -> list[Domain]:
    """So many texts in all, in equal shares; what a small domain lacks comes from the larger ones."""
    chosen: dict[int, Domain] = {}
    for at in sorted(range(len(parts)), key=lambda at: len(parts[at])):
        share, texts_left = len(parts) - len(chosen), texts - sum(map(len, chosen.values()))
        chosen[at] = parts[at].balanced_sample(texts_left // share)
    return [chosen[at] for at in range(len(parts))]


def recipes(target: str, domains: Sequence[str]) -> list[Recipe]:
    """What is trained for a target: single domains, and several of them where that is more than one."""
    others = tuple(name for name in domains if name != target)
    outside = tuple(name for name in others if family(name) != family(target))
    found = [Recipe(OWN if name == target else SINGLE, (name,)) for name in domains]
    return found + [Recipe(kind, names) for kind, names in ((FAMILY, outside), (ALL, others)) if len(names) > 1]


def scores_by_target(
    folder: Folder, preset: Preset, tests: Mapping[str, Domain], parts: Mapping[str, Domain]
) -> dict[str, dict[str, Scores]]:
    """What every monitor gives the texts of every target that it is for: it is trained or loaded once, and then goes."""
    config = TrainingConfig(texts=preset.source_texts, epochs=preset.epochs)
    found = {
        target: {"untrained": folder.scores(test, "untrained", lambda: folder.untrained(preset.model))}
        for target, test in tests.items()
    }
    plans = {target: {recipe.name: recipe for recipe in recipes(target, preset.domains)} for target in tests}
    for recipe in {name: recipe for plan in plans.values() for name, recipe in plan.items()}.values():
        name, chosen = recipe.name, portions([parts[each] for each in recipe.sources], preset.source_texts)

        def train(seed: int) -> Monitor:
            judges = folder.judges(*recipe.sources)  # noqa: B023
            base = folder.untrained(preset.model)
            return folder.trained(f"{name}-{seed}", base, chosen, config, seed, judges)  # noqa: B023

        monitors: dict[str, Callable[[], Monitor]] = {
            f"keyword-{name}": lambda: KeywordMonitor.fit_domains(chosen),  # noqa: B023
            **{f"{name}-{seed}": partial(train, seed) for seed in preset.seeds},
        }
        for key, load in monitors.items():
            once = cache(load)
            for target, test in tests.items():
                if name in plans[target]:
                    found[target][key] = folder.scores(test, key, once)
    return found


def target_rows(
    preset: Preset, target: str, test: Domain, scores: Mapping[str, Scores]
) -> tuple[list[dict[str, Any]], Resampled, dict[Recipe, Resampled]]:
    """One row per recipe: means over seeds on the same texts and draws, beside the keyword baseline on the same labels.

    Returns:
        rows, AUROC of the untrained model, and by recipe that of the trained ones.
    """
    plan = recipes(target, preset.domains)
    figures, n = compared(test, scores)
    means = {recipe: mean_over_seeds([figures[f"{recipe.name}-{seed}"] for seed in preset.seeds]) for recipe in plan}
    floor, ceiling = figures["untrained"], means[Recipe(OWN, (target,))]
    start = {"kind": "untrained", "sources": [], "target": target, "seeds": 1, "n": n}
    rows = [start | {"coverage": scores["untrained"].coverage, "auroc": floor.to_json()}]
    for recipe, found in means.items():
        keyword = figures[f"keyword-{recipe.name}"]
        rows.append(
            {
                "kind": recipe.kind,
                "sources": list(recipe.sources),
                "target": target,
                "seeds": len(preset.seeds),
                "n": n,
                "coverage": statistics.mean(scores[f"{recipe.name}-{seed}"].coverage for seed in preset.seeds),
                "auroc": found.to_json(),
                "gap_recovered": gap_recovered(found, floor, ceiling)
                if recipe.kind != OWN
                else undefined("it is what the gap is measured to"),
                "versus_untrained": difference(found, floor),
                "keyword_auroc": keyword.to_json(),
                "versus_keyword": difference(found, keyword),
            }
        )
    return rows, floor, means


def mean_gain(pairs: Sequence[tuple[Resampled, Resampled]]) -> dict[str, Any]:
    """Mean difference of the AUROC before and after: the domains stay as they are, texts and seeds are drawn."""
    after, before = (
        Resampled(
            float(np.mean([pair[side].value for pair in pairs])),
            np.mean([pair[side].replicates for pair in pairs], axis=0),
        )
        for side in (0, 1)
    )
    return difference(after, before)


def summary(rows: Sequence[Mapping[str, Any]], correlations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How often transfer recovers the gap, what several sources add, and whether distance foretells it."""
    singles = [row for row in rows if row["kind"] == SINGLE]
    gaps = [row["gap_recovered"]["value"] for row in singles if row["gap_recovered"]["value"] is not None]
    better = sum(row["versus_untrained"]["reading"] == "better" for row in singles)
    keyword = sum(row["versus_keyword"]["reading"] == "better" for row in singles)
    sentences = [
        f"Trained on one other domain, the monitor is clearly better than the untrained model in {better} of {len(singles)} pairs "
        f"of source and target, and clearly better than keywords from the same labels in {keyword}."
    ]
    if gaps:
        sentences.append(
            f"Where the gap is defined ({len(gaps)} pairs), one other domain recovers {statistics.median(gaps):.0%} of it in the "
            f"median, from {min(gaps):.0%} to {max(gaps):.0%}."
        )
    raised = [
        f"{in_words(gain, '.3f', '+')} by training on {row['of']} ({row['pairs']} pairs)"
        for row in rows
        if row["kind"] == "mean" and (gain := row["versus_untrained"])["value"] is not None
    ]
    if raised:
        sentences.append(f"In the mean over pairs of training and target AUROC changes by {', '.join(raised)}.")
    for key, found in correlations.items():
        named = DISTANCES[key]
        if found["value"] is None:
            sentences.append(f"Whether {named} foretells transfer is undefined: {found['undefined']}.")
            continue
        shown = f"Spearman {in_words(found, '.2f')}"
        clear = "does not clearly foretell how much is lost"
        if found["high"] < 0:
            clear = "foretells how much is lost"
        elif found["low"] > 0:
            clear = "foretells that less is lost the larger it is"
        sentences.append(f"The {named} between source and target {clear}: {shown} with AUROC below that of own labels.")
    return sentences


def sections(
    rows: Sequence[Mapping[str, Any]],
    preset: Preset,
    distances: Sequence[Mapping[str, Any]],
    correlations: Mapping[str, Mapping[str, Any]],
) -> list[Section]:
    """Two heat maps with their tables, and transfer against distance."""
    held = {(_line(row), row["target"]): row for row in rows if "auroc" in row}
    drawn = {line for line, _ in held}
    lines = [line for line in (*preset.domains, FAMILY, ALL, "untrained") if line in drawn]

    def grid(figure: str) -> list[list[float | None]]:
        return [
            [held.get((line, target), {}).get(figure, {}).get("value") for target in preset.domains] for line in lines
        ]

    def said(values: Sequence[Sequence[float | None]]) -> str:
        return " ".join(
            f"{line}: "
            + ", ".join(
                f"{t} {'undefined' if v is None else f'{v:.2f}'}" for t, v in zip(preset.domains, row, strict=True)
            )
            + "."
            for line, row in zip(lines, values, strict=False)
        )

    aurocs, gaps = grid("auroc"), grid("gap_recovered")[:-1]
    defined = any(value is not None for row in gaps for value in row)
    maps = [
        Drawing(
            "auroc-matrix",
            "matrix",
            f"AUROC on each target (columns) by what was trained on (rows). {said(aurocs)}",
            heat_map(lines, preset.domains, aurocs, (0.0, 1.0), label="target", middle=0.5),
            caption="AUROC on held-out labels of the target, by what was trained on: violet is better than chance, brown worse. "
            "On the diagonal: the target’s own labels.",
        ),
        Drawing(
            "gap-matrix",
            "matrix",
            f"Gap recovered on each target (columns) by what was trained on (rows). {said(gaps)}",
            heat_map(lines[:-1], preset.domains, gaps, (-1.0, 1.0), "{:.0%}", "target", middle=0.0),
            caption="Gap recovered: 0 is the untrained model, 1 the one trained on the target’s own labels. Open: undefined.",
        ),
    ]
    panels = {
        name: [
            Point(
                pair[key],
                pair["auroc_below_own_labels"]["value"],
                group="same family" if family(pair["source"]) == family(pair["target"]) else "other family",
            )
            for pair in distances
        ]
        for key, name in DISTANCES.items()
    }
    foretold = Drawing(
        "distance",
        "distance",
        "AUROC of transfer less that of own labels, against two distances between source and target. "
        + "; ".join(f"{DISTANCES[key]}: Spearman {in_words(found, '.2f')}" for key, found in correlations.items()),
        scatter(panels, "distance", "AUROC less that of own labels"),
        caption="Each point is a source and a target. Left of both figures: domains that are hard to tell apart.",
    )
    table = Table(
        "Means over seeds, 95 % intervals over texts and seeds",
        (
            "Trained on",
            "Target",
            "AUROC",
            "Gap recovered",
            "Above untrained",
            "Keywords, same labels",
            "Above keywords",
            "Texts",
            "Coverage",
        ),
        [
            (
                _line(row) if row["kind"] != OWN else f"{row['target']} (own labels)",
                row["target"],
                row["auroc"],
                percent(row["gap_recovered"]) if "gap_recovered" in row else None,
                signed(row["versus_untrained"]) if "versus_untrained" in row else None,
                row.get("keyword_auroc"),
                signed(row["versus_keyword"]) if "versus_keyword" in row else None,
                row["n"],
                share(row["coverage"]),
            )
            for row in rows
            if "auroc" in row
        ],
    )
    apart = Table(
        "Distances between domains, and AUROC of transfer less that of own labels",
        ("Source", "Target", "Keyword distance", "Hidden-state distance", "AUROC less own labels"),
        [
            (
                pair["source"],
                pair["target"],
                pair["keyword_distance"],
                pair["state_distance"],
                signed(pair["auroc_below_own_labels"]),
            )
            for pair in distances
        ],
    )
    return [
        Section("Sources and targets", drawings=maps if defined else maps[:1], tables=[table]),
        Section("Distance and transfer", drawings=[foretold], tables=[apart]),
    ]


def _line(row: Mapping[str, Any]) -> str:
    return str(row["sources"][0]) if row["kind"] in (OWN, SINGLE) else str(row["kind"])


MEASURED = (
    "Every figure is on test texts of the target, the same for all monitors and seeds; intervals draw these texts and seeds, so "
    "that differences are paired.",
    "All trainings see equally many texts, as far as a domain has so many: several sources give equal shares, and the larger ones "
    "what a small one lacks. What several sources add is variety, not number.",
    "A source is trained on without the texts that another domain holds too.",
    "Keyword distance is the proxy A-distance of a classifier by words: 0 where the two domains cannot be told apart, 2 where they "
    "always can. Hidden-state distance lies between the mean states at the last token of the prompt, of the untrained model’s "
    "middle layer, after whitening, each domain’s texts under its own question: domains that ask the same lie closer. Both look at "
    "training texts, without labels.",
    "The interval of a rank correlation draws domains with all their pairs, texts and seeds.",
)
