"""Which label-free method recovers how much of the gap, and what does it cost? From the untrained and the source-trained model."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elicit.domains import Domain
from elicit.evaluation import Resampled, difference, gap_recovered, mean_over_seeds
from elicit.evaluation.bootstrap import in_words, undefined
from elicit.evaluation.score_files import read_scores
from elicit.files import read_json
from elicit.methods import METHODS
from elicit.reports.cells import percent, share, signed
from elicit.reports.charts import Point, pareto, scatter
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.run_config import RunConfig
from elicit.runs import run
from experiments.experiment import Findings, Folder, compared, held_out


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    texts: dict[str, int]
    epochs: float = 2.0
    model: str = "smollm2-135m-instruct"


SLOW = ("icm", "self-training", "thinking", "thinking-self-training")  # minutes to hours of one target on a CPU
STARTS = ("source-trained", "untrained")
WITHOUT_START = ("untrained", "transfer", "keyword-source", "keyword-target")  # the same whatever the others start from
REFERENCE = "reference"
FEW_SHOT = ("random-shots", "bootstrap")  # what a search in the context has to beat
SEARCHES = ("consistency", "icm")
SCORED = 0.8  # of the texts: what has scored fewer is not compared
# In a run one reading of hidden states serves all methods of a group: the first one of them pays for it there.
SHARED_STATES = (
    ("ccs", "crc", "vinc", "kmeans", "pca", "state-consistency", "probe-target"),  # of the target's texts
    ("probe-source", "mean-difference-source"),  # of the sources' texts
)

ALIKE = {"transfer": "untrained"}


PRESETS = {
    "smoke": Preset(
        sources=("vader/amazon",),
        targets=("vader/tweets",),
        methods=("untrained", "transfer", "ccs", "keyword-target", "verdict-target"),
        seeds=(0,),
        texts={"source_texts": 16, "target_texts": 16, "calibration_texts": 8, "test_texts": 20},
        epochs=1.0,
    ),
    "default": Preset(
        sources=("vader/amazon", "facts/countries"),
        targets=("vader/nyt", "facts/elements", "sarcasm/headlines"),
        methods=tuple(name for name in METHODS if name not in SLOW),
        seeds=(0, 1, 2),
        texts={"source_texts": 240, "target_texts": 80, "calibration_texts": 48, "test_texts": 160},
    ),
    "full": Preset(
        sources=("vader/amazon", "vader/movie"),
        targets=("vader/tweets", "vader/nyt", "facts/elements", "sarcasm/headlines", "injection", "agent/web-policy"),
        methods=tuple(METHODS),
        seeds=(0, 1, 2, 3, 4),
        texts={"source_texts": 2000, "target_texts": 1000, "calibration_texts": 300, "test_texts": 1000},
    ),
}


def run_elicitation(preset: Preset, folder: Folder) -> Findings:
    """One run folder per seed and starting model, and the means over seeds."""
    for name in preset.targets:
        held_out(folder.domain(name), preset.texts["test_texts"])  # raises where there is nothing to measure by
    outs: dict[str, list[Path]] = {start: [] for start in STARTS}
    warned: dict[tuple[str, str], list[int]] = {}
    for start, sources in (("source-trained", preset.sources), ("untrained", ())):
        for seed in preset.seeds:
            methods = tuple(name for name in preset.methods if sources or METHODS[name].labels != "source")
            config = RunConfig(
                preset.model,
                tuple(folder.written.get(name, name) for name in sources),
                tuple(folder.written.get(name, name) for name in preset.targets),
                methods,
                seed=seed,
                epochs=preset.epochs,
                drop_overlap=True,
                **preset.texts,
            )
            out = folder.out / f"seed-{seed}" / start
            outs[start].append(out)
            # In a cache of its own, which goes with it: a reading that an earlier run left would seem to cost nothing.
            outcome = run(config, out, folder.command, folder.say, readings=out / "readings")
            shutil.rmtree(out / "readings", ignore_errors=True)
            held = read_json(out / "manifest.json")["model"]
            folder.same("models", preset.model, held, f"{preset.model} is another model than when this began")
            for warning in alarms(outcome.results):
                warned.setdefault((start, warning), []).append(seed)
    warnings = [f"{start}, {seeds_in_words(seeds)}: {warning}" for (start, warning), seeds in warned.items()]
    rows: list[dict[str, Any]] = []
    for name in preset.targets:
        found, left_out = target_rows(folder.domain(name), outs, preset)
        rows, warnings = rows + found, warnings + left_out
    return Findings(rows, summary(rows), sections(rows, preset), MEASURED, warnings)


def target_rows(
    target: Domain, outs: Mapping[str, Sequence[Path]], preset: Preset
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per start and method: means over seeds, all on the same texts and draws; and what was left out of them."""
    test = target.test.sample(preset.texts["test_texts"])
    files = {
        f"{start} {method} {at}": out / "scores" / target.name / f"{method}.jsonl"
        for start in STARTS
        for method in preset.methods
        for at, out in enumerate(outs[start])
        if start == STARTS[0] or method not in WITHOUT_START
    }
    scores = {key: read_scores(path) for key, path in files.items() if path.is_file()}
    # Figures are on the texts that all have scored: one that scored few would take the others' texts away.
    keys = {
        (start, method): [f"{start} {method} {at}" for at in range(len(preset.seeds))]
        for start in STARTS
        for method in preset.methods
    }
    left_out = []
    for (start, method), names in keys.items():
        fewest = min((scores[name].coverage for name in names if name in scores), default=1.0)
        if fewest < SCORED:
            left_out.append(f"{target.name}: {method}, {start}, scored {fewest:.0%} of the texts, and is left out")
            scores = {name: held for name, held in scores.items() if name not in names}
    if not scores:
        return [], left_out
    figures, n = compared(test, scores)
    means = {
        key: mean_over_seeds([figures[name] for name in names])
        for key, names in keys.items()
        if all(name in figures for name in names)
    }
    # One floor and one ceiling for the whole table, so that what is recovered from either start can be compared. Labels of the
    # target are worth what the best of all that learns from them makes of them: chosen here, which favours it, if anything.
    floor, baseline, keyword = (means.get((STARTS[0], name)) for name in ("untrained", "transfer", "keyword-source"))
    supervised = {key: found for key, found in means.items() if METHODS[key[1]].labels == "target"}
    best = max(supervised, key=lambda key: supervised[key].value, default=None)
    ceiling = supervised[best] if best else None
    rows = []
    for (start, method), found in means.items():
        about = METHODS[method]
        timings = [read_json(out / "timings.json") for out in outs[start]]
        inherited = about.label_free is not None and start == STARTS[0]
        rows.append(
            {
                "target": target.name,
                "start": "" if method in WITHOUT_START else start,
                "method": method,
                "labels_used": "source" if inherited else about.labels,
                "label_free": about.label_free is not None,
                "seeds": len(preset.seeds),
                "n": n,
                "coverage": statistics.mean(scores[name].coverage for name in keys[start, method]),
                "auroc": found.to_json(),
                "gap_recovered": gap_recovered(found, floor, ceiling)
                if floor and ceiling
                else undefined("there is no untrained monitor, or none that is trained on target labels"),
                "ceiling": _named(best) if best else "",
                "versus_transfer": difference(found, baseline)
                if baseline and method != "transfer"
                else undefined("transfer is what others are compared with" if baseline else "transfer was not run"),
                "versus_keyword": difference(found, keyword)
                if keyword and method != "keyword-source"
                else undefined(
                    "keyword-source is what others are compared with" if keyword else "keyword-source was not run"
                ),
                "versus_ceiling": difference(found, ceiling)
                if ceiling and about.labels != "target"
                else undefined("it learns from labels of the target, as the ceiling does"),
                **{
                    f"versus_{name.replace('-', '_')}": _less(means, (start, method), (start, name))
                    for name in FEW_SHOT
                    if about.label_free is not None
                },
                "versus_untrained": _less(means, (start, method), (STARTS[0], "untrained")),
                "seconds": cost(timings, target.name, method, "seconds"),
                "tokens": cost(timings, target.name, method, "tokens"),
            }
        )
    return rows, left_out


