"""Figures as SVG: AUROC with intervals, gap recovered, and ROC curves.

Colour says which labels a method used and so does the marker's shape, so that no figure needs colour to be read; hollow markers
are references.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from elicit.reports.drawing import (
    DASHES,
    FAINT,
    HUES,
    INK,
    MUTED,
    PAPER,
    WIDTH,
    Drawing,
    file_name,
    svg,
    write_drawings,
)
from elicit.reports.rows import Measure, ReportRow, ReportTarget, Results, read_targets
from elicit.reports.summary import figure as words
from elicit.reports.summary import interval

LABELS: Mapping[str, tuple[str, str, str]] = {
    "none": ("#0072B2", "o", "no labels"),
    "source": ("#D55E00", "s", "source labels"),
    "target": ("#009E73", "D", "target labels"),
    "unknown": ("#666666", "X", "not recorded"),
}
ROW, PANELS = 0.29, 3


def draw_figures(results: Results) -> list[Drawing]:
    """Every figure that the results have something for."""
    targets = read_targets(results)
    drawings = []
    for at, target in enumerate(targets, start=1):
        if any(row.measure("auroc").value is not None for row in target.rows):
            name = f"auroc-{at:02d}-{file_name(target.name)}"
            drawings.append(Drawing(name, "auroc", _auroc_alt(target), auroc_figure(target), target.name))
    recovered = [target for target in targets if _recovered(target)]
    if recovered:
        alt = " ".join(_gap_alt(target) for target in recovered)
        drawings.append(Drawing("gap-recovered", "gap", alt, gap_figure(recovered)))
    curved = [target for target in targets if any(row.curve for row in target.rows)]
    if curved:
        names = ", ".join(target.name for target in curved)
        alt = f"ROC curves, one panel per target: {names}. The AUROC of each curve is in the tables."
        drawings.append(Drawing("roc", "roc", alt, roc_figure(curved)))
    return drawings


def write_figures(results: Results, folder: Path) -> list[Path]:
    """Write every figure as an SVG file into `folder`, which is made if it is missing; each file whole or not at all."""
    return write_drawings(draw_figures(results), folder)


def auroc_figure(target: ReportTarget) -> str:
    """Forest plot of one target: AUROC and interval of every method, with chance and transfer as vertical lines."""

    def draw() -> Any:
        rows = target.rows
        lows = [measure.low if measure.low is not None else measure.value for measure in _measures(rows, "auroc")]
        start = math.floor(20 * min(0.45, *(low for low in lows if low is not None), 0.45)) / 20
        figure, (axes,) = _forest([len(rows)])
        transfer = target.row("transfer")
        level = transfer.measure("auroc").value if transfer else None
        axes.set_xlim(max(0.0, start), 1.0)
        _reference(axes, 0.5, "chance", "left")
        if level is not None:
            _reference(axes, level, "transfer", "left", LABELS["source"][0])
        _rows(axes, rows, "auroc", words)
        axes.set_xlabel("AUROC on held-out labels, with its interval")
        _legend(figure, [row for row in rows if row.measure("auroc").value is not None])
        return figure

    return svg(draw)


def gap_figure(targets: Sequence[ReportTarget]) -> str:
    """Gap recovered by transfer and the label-free methods: one panel per target, 0 = untrained, 100 % = target labels."""

    def draw() -> Any:
        held = [_recovered(target) for target in targets]
        ends = [end for rows in held for measure in _measures(rows, "gap_recovered") for end in _ends(measure)]
        # A nearly empty gap makes quotients of any size: the axis stops, arrows say so, and the numbers stay on the right.
        limits = max(-1.0, min(-0.1, *ends) - 0.05), min(2.0, max(1.1, *ends) + 0.05)
        figure, panels = _forest([len(rows) for rows in held])
        for target, rows, axes in zip(targets, held, panels, strict=True):
            axes.set_xlim(*limits)
            _reference(axes, 0.0, "untrained", "left")
            _reference(axes, 1.0, "target labels", "left", LABELS["target"][0])
            _rows(axes, rows, "gap_recovered", lambda measure: f"{measure.value:.0%}{interval(measure, percent=True)}")
            axes.set_title(target.name, loc="left", fontsize=10, fontweight="bold", pad=20, parse_math=False)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panels[-1].set_xlabel("share of the gap between untrained and trained on target labels")
        _legend(figure, [row for rows in held for row in rows if row.measure("gap_recovered").value is not None])
        return figure

    return svg(draw)


def roc_figure(targets: Sequence[ReportTarget]) -> str:
    """ROC curves: one panel per target, one line style per method, the same in every panel."""

    def draw() -> Any:
        methods = list(dict.fromkeys(row.method for target in targets for row in target.rows if row.curve))
        styles = _line_styles(methods)
        columns = min(PANELS, len(targets))
        lines = math.ceil(len(targets) / columns)
        legend_lines = math.ceil(len(methods) / 4)
        side, legend = 2.9, 0.35 + 0.21 * legend_lines
        height = lines * (side + 0.45) + legend + 0.3
        figure = Figure(figsize=(max(WIDTH, columns * (side + 0.35) + 0.4), height))
        grid = figure.add_gridspec(lines, columns, left=0.08, right=0.985, top=1 - 0.35 / height)
        grid.update(bottom=(legend + 0.6) / height, wspace=0.28, hspace=0.42)
        for at, target in enumerate(targets):
            axes = figure.add_subplot(grid[at // columns, at % columns])
            axes.set_box_aspect(1)
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
            axes.axvline(0.05, color=FAINT, linewidth=1)
            for row in target.rows:
                if row.curve:
                    axes.plot(*row.curve, **styles[row.method], alpha=0.95)
            axes.set_xlim(-0.01, 1.01)
            axes.set_ylim(-0.01, 1.01)
            axes.set_title(target.name, loc="left", fontsize=10, fontweight="bold", parse_math=False)
            axes.set_xlabel("false positive rate")
            if at % columns == 0:
                axes.set_ylabel("true positive rate")
        handles = [Line2D([], [], **styles[method]) for method in methods]
        key = figure.legend(handles, methods, loc="lower center", ncols=4, frameon=False, fontsize=9, handlelength=3)
        for text in key.get_texts():
            text.set_parse_math(False)
        return figure

    return svg(draw)


def _forest(counts: Sequence[int]) -> tuple[Any, list[Any]]:
    """A figure with one panel of so many rows each, stacked; margins are in inches, so that rows keep their height."""
    top, between, bottom = 0.75, 0.75, 0.55
    height = top + sum(ROW * count for count in counts) + between * (len(counts) - 1) + bottom
    figure = Figure(figsize=(WIDTH, height))
    panels, edge = [], height - top
    for count in counts:
        size = ROW * count
        panels.append(figure.add_axes((0.235, (edge - size) / height, 0.515, size / height)))
        edge -= size + between
    return figure, panels


def _rows(axes: Any, rows: Sequence[ReportRow], name: str, say: Callable[[Measure], str]) -> None:
    left, right = axes.get_xlim()
    places = list(range(len(rows)))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(places, [_fit(row.method) for row in rows], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for place, row in zip(places, rows, strict=True):
        if place and row.label_free != rows[place - 1].label_free:
            axes.axhline(place - 0.5, color=FAINT, linewidth=0.8, zorder=0)
        measure = row.measure(name)
        said = say(measure) if measure.value is not None else row.absent or "undefined"
        colour = INK if measure.value is not None else MUTED
        axes.annotate(
            said, (1.03, place), xycoords=("axes fraction", "data"), va="center_baseline", fontsize=9, color=colour
        )
        if measure.value is None:
            continue
        colour, marker, _ = LABELS.get(row.labels_used, LABELS["unknown"])
        if measure.low is not None and measure.high is not None:
            low, high = max(measure.low, left), min(measure.high, right)
            if low < high:
                axes.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
                # An interval that goes on beyond the axis ends in an arrowhead.
                for end, beyond, head in ((left, measure.low < left, "<"), (right, measure.high > right, ">")):
                    if beyond:
                        axes.plot(end, place, marker=head, markersize=5, color=colour, clip_on=False, zorder=2)
        outside = "<" if measure.value < left else ">" if measure.value > right else ""
        axes.plot(
            min(max(measure.value, left), right),
            place,
            marker=outside or marker,
            markersize=7 if marker != "D" else 6.2,
            markerfacecolor=colour if row.label_free else PAPER,
            markeredgecolor=colour,
            markeredgewidth=1.6,
            clip_on=False,
            zorder=3,
        )


def _reference(axes: Any, value: float, name: str, side: str, colour: str = MUTED) -> None:
    left, right = axes.get_xlim()
    if left <= value <= right:
        axes.axvline(value, color=colour, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        place = (value, 1.0)
        axes.annotate(
            name,
            place,
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=colour,
        )


def _legend(figure: Any, rows: Sequence[ReportRow]) -> None:
    handles = []
    for labels, (colour, marker, named) in LABELS.items():
        if any(row.labels_used == labels for row in rows):
            handles.append(_handle(marker, colour, colour, named))
    if any(row.label_free for row in rows):
        handles.append(_handle("o", MUTED, MUTED, "filled: label-free"))
    if not all(row.label_free for row in rows):
        handles.append(_handle("o", MUTED, PAPER, "hollow: reference"))
    place = (0.01, 1 - 0.06 / figure.get_figheight())
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=place,
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
        columnspacing=1.1,
        borderpad=0,
    )


def _handle(marker: str, edge: str, face: str, label: str) -> Any:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=6.5, markeredgecolor=edge, markerfacecolor=face, label=label
    )


def _line_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    styles: dict[str, dict[str, Any]] = {
        "untrained": {"color": "#8a8f99", "linewidth": 1.8, "linestyle": "-"},
        "transfer": {"color": INK, "linewidth": 2.2, "linestyle": "-"},
    }
    others = [method for method in methods if method not in styles]
    for at, method in enumerate(others):
        # Hue and dash turn together: neighbours differ without colour, and 7 hues with 4 dashes repeat only after 28.
        dash = DASHES[at % len(DASHES)]
        styles[method] = {"color": HUES[at % len(HUES)], "linewidth": 1.5, "linestyle": dash}
    return styles


def _recovered(target: ReportTarget) -> list[ReportRow]:
    rows = [row for row in target.rows if row.label_free or row.role == "transfer"]
    return rows if any(row.measure("gap_recovered").value is not None for row in rows) else []


def _measures(rows: Sequence[ReportRow], name: str) -> list[Measure]:
    return [measure for row in rows if (measure := row.measure(name)).value is not None]


def _ends(measure: Measure) -> list[float]:
    return [end for end in (measure.low, measure.value, measure.high) if end is not None]


def _auroc_alt(target: ReportTarget) -> str:
    figures = "; ".join(f"{row.method} {words(row.measure('auroc'))}" for row in target.rows)
    return f"AUROC with intervals on {target.name}: {figures}."


def _gap_alt(target: ReportTarget) -> str:
    held = [(row.method, row.measure("gap_recovered")) for row in _recovered(target)]
    said = [
        f"{method} {'undefined' if gap.value is None else f'{gap.value:.0%}{interval(gap, percent=True)}'}"
        for method, gap in held
    ]
    return f"Gap recovered on {target.name}: {'; '.join(said)}."


def _fit(name: str, length: int = 20) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
