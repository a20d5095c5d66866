"""What all figures share: one look, SVG that is the same for the same input, words for those who do not see it.

Drawn on matplotlib's `Figure` objects without pyplot, so that importing or drawing changes no state of the caller's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.style

from elicit.files import write_text

# Okabe and Ito's palette, which people with the common colour-vision deficiencies can tell apart.
HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A6A00")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
INK, MUTED, FAINT, PAPER = "#1d2433", "#5b6475", "#d9dde5", "#ffffff"
# Colours that a page has its own, lighter or darker, tone of: see report.css.
VARIABLES = {INK: "ink", MUTED: "muted", FAINT: "line", PAPER: "paper", "#0072b2": "blue", "#7a6a00": "olive"}
WIDTH = 7.6  # inches
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "elicit",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Attributes:
        name: of its file, without the ending.
        kind: of figure, by which a page finds it.
        alt: what it shows, for people who do not see it.
        svg: the figure itself, an `<svg>` element.
        target: the target that it is about, or None for all of them.
        caption: what stands below it.
    """

    name: str
    kind: str
    alt: str
    svg: str
    target: str | None = None
    caption: str = ""

    def file(self) -> str:
        """The figure as a file of its own, with its description in it, and paper below: it may be shown on a dark page."""
        paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return self.svg.replace(">", f' role="img"><desc>{escape(self.alt)}</desc>{paper}', 1)

    def inline(self) -> str:
        """The figure as a part of a page: ids of its own, the page's colours, and no style sheet, since the page has one."""
        svg = re.sub(r"<style\b.*?</style>", "", self.svg, flags=re.DOTALL)
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r"url\(#", f"url(#{self.name}-", svg)
        svg = re.sub(r'href="#', f'href="#{self.name}-', svg)
        for colour, variable in VARIABLES.items():
            svg = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--{variable})", svg, flags=re.IGNORECASE)
        described = f' role="img" focusable="false" aria-labelledby="{self.name}-said"'
        return svg.replace(">", f'{described}><desc id="{self.name}-said">{escape(self.alt)}</desc>', 1)


def svg(draw: Callable[[], Any]) -> str:
    """The `<svg>` element of a figure."""
    # The default style first: a user's matplotlibrc must not change a report.
    with matplotlib.style.context(["default", STYLE]):
        held = io.StringIO()
        draw().savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    return text[text.index("<svg") :]


def write_drawings(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write each figure as an SVG file into `folder`, which is made if it is missing; each file whole or not at all."""
    paths = []
    for drawing in drawings:
        path = folder / f"{drawing.name}.svg"
        write_text(path, drawing.file())
        paths.append(path)
    return paths


def file_name(name: str) -> str:
    """A name as a part of a file's name and of an id."""
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
    return kept.strip("-")[:60] or "target"