def _less(means: Mapping[tuple[str, str], Resampled], one: tuple[str, str], other: tuple[str, str]) -> dict[str, Any]:
    """Paired difference of two of the figures."""
    if one[1] == other[1]:
        return undefined("it is what others are compared with")
    if other not in means:
        return undefined(f"there is no {other[1]} monitor")
    return difference(means[one], means[other])


def _named(key: tuple[str, str]) -> str:
    """A method, and the model that it starts from where that makes a difference."""
    start, method = key
    return method if method in WITHOUT_START else f"{method} from the {start} model"


def cost(timings: Sequence[dict[str, Any]], target: str, method: str, unit: str) -> float:
    """Mean over seeds of what a method takes on a target alone, whatever another one of the run has read for it.

    Methods that share hidden states are each charged what the dearest of them took, on whichever target it came first where these
    are of the sources. `transfer` reads as many tokens as `untrained`, and others have read them before it.
    """
    spent: list[float] = []
    sharing = next((group for group in SHARED_STATES if method in group), (ALIKE.get(method, method),))
    for held in timings:
        ends = [f"/{name}" if sharing == SHARED_STATES[1] else f"{target}/{name}" for name in sharing]
        spent.append(max(part[unit] for key, part in held.items() if any(key.endswith(end) for end in ends)))
    return round(statistics.mean(spent), 2)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """As in "seed 1" and "seeds 0, 2"."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def alarms(results: dict[str, Any]) -> list[str]:
    """Warnings of a run and of its methods, and methods that failed."""
    found = list(results["warnings"])
    for row in results["rows"]:
        named = f"{row['target']}, {row['method']}"
        found += [f"{named}: {warning}" for warning in row.get("warnings", [])]
        if "error" in row:
            found.append(f"{named} failed: {row['error']}")
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """By target: what transfer recovers, which methods differ from it, and what nothing beats at its price."""
    sentences = []
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        for row in own:
            if row["method"] == "transfer":
                gap = row["gap_recovered"]
                said = (
                    f"recovered {in_words(gap, '.0%')} of the gap to {row['ceiling']}"
                    if gap["value"] is not None
                    else f"has an undefined share of the gap ({gap['undefined']})"
                )
                sentences.append(f"{target}: transfer {said}.")
                if row["versus_untrained"]["reading"] == "worse":
                    lost = in_words(row["versus_untrained"], sign="+")
                    sentences.append(f"{target}: transfer is worse than the untrained model, {lost} of AUROC.")
        for start in STARTS:
            read = [
                row
                for row in own
                if row["label_free"] and row["start"] == start and row["versus_transfer"]["value"] is not None
            ]
            groups = {
                reading: [row["method"] for row in read if row["versus_transfer"]["reading"] == reading]
                for reading in ("better", "no clear difference", "worse")
            }
            counted = "; ".join(f"{reading}: {', '.join(held)}" for reading, held in groups.items() if held)
            if counted:
                sentences.append(f"{target}: label-free methods from the {start} model against transfer: {counted}.")
            for row in read:
                if row["method"] in SEARCHES:
                    others = {name: row[f"versus_{name.replace('-', '_')}"] for name in (*FEW_SHOT, "untrained")}
                    against = [f"{name} ({found.get('reading', 'undefined')})" for name, found in others.items()]
                    sentences.append(
                        f"{target}: {row['method']} from the {start} model, {row['tokens']:,.0f} tokens: against "
                        f"{', '.join(against)}."
                    )
        best = [
            point.name if point.group == REFERENCE else f"{point.name} {point.group}"
            for point in pareto(points(rows, target))
        ]
        sentences.append(
            f"{target}: without a label of the target, nothing has both a higher mean AUROC and a lower cost there, training on "
            f"sources apart, than {', '.join(best)}."
        )
    return sentences


def points(rows: Sequence[dict[str, Any]], target: str) -> list[Point]:
    """Agreement against seconds of everything that uses no label of the target."""
    return [
        Point(
            max(row["seconds"], 0.01),
            row["auroc"]["value"],
            row["method"],
            f"from the {row['start']} model" if row["label_free"] else REFERENCE,
        )
        for row in rows
        if row["target"] == target and row["labels_used"] != "target" and row["auroc"]["value"] is not None
    ]


def sections(rows: Sequence[dict[str, Any]], preset: Preset) -> list[Section]:
    """The front of agreement against cost, and a table per target."""
    panels = {target: held for target in preset.targets if (held := points(rows, target))}
    said = "; ".join(
        f"{target}: " + ", ".join(f"{point.name} {point.y:.3f} in {point.x:.1f} s" for point in held)
        for target, held in panels.items()
    )
    fronts = []
    if panels:
        drawn = scatter(panels, "seconds on this target", "AUROC", logarithmic=True, front=True)
        caption = (
            "Agreement against the seconds of eliciting and scoring, without source training. The line joins what nothing else "
            "beats at its price; the tables name the other points. What learns from labels of the target is not drawn."
        )
        fronts = [Drawing("front", "front", f"AUROC against seconds, {said}.", drawn, caption=caption)]
    tables = [
        Table(
            f"{target}: means over seeds, 95 % intervals over texts and seeds",
            (
                *("Method", "Start", "Labels", "AUROC", "Gap recovered", "Above transfer", "Above keywords"),
                *("Texts", "Coverage", "Tokens", "Seconds"),
            ),
            [
                (
                    row["method"],
                    row["start"],
                    row["labels_used"],
                    row["auroc"],
                    percent(row["gap_recovered"]),
                    signed(row["versus_transfer"]),
                    signed(row["versus_keyword"]),
                    row["n"],
                    share(row["coverage"]),
                    round(row["tokens"]),
                    row["seconds"],
                )
                for row in rows
                if row["target"] == target
            ],
        )
        for target in preset.targets
    ]
    return [Section("Agreement against cost", drawings=fronts), Section("Targets", tables=tables)]


MEASURED = (
    "Every figure is on test texts whose labels no method saw, on the texts that all methods scored, and its interval draws these "
    "texts and the seeds, the same for all methods: differences are paired.",
    "Gap recovered is (method − untrained) / (ceiling − untrained), whatever a method starts from; the ceiling is the best of what "
    "learns from labels of the target’s training texts. It is undefined where the interval of the denominator touches 0.",
    "Seconds and tokens are those of eliciting and scoring on one target, in all attempts that it took, but for those that were "
    "killed before they could write it down. Source training, which serves all targets, is not part of them.",
    "A run reads nothing twice. Of the methods on hidden states of the target’s texts, probe-target among them, each is charged "
    "what the dearest took; so are the two probes on hidden states of the sources’ texts, on whichever target came first, and "
    "transfer what untrained took, which reads as many tokens. Verdicts without examples that other methods have in common are "
    "charged to the one that came first.",
    "An interval of 95 % misses in one of twenty cases, and there are many comparisons here.",
    "Above keywords: against keyword-source, which has the same labels as transfer. A monitor that does not beat it or "
    "keyword-target may only have learned keywords.",
)
