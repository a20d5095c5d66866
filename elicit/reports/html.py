"""The HTML page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from elicit.files import write_text
from elicit.reports.cells import DASH, Cell, measure_cell, share
from elicit.reports.figures import draw_figures
from elicit.reports.page import render
from elicit.reports.rows import ReportRow, ReportTarget, Results, mappings, question_text, read_targets, texts
from elicit.reports.summary import overview, target_words

LABELS = {"none": "no labels", "source": "source labels", "target": "target labels"}
DETAILS = (
    ("average_precision", "Average precision"),
    ("accuracy", "Accuracy"),
    ("f1", "F1"),
    ("kappa", "Cohen’s κ"),
    ("tpr_at_1_fpr", "TPR at 1 % FPR"),
    ("ece", "ECE"),
    ("brier", "Brier"),
)
COSTS = ("FPR reached for 1 % / 5 %", "Threshold", "Verdict mass", "Texts measured", "Seconds", "Tokens")


def write_report(results: Results, path: Path) -> Path:
    """Write the page to `path`: whole or not at all.

    Args:
        results: what `results.json` holds.
        path: the HTML file; its folder is made if it is missing.

    Raises:
        RunError: the file cannot be written; what was there before stays.
    """
    write_text(path, render_report(results))
    return path


def render_report(results: Results) -> str:
    """The page as text."""
    targets, across = read_targets(results), overview(results)
    return render(
        "report.html.j2",
        title=str(results.get("model") or "unnamed model"),
        facts=_facts(results, targets),
        overview=across,
        targets=[_target(target, at) for at, target in enumerate(targets, start=1)],
        drawings=draw_figures(results),
        accounting=_accounting(targets),
        sources=[_domain(held) for held in mappings(results.get("sources"))],
        held_out=[_domain(target.held) | {"name": target.name, "labelled": target.labelled} for target in targets],
        warnings=_warnings(results, targets),
        environment=_environment(results),
        command=str(results.get("command") or ""),
        details=[*(title for _, title in DETAILS), *COSTS],
    )


def _target(target: ReportTarget, at: int) -> dict[str, Any]:
    notes: dict[str, int] = {}
    return {
        "id": f"target-{at}",
        "name": target.name,
        "question": target.question,
        "size": target.size,
        "labelled": target.labelled,
        "sensitive": target.held.get("sensitive") is True,
        "words": target_words(target),
        "rows": [_row(row, notes) for row in target.rows],
        "notes": notes,
        "searches": [(row.method, said) for row in target.rows if (said := _details(row.held.get("details")))],
    }


def _details(held: Any) -> list[tuple[str, str]]:
    """What a method's search says of itself, in words."""
    if not isinstance(held, Mapping):
        return []
    return [
        (str(name).replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in held.items()
    ]


def _row(row: ReportRow, notes: dict[str, int]) -> dict[str, Any]:
    """What the tables show of a row. Why a figure is undefined is often the same for many: `notes` numbers the reasons."""

    def cell(name: str, percent: bool = False, signed: bool = False) -> Cell:
        measure = row.measure(name)
        if measure.value is None and not row.absent:
            notes.setdefault(measure.undefined, len(notes) + 1)
            return Cell("undefined", f"note {notes[measure.undefined]}", kind="undefined")
        return measure_cell(measure, percent, signed)

    versus = Cell(DASH, kind="text") if row.method == "transfer" else cell("versus_transfer", signed=True)
    return {
        "method": row.method,
        "description": row.description,
        "absent": row.absent,
        "why": row.error or row.skipped,
        "label_free": row.label_free,
        "labels": row.labels_used,
        "labels_said": LABELS.get(row.labels_used, "not recorded"),
        "main": [
            cell("auroc"),
            cell("tpr_at_5_fpr"),
            cell("balanced_accuracy"),
            cell("gap_recovered", percent=True),
            versus,
            _coverage(row),
        ],
        "more": [
            *(cell(name) for name, _ in DETAILS),
            _reached(row),
            _plain(row.held.get("threshold"), "{:.4g}", _calibration(row)),
            _plain(row.held.get("verdict_mass"), "{:.3f}"),
            _plain(row.n, "{:.0f}"),
            _plain(row.held.get("seconds"), "{:,.1f}"),
            _plain(row.held.get("tokens"), "{:,.0f}"),
        ],
        "reading": row.reading,
    }


def _coverage(row: ReportRow) -> Cell:
    if row.coverage is None:
        return Cell(DASH, kind="text")
    reasons = ", ".join(f"{count} × {reason}" for reason, count in row.unscored.items())
    return replace(share(row.coverage), small=reasons)


def _plain(held: Any, form: str, small: str = "") -> Cell:
    if isinstance(held, bool) or not isinstance(held, int | float):
        return Cell(DASH, small, kind="text")
    return Cell(form.format(held), small, repr(float(held)))


def _calibration(row: ReportRow) -> str:
    held = row.held.get("calibration")
    return str(held.get("kind", "") if isinstance(held, Mapping) else held or "")


def _achieved(row: ReportRow, name: str) -> float | None:
    held = row.held.get(name)
    achieved = held.get("achieved_fpr") if isinstance(held, Mapping) else None
    return float(achieved) if isinstance(achieved, int | float) and not isinstance(achieved, bool) else None


def _reached(row: ReportRow) -> Cell:
    """False positive rates of the thresholds behind the two TPRs: few cleared texts cannot resolve 1 %."""
    strict, lenient = (_achieved(row, name) for name in ("tpr_at_1_fpr", "tpr_at_5_fpr"))
    if strict is None and lenient is None:
        return Cell(DASH, kind="text")
    said = " / ".join(DASH if rate is None else f"{rate:.1%}" for rate in (strict, lenient))
    return Cell(said, sort=repr(lenient if strict is None else strict))


def _accounting(targets: list[ReportTarget]) -> list[dict[str, str]]:
    """Which method saw which labels: one line per method, as the run recorded it."""
    held: dict[str, dict[str, str]] = {}
    for target in targets:
        for row in target.rows:
            if row.role == "label-free" and row.labels_used == "source":
                saw = "no labels of the target; it starts from a monitor trained on source labels"
            else:
                saw = {
                    "none": "no labels in this run",
                    "source": "labels of the sources, none of the target",
                    "target": "labels of the target’s training split",
                }.get(row.labels_used, "not recorded")
            kind = "label-free method" if row.label_free else "reference"
            line = {"method": row.method, "description": row.description, "kind": kind, "saw": saw}
            # A method may have started differently on another target: then both are shown.
            held.setdefault(f"{row.method}\n{saw}", line | {"labels": row.labels_used})
    return list(held.values())


def _domain(held: Mapping[str, Any]) -> dict[str, Any]:
    parts = [(name, held.get(name)) for name in ("train", "calibration", "test")]
    splits = " / ".join(f"{size}" for _, size in parts) if any(size is not None for _, size in parts) else ""
    share = held.get("flagged_share")
    return {
        "name": str(held.get("name", "")),
        "question": question_text(held.get("question")),
        "rows": _rows(held),
        "notes": str(held.get("notes") or ""),
        "splits": splits,
        "flagged": f"{share:.1%}" if isinstance(share, int | float) and not isinstance(share, bool) else DASH,
        "licence": str(held.get("licence") or "not recorded"),
        "sensitive": held.get("sensitive") is True,
    }


def _rows(held: Mapping[str, Any]) -> str:
    rows, duplicates = held.get("rows"), held.get("duplicates")
    if rows is None:
        return ""
    noun = "duplicate" if duplicates == 1 else "duplicates"
    return f"{rows} ({duplicates} {noun} left out)" if duplicates else f"{rows}"


def _warnings(results: Results, targets: list[ReportTarget]) -> list[tuple[str, str]]:
    """(where, what) of every warning: of the run, of a method, or of one of its figures; each once."""
    found = [("run", warning) for warning in texts(results.get("warnings"))]
    for target in targets:
        for row in target.rows:
            where = f"{target.name}, {row.method}"
            if row.error:
                found.append((where, f"failed: {row.error}"))
            found += [(where, warning) for warning in row.warnings]
            for name in ("auroc", "gap_recovered", "versus_transfer"):
                if row.measure(name).warning:
                    found.append((where, f"{name}: {row.measure(name).warning}"))
        # The same for every method of a target, as they are about its texts.
        found += [
            (target.name, warning) for warning in dict.fromkeys(row.interval_warning for row in target.rows) if warning
        ]
        rates = {row.measure(name).warning for row in target.rows for name in ("tpr_at_1_fpr", "tpr_at_5_fpr")}
        found += [(target.name, warning) for warning in sorted(rates) if warning]
    return list(dict.fromkeys(found))


def _facts(results: Results, targets: list[ReportTarget]) -> list[tuple[str, str]]:
    sources = ", ".join(str(held.get("name", "")) for held in mappings(results.get("sources")))
    return [
        ("Model", str(results.get("model") or "not recorded")),
        ("Sources", sources or "none"),
        ("Targets", ", ".join(target.name for target in targets) or "none"),
        ("Created", str(results.get("created") or "not recorded")),
    ]


def _environment(results: Results) -> list[tuple[str, str]]:
    held = results.get("versions")
    lines = [(str(name), str(version)) for name, version in held.items()] if isinstance(held, Mapping) else []
    for name in ("seed", "seconds", "schema"):
        if results.get(name) is not None:
            value = results[name]
            lines.append((name, f"{value:,.1f}" if isinstance(value, float) else str(value)))
    return lines
