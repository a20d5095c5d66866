"""The page of an experiment: `report.html` in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elicit.files import write_text
from elicit.reports.page import Page, render_page
from experiments import EXPERIMENTS

if TYPE_CHECKING:
    from experiments.experiment import Findings


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
        environment=list(manifest["versions"].items()),
    )
    write_text(path, render_page(page))
    return path


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
