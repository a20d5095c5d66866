"""The table that a run prints: plain text that fits the terminal, one block per target.

Where the terminal is narrow whole columns are left out, the least important first; no line is ever longer than the width, so
that no terminal wraps one in the middle. What a left-out column would have warned about (coverage below 1) stays as a note.
"""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from elicit.reports.rows import Measure, ReportRow, ReportTarget, Results, read_targets

NARROWEST = 30
LONGEST_NAME = 28
GAP = "  "
COLUMNS_WHEN_PIPED = 120
READINGS = {"worse": "below transfer", "better": "above transfer"}


@dataclass(frozen=True)
class Column:
    """One column. Those with a higher `drop` go first when the width is short; 0 stays, but gives way to `shorter`."""

    title: str
    cell: Callable[[ReportRow], str]
    drop: int
    right: bool = True
    shorter: Callable[[ReportRow], str] | None = None


def render_table(results: Results, width: int | None = None) -> str:
    """The table of a run as text.

    Args:
        results: what `results.json` holds.
        width: columns of the terminal; None asks the terminal, and takes 120 where there is none.
    """
    if width is None:
        width = shutil.get_terminal_size((COLUMNS_WHEN_PIPED, 24)).columns
    width = max(NARROWEST, width)
    blocks = [_block(target, width) for target in read_targets(results)]
    return "\n\n".join(blocks) if blocks else "No results yet."


def _block(target: ReportTarget, width: int) -> str:
    lines = _wrap(f"{_clean(target.name)}   {target.size}".rstrip(), width)
    if not target.rows:
        return "\n".join([*lines, *_wrap("no method has been measured yet", width, "  ")])
    table, left_out = _grid(target.rows, width)
    lines += table
    if left_out:
        lines += _wrap(f"left out in {width} columns: {', '.join(left_out)}; they are in the report", width, "  ")
    for note in _notes(target.rows):
        lines += _wrap(note, width, "  ")
    return "\n".join(lines)


def _grid(rows: tuple[ReportRow, ...], width: int) -> tuple[list[str], list[str]]:
    """The table's lines, and the titles of the columns for which there was no room."""
    columns = _columns(rows)
    left_out = list[str]()
    while True:
        table = [
            [column.title for column in columns],
            *([_clean(column.cell(row)) for column in columns] for row in rows),
        ]
        widths = [max(_display_width(line[at]) for line in table) for at in range(len(columns))]
        spare = width - sum(widths) - len(GAP) * (len(columns) - 1)
        droppable = max(columns, key=lambda column: column.drop)
        if spare >= 0:
            break
        if droppable.drop > 0:
            columns = [column for column in columns if column is not droppable]
            left_out.append(droppable.title)
        elif any(column.shorter for column in columns):
            columns = [replace(column, cell=column.shorter or column.cell, shorter=None) for column in columns]
        else:
            break
    # Only the name can still give way: the figure and "below transfer" are what the table is for.
    widths[0] = max(1, widths[0] + min(spare, 0))
    lines = [_line(line, widths, columns) for line in table]
    rule = GAP.join("-" * size for size in widths)
    body = []
    for at, (row, line) in enumerate(zip(rows, lines[1:], strict=True)):
        if at and row.label_free != rows[at - 1].label_free:
            body.append("")
        body.append(line)
    return [_cut(line, width) for line in (lines[0], rule, *body)], left_out


def _columns(rows: Iterable[ReportRow]) -> list[Column]:
    held = list(rows)
    columns = [
        Column("method", lambda row: _cut(_clean(row.method), LONGEST_NAME), 0, right=False),
        Column("labels", lambda row: row.labels_used, 2, right=False),
        Column("AUROC", lambda row: row.absent or _number(row.measure("auroc")), 0, False, _auroc_alone),
        Column("TPR@5%", lambda row: _short(row.measure("tpr_at_5_fpr")), 5),
        Column("bal. acc.", lambda row: _short(row.measure("balanced_accuracy")), 6),
        Column("gap recovered", lambda row: _percent(row.measure("gap_recovered")), 3, right=False),
    ]
    if any(row.coverage is not None and row.coverage < 1 for row in held):
        columns.append(Column("coverage", _coverage, 4))
    if any(row.reading in READINGS for row in held):
        columns.append(Column("vs transfer", lambda row: READINGS.get(row.reading or "", ""), 0, right=False))
    return columns


def _notes(rows: tuple[ReportRow, ...]) -> list[str]:
    """What the cells cannot say: failures, reasons and unscored texts, methods with the same reason together."""
    undefined: dict[str, list[str]] = {}
    notes = []
    for row in rows:
        if row.error:
            notes.append(f"{row.method} failed: {row.error}")
            continue
        if row.skipped:
            undefined.setdefault(f"not run ({row.skipped})", []).append(row.method)
            continue
        if row.measure("auroc").value is None:
            undefined.setdefault(f"no AUROC ({row.measure('auroc').undefined})", []).append(row.method)
        elif "gap_recovered" in row.held and row.label_free and row.measure("gap_recovered").value is None:
            reason = f"gap recovered is undefined ({row.measure('gap_recovered').undefined})"
            undefined.setdefault(reason, []).append(row.method)
        if row.unscored or (row.coverage is not None and row.coverage < 1):
            reasons = ", ".join(f"{count} x {reason}" for reason, count in row.unscored.items())
            notes.append(f"{row.method} leaves texts unscored, coverage {_coverage(row)}: {reasons}".rstrip(": "))
        notes += [f"{row.method}: {warning}" for warning in row.warnings]
    notes += [warning for warning in dict.fromkeys(row.interval_warning for row in rows) if warning]
    return [_clean(note) for note in [*(f"{', '.join(who)}: {why}" for why, who in undefined.items()), *notes]]


def _auroc_alone(row: ReportRow) -> str:
    return row.absent or _short(row.measure("auroc"))


def _number(measure: Measure) -> str:
    if measure.value is None:
        return "undefined"
    interval = f" [{measure.low:z.2f}, {measure.high:z.2f}]" if measure.has_interval else ""
    return f"{measure.value:z.2f}{interval}"


def _percent(measure: Measure) -> str:
    if measure.value is None:
        return "–"
    interval = (
        f" [{100 * measure.low:z.0f}, {100 * measure.high:z.0f}]"
        if measure.low is not None and measure.high is not None
        else ""
    )
    return f"{100 * measure.value:z.0f}%{interval}"


def _short(measure: Measure) -> str:
    return "–" if measure.value is None else f"{measure.value:.2f}"


def _coverage(row: ReportRow) -> str:
    # Rounded down, so that 99.9 % never reads as complete.
    return "–" if row.coverage is None else f"{int(1000 * row.coverage + 1e-9) / 10:g}%"


def _line(cells: list[str], widths: list[int], columns: list[Column]) -> str:
    padded = []
    for cell, size, column in zip(cells, widths, columns, strict=True):
        cell = _cut(cell, size)
        space = " " * (size - _display_width(cell))
        padded.append(space + cell if column.right else cell + space)
    return GAP.join(padded).rstrip()


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent * 2)
    return [_cut(line, width) for line in lines]


def _cut(text: str, width: int) -> str:
    if _display_width(text) <= width:
        return text
    kept = ""
    for character in text:
        if _display_width(kept + character) > width - 1:
            break
        kept += character
    return kept + "…"


def _clean(text: str) -> str:
    """Names and reasons are data: an escape sequence or a line break inside one must not act on the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _display_width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    combining = sum(bool(unicodedata.combining(character)) for character in text)
    return len(text) + wide - combining
