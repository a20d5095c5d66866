"""Charts for any experiment: a heat map, curves with bands, points with names, rows with intervals.

Shape and dash say what colour says, so that no chart needs colour to be read. A value that is None is drawn nowhere and said to be
undefined; nothing undefined becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from elicit.reports.drawing import DASHES, FAINT, HUES, INK, MARKERS, MUTED, PAPER, WIDTH, svg

ROW = 0.29  # inches
PANELS = 3  # beside each other
Grid = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Curve:
    """Points that are joined, with a band around them where there is one.

    Attributes:
        name: in the legend.
        x, y: (n,) the points.
        low, high: (n,) ends of the band, or nothing.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Point:
    """A named point; those of one group share colour and shape."""

    x: float
    y: float
    name: str = ""
    group: str = ""


@dataclass(frozen=True)
class Interval:
    """A named row with a value and its interval; those of one group share colour and shape."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    group: str = ""

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any], group: str = "") -> Interval:
        """From a figure of `results.json`."""
        return cls(name, entry.get("value"), entry.get("low"), entry.get("high"), group)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Grid,
    limits: tuple[float, float],
    form: str = "{:.2f}",
    label: str = "",
    words: Sequence[Sequence[str]] | None = None,
    middle: float | None = None,
) -> str:
    """A matrix as coloured cells, each with its value; None leaves a cell open.

    Args:
        rows, columns: names.
        values: (rows, columns).
        limits: values of the two ends of the colours; what lies beyond has the colour of the end.
        form: of a value.
        label: what the columns are.
        words: (rows, columns) what stands below each value, in small.
        middle: value at which colours of two kinds meet in a pale one; without it there is one kind.
    """

    def draw() -> Any:
        colours = matplotlib.colormaps["cividis" if middle is None else "PuOr"]
        scale = Normalize(*limits) if middle is None else TwoSlopeNorm(middle, *limits)
        side = max(0.62, min(1.1, 5.4 / max(1, len(columns))))
        left, bottom = 0.2 + 0.078 * max(map(len, rows)), 0.15
        top = 0.3 + 0.25 * bool(label) + 0.035 * max(map(len, columns))
        # Columns' names lean to the right, the last ones beyond the cells.
        ends = [side * (at + 0.5) + 0.072 * len(column) for at, column in enumerate(columns)]
        height, width = top + 0.42 * len(rows) + bottom, left + max(side * len(columns), *ends) + 0.15
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes(
            (left / width, bottom / height, side * len(columns) / width, 1 - (top + bottom) / height)
        )
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        for at, row in enumerate(values):
            for place, value in enumerate(row):
                shade = "none" if value is None else colours(scale(min(max(value, limits[0]), limits[1])))
                axes.add_patch(Rectangle((place, at), 1, 1, facecolor=shade, edgecolor=PAPER, linewidth=1.5))
                # Of the cell's own colour, whatever the page's is.
                ink = MUTED if isinstance(shade, str) else "#101418" if _luminance(shade) > 0.4 else "#fafbfc"
                said = DASH if value is None else _number(value, form)
                word = words[at][place] if words else ""
                height_of_value = at + (0.36 if word else 0.5)
                axes.text(place + 0.5, height_of_value, said, ha="center", va="center_baseline", color=ink, fontsize=9)
                axes.text(place + 0.5, at + 0.74, word, ha="center", va="center_baseline", color=ink, fontsize=6.5)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(label)
        axes.set_xticks([at + 0.5 for at in range(len(columns))])
        axes.set_xticklabels(columns, rotation=25, ha="left", rotation_mode="anchor", parse_math=False)
        axes.set_yticks([at + 0.5 for at in range(len(rows))])
        axes.set_yticklabels(rows, parse_math=False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return figure

    return svg(draw)


def _luminance(colour: tuple[float, float, float, float]) -> float:
    """How light a colour is, from 0 to 1 (ITU-R BT.709, on the values as they are)."""
    red, green, blue, _ = colour
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _number(value: float, form: str) -> str:
    written = form.format(value)
    if not any(digit in written for digit in "123456789"):
        written = written.lstrip("-")  # what is rounded to 0 has no sign
    return written.replace("-", "−")


def curves(
    panels: Mapping[str, Sequence[Curve]],
    x: str,
    y: str,
    ticks: Sequence[float] = (),
    logarithmic: bool = False,
    reference: tuple[float, str] | None = None,
) -> str:
    """Curves with bands: one panel per title, one legend for all.

    Args:
        panels: title → curves; a name has one colour, dash and marker in all panels.
        x, y: what the axes are.
        ticks: of the first axis, or none to let them be found.
        logarithmic: the first axis, near 0 linear so that 0 has a place.
        reference: a horizontal line and its name.
    """

    def draw() -> Any:
        names = list(dict.fromkeys(curve.name for held in panels.values() for curve in held))
        figure, all_axes = _panels(list(panels), len(names))
        for held, axes in zip(panels.values(), all_axes, strict=True):
            if reference is not None:
                axes.axhline(reference[0], color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
            for curve in held:
                look = _look(names.index(curve.name))
                if curve.low:
                    axes.fill_between(curve.x, curve.low, curve.high, color=look["color"], alpha=0.16, linewidth=0)
                axes.plot(curve.x, curve.y, **look, linewidth=1.7, markersize=4.5)
            if logarithmic:
                smallest = min((value for curve in held for value in curve.x if value > 0), default=1.0)
                axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
            if ticks:
                axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
            axes.set_xlabel(x)
        all_axes[0].set_ylabel(y)
        handles = [Line2D([], [], **_look(at), linewidth=1.7, markersize=4.5) for at in range(len(names))]
        if reference is not None:
            handles.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (3, 2))))
        _key(figure, handles, [*names, *([reference[1]] if reference else [])])
        return figure

    return svg(draw)


def scatter(
    panels: Mapping[str, Sequence[Point]], x: str, y: str, logarithmic: bool = False, front: bool = False
) -> str:
    """Points, with names where they have any, or at the front alone: one panel per title, one legend of groups for all.

    Args:
        panels: title → points.
        x, y: what the axes are.
        logarithmic: the first axis, where the points span more than a factor of three.
        front: join the points that no other one beats with as small an x and as large a y.
    """

    def draw() -> Any:
        groups = list(dict.fromkeys(point.group for held in panels.values() for point in held))
        figure, all_axes = _panels(list(panels), len(groups), columns=2)
        for held, axes in zip(panels.values(), all_axes, strict=True):
            best = pareto(held) if front else held
            if front:
                axes.step([p.x for p in best], [p.y for p in best], where="post", color=MUTED, linewidth=1, zorder=1)
            for at, group in enumerate(groups):
                own = [point for point in held if point.group == group]
                axes.plot([p.x for p in own], [p.y for p in own], **_mark(at), markersize=6, zorder=3)
            if logarithmic and max(p.x for p in held) > 3 * min(p.x for p in held) > 0:
                axes.set_xscale("log")
                wide = max(p.x for p in held) > 100 * min(p.x for p in held)
                axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
                axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.margins(x=0.12, y=0.12)
            _names(axes, best)
            axes.set_xlabel(x)
        all_axes[0].set_ylabel(y)
        if any(groups):
            _key(figure, [Line2D([], [], **_mark(at), markersize=6) for at in range(len(groups))], groups)
        return figure

    return svg(draw)


def intervals(
    panels: Mapping[str, Sequence[Interval]],
    x: str,
    form: str = "{:.3f}",
    references: Mapping[str, float] | None = None,
) -> str:
    """Rows with a value and its interval, one panel per title below the other, the numbers beside them.

    Args:
        panels: title → rows.
        x: what the axis is.
        form: of a number.
        references: name → place of a vertical line.
    """

    def draw() -> Any:
        groups = list(dict.fromkeys(row.group for held in panels.values() for row in held))
        top, between, bottom = 0.3 + 0.25 * any(groups) + 0.2 * bool(references), 0.75, 0.55
        height = top + sum(ROW * len(held) for held in panels.values()) + between * (len(panels) - 1) + bottom
        longest = max((len(row.name) for held in panels.values() for row in held), default=1)
        left = min(0.42, (0.25 + 0.078 * longest) / WIDTH)
        figure = Figure(figsize=(WIDTH, height))
        ends = [
            end for held in panels.values() for row in held for end in (row.low, row.value, row.high) if end is not None
        ]
        ends += list((references or {}).values())
        margin = 0.04 * ((max(ends) - min(ends)) or 1.0) if ends else 0.0
        limits = (min(ends) - margin, max(ends) + margin) if ends else (0.0, 1.0)
        edge, axes = height - top, None
        for title, held in panels.items():
            size = ROW * len(held)
            axes = figure.add_axes((left, (edge - size) / height, 0.75 - left, size / height))
            edge -= size + between
            axes.set_xlim(*limits)
            axes.set_ylim(len(held) - 0.5, -0.5)
            axes.set_yticks(range(len(held)), [row.name for row in held], parse_math=False)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.set_title(
                title, loc="left", fontsize=10, fontweight="bold", pad=18 if references else 8, parse_math=False
            )
            for name, place in (references or {}).items():
                axes.axvline(place, color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
                above: dict[str, Any] = {
                    "xytext": (0, 3),
                    "textcoords": "offset points",
                    "ha": "center",
                    "color": MUTED,
                }
                axes.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), fontsize=8.5, **above)
            for place, row in enumerate(held):
                said, colour = "undefined", MUTED
                if row.value is not None:
                    look, colour = _mark(groups.index(row.group)), INK
                    axes.plot(row.value, place, **look, markersize=6, clip_on=False, zorder=3)
                    said = _number(row.value, form)
                    if row.low is not None and row.high is not None:
                        axes.plot([row.low, row.high], [place, place], color=look["color"], linewidth=1.8, zorder=2)
                        said += f" [{_number(row.low, form)}, {_number(row.high, form)}]"
                beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center_baseline", "fontsize": 9}
                axes.annotate(said, (1.03, place), **beside, color=colour)
        if axes is not None:
            axes.set_xlabel(x)
        if any(groups):
            handles = [Line2D([], [], **_mark(at), markersize=6) for at in range(len(groups))]
            corner = (0.01, 1 - 0.06 / height)
            key = figure.legend(
                handles, groups, loc="upper left", bbox_to_anchor=corner, ncols=len(groups), frameon=False, fontsize=9
            )
            for text in key.get_texts():
                text.set_parse_math(False)
        return figure

    return svg(draw)


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points than which no other has both as small an x and a larger y, from the smallest x to the largest."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


DASH = "–"


def _panels(titles: Sequence[str], keys: int, columns: int = PANELS) -> tuple[Any, list[Any]]:
    """A figure of square-ish panels with room for a legend of so many keys below."""
    columns = min(columns, len(titles))
    lines = math.ceil(len(titles) / columns)
    side = 2.9 if columns > 1 else 3.4
    legend = 0.2 + 0.21 * math.ceil(keys / 4)
    height = lines * (side + 0.45) + legend + 0.45
    width = max(WIDTH, columns * (side + 0.35) + 0.4)
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(lines, columns, left=0.78 / width, right=0.985, top=1 - 0.35 / height)
    grid.update(bottom=(legend + 0.6) / height, wspace=0.3, hspace=0.42)
    all_axes = [figure.add_subplot(grid[at // columns, at % columns]) for at in range(len(titles))]
    for title, axes in zip(titles, all_axes, strict=True):
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", parse_math=False)
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, all_axes


def _key(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    key = figure.legend(handles, names, loc="lower center", ncols=4, frameon=False, fontsize=9, handlelength=2.4)
    for text in key.get_texts():
        text.set_parse_math(False)


def _look(at: int) -> dict[str, Any]:
    """Hue, dash and marker turn together: neighbours differ without colour."""
    return _hue_and_marker(at) | {"linestyle": DASHES[at % len(DASHES)]}


def _mark(at: int) -> dict[str, Any]:
    return _hue_and_marker(at) | {"linestyle": ""}


def _hue_and_marker(at: int) -> dict[str, Any]:
    return {"color": HUES[at % len(HUES)], "marker": MARKERS[(at + at // len(HUES)) % len(MARKERS)]}


def _names(axes: Any, points: Sequence[Point]) -> None:
    """Names beside their points, towards the middle, from the top; one that would cover the name above it moves down."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    middle = math.sqrt(left * right) if axes.get_xscale() == "log" else (left + right) / 2
    line = (high - low) * 0.06
    lowest = math.inf
    for point in sorted((p for p in points if p.name), key=lambda point: -point.y):
        lowest = min(point.y, lowest - line)
        axes.annotate(
            point.name,
            (point.x, point.y),
            # A little above the point, where the line of a front does not strike through it.
            xytext=(7 if point.x < middle else -7, (lowest - point.y) / (high - low) * 190 + 7),
            textcoords="offset points",
            ha="left" if point.x < middle else "right",
            va="center",
            fontsize=8,
            color=INK,
            parse_math=False,
            zorder=2,  # over the line of a front, which would strike it through, and below the points
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"},
        )
