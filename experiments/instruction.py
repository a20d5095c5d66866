"""Do instructions beside the verdicts keep what training breaks, or do they dilute what it is for? By share and by loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elicit.evaluation.bootstrap import in_words
from elicit.evaluation.prompt_change import OTHERS
from elicit.reports.cells import percent, signed
from elicit.reports.charts import Curve, curves
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from experiments.experiment import Findings, Folder
from experiments.side_effects import MEASURED as SHARED
from experiments.side_effects import Preset, measure, sentences, tables

FIRST = "verdicts alone"
LOSSES = {"example": "mean over examples", "token": "mean over tokens"}


def plans(shares: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Verdicts alone, and every share of instructions under both losses."""
    mixed = {
        f"{share:.0%} instructions, {named}": {"schedule": "mixed", "instruction_share": share, "loss": loss}
        for loss, named in LOSSES.items()
        for share in shares
    }
    return {FIRST: {}, **mixed}


PRESETS = {
    "smoke": Preset(
        source="vader/amazon",
        targets=("vader/nyt",),
        plans=plans((0.25,)),
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
        plans=plans((0.1, 0.25, 0.5)),
        seeds=(0, 1, 2),
        source_texts=240,
        epochs=2.0,
        suite_texts=48,
        pairs=39,
        test_texts=120,
    ),
    "full": Preset(
        source="vader/amazon",
        targets=("vader/tweets", "vader/nyt", "vader/movie"),
        plans=plans((0.05, 0.1, 0.25, 0.5, 0.75)),
        seeds=(0, 1, 2, 3, 4),
        source_texts=1600,
        epochs=2.0,
        suite_texts=400,
        pairs=130,
        test_texts=1000,
    ),
}


def run_instruction(preset: Preset, folder: Folder) -> Findings:
    """Both suites and transfer for every share of instructions under both losses."""
    rows, warnings = measure(preset, folder)
    said = [*sentences(rows, FIRST), *dilution(rows)]
    return Findings(rows, said, sections(rows, preset), MEASURED, warnings)


def dilution(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the mean over tokens changes in place of the mean over examples, in the mean over shares of instructions."""
    found = [row for row in rows if row["kind"] == "dilution"]
    if not found:
        return []
    changes = ", ".join(
        f"{row['figure']} {in_words(row['difference'], sign='+')} ({row['difference']['reading']})" for row in found
    )
    shares = found[0]["plans"]
    return [f"Mean over tokens less mean over examples, averaged over {shares} shares of instructions: {changes}."]


def sections(rows: Sequence[Mapping[str, Any]], preset: Preset) -> list[Section]:
    """Curves over the share of instructions, and the tables."""
    suite = {row["plan"]: row for row in rows if row["kind"] == "suite"}
    transfer = {(row["plan"], row["target"]): row for row in rows if row["kind"] == "transfer"}
    kept = {
        "loss on instructions": {plan: row["loss_growth"] for plan, row in suite.items()},
        "instructions right": {plan: row["pass_rate"] for plan, row in suite.items()},
        **{
            f"follows {kind} questions": {plan: row["following"][kind] for plan, row in suite.items()}
            for kind in OTHERS
        },
    }
    moved = {
        f"AUROC, {target}": {plan: transfer[plan, target]["auroc"] for plan in preset.plans}
        for target in preset.targets
    }
    drawings = [
        _drawing("kept", "What instructions keep", kept, preset),
        _drawing("transfer", "What they do to transfer", moved, preset),
    ]
    twins = Table(
        "Mean over tokens less mean over examples, at equal shares: 95 % intervals over texts or templates, and seeds",
        (
            "Plan",
            *(f"Follows {kind} questions" for kind in OTHERS),
            "Loss on instructions",
            *(f"AUROC, {target}" for target in preset.targets),
        ),
        [
            (
                plan,
                *(signed(row["following_versus_twin"][kind]) for kind in OTHERS),
                percent(row["loss_growth_versus_twin"], signed=True),
                *(signed(transfer[plan, target]["versus_twin"]) for target in preset.targets),
            )
            for plan, row in suite.items()
            if row["options"].get("loss") == "token"
        ],
    )
    return [
        Section("By share of instructions", drawings=drawings, tables=tables(rows)[:3]),
        Section("Transfer, and dilution", tables=[*tables(rows)[3:], twins]),
    ]


def _drawing(name: str, title: str, panels: Mapping[str, Mapping[str, Mapping[str, Any]]], preset: Preset) -> Drawing:
    held = {panel: [_curve(figures, loss, preset) for loss in LOSSES] for panel, figures in panels.items()}
    said = "; ".join(
        f"{panel}, {curve.name}: " + ", ".join(f"{x:.0%} {y:.3f}" for x, y in zip(curve.x, curve.y, strict=True))
        for panel, drawn in held.items()
        for curve in drawn
    )
    return Drawing(
        name,
        "curves",
        f"{title}, by share of instructions. {said}.",
        curves(held, "share of examples that are instructions", ""),
        caption=f"{title}, by share of instructions; bands are 95 % intervals over texts or templates, and seeds.",
    )


def _curve(figures: Mapping[str, Mapping[str, Any]], loss: str, preset: Preset) -> Curve:
    points = [
        (float(options.get("instruction_share", 0.0)), figures[plan])
        for plan, options in preset.plans.items()
        if options.get("loss", loss) == loss and figures[plan]["value"] is not None
    ]
    return Curve(
        LOSSES[loss],
        [x for x, _ in points],
        [figure["value"] for _, figure in points],
        [figure["low"] for _, figure in points],
        [figure["high"] for _, figure in points],
    )


MEASURED = (
    *SHARED,
    "The number of verdicts is the same for every share; instructions come on top of them. Under the mean over examples a response "
    "counts as much as one verdict, under the mean over tokens each of its tokens does.",
)
