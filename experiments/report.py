"""The page of an experiment or a benchmark: `report.html` in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elicit.files import read_json, write_text
from elicit.reports.page import Page, Section, Table, render_page
from elicit.run_folder import versions
from experiments import EXPERIMENTS
from experiments.machine import in_words, time_in_words
from experiments.resume import ASKED

if TYPE_CHECKING:
    from experiments.experiment import Findings


WIDEST = 12  # values of one row under one name that a table shows


def write_report(results: Mapping[str, Any], findings: Findings, manifest: Mapping[str, Any], path: Path) -> Path:
    """Write the page to `path`: whole or not at all."""
    page = Page(
        kicker=f"elicit-experiment {results['experiment']}",
        title=EXPERIMENTS[results["experiment"]],
        facts=[("Preset", results["preset"]), *_sizes(manifest["sizes"])],
        summary=results["summary"],
        warnings=results["warnings"],
        sections=findings.sections,
        measured=findings.measured,
        command=results["command"],
        environment=[*_calls(manifest.get("calls", [])), *manifest["versions"].items()],
    )
    write_text(path, render_page(page))
    return path


def _calls(calls: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """When, where, how long and by which commit, of the calls that made a folder what it is."""
    told = [call for call in calls if "began" in call]
    if not told:
        return []
    machines = dict.fromkeys(in_words(call["machine"]) for call in told)
    commits = dict.fromkeys(call["commit"] for call in told if call["commit"])
    found = [("began", told[0]["began"]), ("measuring took", time_in_words(calls)), ("machine", "; ".join(machines))]
    found.append(("threads", ", ".join(dict.fromkeys(str(call["machine"]["threads"]) for call in told))))
    return found + ([("commit", ", ".join(commits))] if commits else [])


def write_benchmark_page(folder: Path, kicker: str, question: str, command: str) -> Path:
    """Write the page of a benchmark beside its `results.json`: all that this holds, as tables."""
    results = read_json(folder / "results.json")
    held = {name: value for name, value in results.items() if name not in ASKED and value}
    sizes = {name: value for name, value in held.items() if not isinstance(value, Mapping | list)}
    page = Page(
        kicker=kicker,
        title=question,
        facts=_sizes({name: value for name, value in (results.get("options", {}) | sizes).items() if value}),
        summary=(),
        warnings=None,
        sections=[Section("Figures", tables=[_table(name, held[name]) for name in held if name not in sizes])],
        measured=(
            "Tables hold all that results.json does but for single texts; what the folder's earlier calls measured stays.",
        ),
        command=command,
        environment=list(versions().items()),
    )
    path = folder / "report.html"
    write_text(path, render_page(page))
    return path


def _table(name: str, held: Mapping[str, Any] | list[Any]) -> Table:
    """Rows, rows by name, or values by name."""
    caption = name.replace("_", " ").capitalize()
    if isinstance(held, list):
        rows = [_flat(row) for row in held]
    elif all(isinstance(row, Mapping) for row in held.values()):
        rows = [{"": key} | _flat(row) for key, row in held.items()]
    else:
        return Table(caption, ("", "Value"), list(_flat(held).items()))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    titles = [column.capitalize() for column in columns]
    return Table(caption, titles, [[row.get(column) for column in columns] for row in rows])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names that lead to them; figures with intervals stay whole, and what names single texts is left out."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping) and "value" not in value:
            if len(value) <= WIDEST:
                found |= {f"{name}, {inner}": held for inner, held in _flat(value).items()}
        elif isinstance(value, list):
            if len(value) <= WIDEST:
                found[name] = _words(value)
        else:
            found[name] = value
    return found


def _sizes(sizes: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " ").capitalize(), _words(value)) for name, value in sizes.items() if value not in ("", [])
    ]


def _words(value: Any) -> str:
    if isinstance(value, Mapping) and any(isinstance(held, Mapping) for held in value.values()):
        return "; ".join(value)  # what each of them holds is in results.json
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(held)}" for name, held in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_words, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
