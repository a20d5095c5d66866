"""Does the model answer the question that is asked, or the one that it was trained on? By what training asks, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elicit.evaluation.bootstrap import in_words
from elicit.evaluation.prompt_change import OTHERS
from elicit.reports.charts import Interval, heat_map, intervals
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section
from experiments.experiment import Findings, Folder
from experiments.side_effects import MEASURED, Preset, measure, sentences, tables

FIRST = "classification"
PLANS: dict[str, dict[str, Any]] = {
    FIRST: {},
    "mixed": {"schedule": "mixed"},
    "classification, then instruction": {"schedule": "classification-then-instruction"},
    "instruction, then classification": {"schedule": "instruction-then-classification"},
    "half inverted": {"inverted": 0.5},
    "mixed, wordings": {"schedule": "mixed", "wordings": 0.5},
}
PRESETS = {
    "smoke": Preset(
        source="vader/amazon",
        targets=("vader/nyt",),
        plans={name: PLANS[name] for name in (FIRST, "mixed, wordings")},
        seeds=(0,),
        source_texts=16,
        epochs=1.0,
        suite_texts=8,
        pairs=4,
        test_texts=16,
    ),
    "default": Preset(
        source="vader/amazon",
        targets=("vader/tweets", "vader/nyt"),
        plans=PLANS,
        seeds=(0, 1, 2),
        source_texts=480,
        epochs=2.0,
        suite_texts=64,
        pairs=52,
        test_texts=120,
    ),
    "full": Preset(
        source="vader/amazon",
        targets=("vader/tweets", "vader/nyt", "vader/movie"),
        plans=PLANS | {"classification, wordings": {"wordings": 0.5}},
        seeds=(0, 1, 2, 3, 4),
        source_texts=1600,
        epochs=2.0,
        suite_texts=400,
        pairs=130,
        test_texts=1000,
    ),
}


def run_prompt_change(preset: Preset, folder: Folder) -> Findings:
    """Both suites and transfer for every training."""
    rows, warnings = measure(preset, folder)
    return Findings(rows, sentences(rows, FIRST), sections(rows), MEASURED, warnings)


def sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Question-following by training, right answers by kind of question, and the tables."""
    suite = [row for row in rows if row["kind"] == "suite"]
    plans, kinds = [row["plan"] for row in suite], list(suite[0]["accuracy"])
    grid = [[row["accuracy"][kind]["value"] for kind in kinds] for row in suite]
    panels = {
        f"{kind} questions": [
            Interval.of(row["plan"], row["following"][kind])
            for row in suite
            if row["following"][kind]["value"] is not None
        ]
        for kind in OTHERS
    }
    following = Drawing(
        "following",
        "following",
        "AUROC for the question that is asked, where the trained one has another answer. "
        + " ".join(
            f"{kind} questions: "
            + "; ".join(f"{row['plan']} {in_words(row['following'][kind])}" for row in suite)
            + "."
            for kind in OTHERS
        ),
        intervals(
            {title: held for title, held in panels.items() if held},
            "AUROC for the question asked, where the trained one has another answer",
            references={"neither": 0.5},
        ),
        caption="Right of the line the question that is asked is answered; left of it texts are ranked the other way, as by the "
        "trained one; 95 % intervals over texts and seeds.",
    )
    kinds_of_question = Drawing(
        "kinds",
        "kinds",
        "Share of right answers by kind of question. "
        + " ".join(
            f"{plan}: " + ", ".join(f"{kind} {_number(value)}" for kind, value in zip(kinds, row, strict=True)) + "."
            for plan, row in zip(plans, grid, strict=True)
        ),
        heat_map(plans, kinds, grid, (0.0, 1.0), label="question", middle=0.5),
        caption="Right answers by kind of question: a model that ignores the question has the inverted one wrong.",
    )
    targets = list(dict.fromkeys(row["target"] for row in rows if row["kind"] == "transfer"))
    moved = {
        target: [Interval.of(row["plan"], row["auroc"]) for row in rows if row.get("target") == target]
        for target in targets
    }
    transfer = Drawing(
        "transfer",
        "transfer",
        "AUROC by training. "
        + " ".join(f"{row['target']}, {row['plan']} {in_words(row['auroc'])}." for row in rows if "target" in row),
        intervals(moved, "AUROC on held-out labels of the target", references={"chance": 0.5}),
        caption="What the training does to transfer; 95 % intervals over texts and seeds.",
    )
    return [
        Section("Questions", drawings=[following, kinds_of_question], tables=tables(rows)[:3]),
        Section("Transfer", drawings=[transfer], tables=tables(rows)[3:]),
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
