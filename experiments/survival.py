"""What survives what: how the differences that challenges make are read, and the page that shows them.

A method *survives* a challenge when the interval of the difference in AUROC does not go below −0.05; else it *falls* when the whole
interval is below 0, and otherwise that is not settled. Where a method did not clearly beat chance before the challenge there is
nothing to survive; where it was clearly below chance, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elicit.domains.challenges import IMPOSSIBLE
from elicit.evaluation.bootstrap import in_words
from elicit.reports.cells import Cell, measure_cell, percent, share, signed
from elicit.reports.charts import heat_map
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.reports.rows import read_measure

PLAIN = "as it is"
SURVIVES, FALLS, UNSETTLED, FAILS = "survives", "falls", "not settled", "fails"
NOTHING_TO_LOSE, REVERSED, NO_BASELINE, UNTOUCHED = (
    "not above chance",
    "below chance",
    "fails without it",
    "not touched",
)
MARKS = {name: name for name in (SURVIVES, FALLS, UNSETTLED, FAILS)}
LOST = -0.05  # of AUROC: what a method that survives may lose


def reading(change: Mapping[str, Any]) -> str:
    """Whether a method survives what changes its AUROC so, falls under it, or whether that is not settled."""
    if change["value"] is None:
        return UNSETTLED
    if change["low"] >= LOST:
        return SURVIVES
    return FALLS if change["high"] < 0 else UNSETTLED


def summary(rows: Sequence[Mapping[str, Any]], abstained: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each method survives, and whether it abstains where there is no answer."""
    sentences = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method and row["challenge"] != PLAIN]
        by = {
            verdict: [row["challenge"] for row in own if row["verdict"] == verdict]
            for verdict in (SURVIVES, FALLS, UNSETTLED, FAILS, NOTHING_TO_LOSE, REVERSED, NO_BASELINE)
        }
        own = [row for row in own if row["verdict"] != UNTOUCHED]
        if by[NO_BASELINE]:
            sentences.append(f"{method} fails without any challenge: there is nothing to compare with.")
            continue
        if by[REVERSED]:
            sentences.append(
                f"{method} ranks the wrong way round without any challenge: there is nothing for it to survive with."
            )
            continue
        if by[NOTHING_TO_LOSE]:
            sentences.append(
                f"{method} is not shown to be better than chance without any challenge: what it loses cannot be told."
            )
            continue
        said = f"{method} survives {len(by[SURVIVES])} of {len(own)} challenges"
        change = {row["challenge"]: row["difference"]["value"] for row in own}
        lost = [f"{name} ({change[name]:+.2f})" for name in by[FALLS]] + [f"{name} (an error)" for name in by[FAILS]]
        said += f"; falls, or fails, under {', '.join(lost)}" if lost else ""
        said += f"; not settled: {', '.join(by[UNSETTLED])}" if by[UNSETTLED] else ""
        sentences.append(f"{said}.")
    for row in abstained:
        sentences.append(
            f"{row['method']} abstains on {in_words(row[IMPOSSIBLE], '.0%')} of the impossible texts and on "
            f"{in_words(row['possible'], '.0%')} of the others."
        )
    return sentences


def sections(rows: Sequence[Mapping[str, Any]], abstained: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The page that says which method survives what, and the figures behind it."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    challenges = list(dict.fromkeys(row["challenge"] for row in rows if row["challenge"] != PLAIN))
    at = {(row["challenge"], row["method"]): row for row in rows}
    survival = Table(
        f"Survives (the interval of the difference does not go below −{-LOST}); else falls (it is below 0), or not settled",
        ("Method", "AUROC as it is", *challenges),
        [
            (
                method,
                at[PLAIN, method]["auroc"],
                *(_verdict(at[challenge, method]) for challenge in challenges),
            )
            for method in methods
        ],
    )
    shown = [[at[challenge, method] for challenge in challenges] for method in methods]
    grid = [[_told(row) for row in held] for held in shown]
    drawn = Drawing(
        "survival",
        "heat-map",
        "Difference in AUROC under each challenge, by method. "
        + "; ".join(f"{method}: {_worst(rows, method)}" for method in methods),
        heat_map(
            methods,
            challenges,
            grid,
            (-0.4, 0.4),
            "{:+.2f}",
            middle=0.0,
            words=[[MARKS.get(row["verdict"], "") for row in held] for held in shown],
        ),
        caption="AUROC under the challenge less AUROC without it, means over seeds, and what its interval says: brown is lost, "
        "violet is gained, pale is no change. A dash is what a challenge does not touch, or a method that without it is not shown "
        "to be above chance.",
    )
    figures = Table(
        "Means over seeds, 95 % intervals over texts and seeds",
        ("Method", "Challenge", "AUROC", "Difference", "Verdict", "Above keywords", "Texts", "Coverage"),
        [
            (
                row["method"],
                row["challenge"],
                row["auroc"],
                signed(row["difference"]),
                row["verdict"],
                signed(row["versus_keyword"]) if "versus_keyword" in row else None,
                row.get("n"),
                share(row["coverage"]) if "coverage" in row else None,
            )
            for row in rows
        ],
    )
    held = [Section("What survives what", drawings=[drawn], tables=[survival])]
    if abstained:
        table = Table(
            "Share of the texts on which a method gives no label: means over seeds, 95 % intervals over texts and seeds",
            ("Method", "Impossible texts", "Others"),
            [(row["method"], percent(row[IMPOSSIBLE]), percent(row["possible"])) for row in abstained],
        )
        held.append(Section("Abstention where there is no answer", tables=[table]))
    return [*held, Section("All figures", tables=[figures])]


def _told(row: Mapping[str, Any]) -> float | None:
    """The difference where it tells something of the challenge."""
    return None if row["verdict"] in (UNTOUCHED, NOTHING_TO_LOSE, REVERSED) else row["difference"]["value"]


def _verdict(row: Mapping[str, Any]) -> Cell:
    measure = read_measure(row["difference"])
    if measure.value is None:
        return Cell(row["verdict"], measure.undefined, kind="text", title=measure.undefined)
    figure = measure_cell(measure, signed=True)
    return Cell(row["verdict"], f"{figure.text} {figure.small}", figure.sort, title=figure.title)


def _worst(rows: Sequence[Mapping[str, Any]], method: str) -> str:
    own = [row for row in rows if row["method"] == method and row["difference"]["value"] is not None]
    if not own:
        return "undefined"
    worst = min(own, key=lambda row: float(row["difference"]["value"]))
    return f"at worst {worst['difference']['value']:+.2f}, {worst['challenge']}"
