"""Self-contained HTML pages, which can be mailed, archived and opened years later.

Names, questions, reasons and warnings come from data and are escaped. A page's policy forbids everything from outside and
runs only the one script whose hash it names, so that nothing which slips in as markup can act.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from elicit.reports.cells import Cell, as_cell
from elicit.reports.drawing import Drawing


@dataclass(frozen=True)
class Table:
    """A table that readers can sort.

    Attributes:
        caption: what it shows.
        columns: their titles; the first column names the rows.
        rows: what stands in each cell: a figure as `{"value", "low", "high"}` or undefined, a number, a word, None, or a `Cell`.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Section:
    """A part of a page: sentences, then figures, then tables."""

    title: str
    words: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A page of sections.

    Attributes:
        kicker, title: what stands on top, in small and in large type.
        facts: names and values below the title.
        summary: what was found, in plain words.
        warnings: every alarm; None where none is looked for.
        sections: the findings.
        measured: how they were measured, sentence by sentence.
        command: the command that makes this page again.
        environment: names and values at the end.
    """

    kicker: str
    title: str
    facts: Sequence[tuple[str, str]]
    summary: Sequence[str]
    warnings: Sequence[str] | None
    sections: Sequence[Section]
    measured: Sequence[str]
    command: str
    environment: Sequence[tuple[str, str]]


def render_page(page: Page) -> str:
    """The page as text."""
    sections = [
        {
            "id": f"part-{at}",
            "title": section.title,
            "words": section.words,
            "drawings": section.drawings,
            "tables": [_shown(table) for table in section.tables],
        }
        for at, section in enumerate(page.sections, start=1)
    ]
    return render("page.html.j2", page=page, sections=sections)


def render(template: str, **context: Any) -> str:
    """A template of this package with the shared script and style sheet, under a policy that names their hashes."""
    script, style = _packaged("report.js"), _packaged("report.css")
    environment = Environment(
        loader=PackageLoader("elicit.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        policy=_policy(script, style), script=Markup(script), style=Markup(style), **context
    )


def _shown(table: Table) -> Mapping[str, Any]:
    """A table's cells. Why a figure is undefined is often the same for many: notes number the reasons."""
    notes: dict[str, int] = {}
    rows = []
    for row in table.rows:
        cells = []
        for held in row:
            cell = as_cell(held)
            if cell.kind == "undefined" and cell.small:
                notes.setdefault(cell.small, len(notes) + 1)
                cell = Cell(cell.text, f"note {notes[cell.small]}", kind="undefined")
            cells.append(cell)
        rows.append(cells)
    numeric = [
        any(row[at].kind == "number" for row in rows)
        and all(row[at].kind != "text" or not row[at].sort for row in rows)
        for at in range(len(table.columns))
    ]
    return {
        "caption": table.caption,
        "columns": list(zip(table.columns, numeric, strict=True)),
        "rows": rows,
        "notes": notes,
    }


def _policy(script: str, style: str) -> str:
    # Style attributes stay allowed because matplotlib writes them; with nothing loadable they cannot send anything anywhere.
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src-elem '{_hash(style)}'",
            "style-src-attr 'unsafe-inline'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _packaged(name: str) -> str:
    return files("elicit.reports").joinpath(name).read_text(encoding="utf-8")
