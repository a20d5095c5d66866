"""Tables of the README, made of results: `python -m experiments.readme FOLDER…` keeps a folder's results and writes its table anew.

`experiments/measured/NAME.json` holds the results of the default preset of an experiment, and the README, between
`<!-- measured: NAME -->` and `<!-- /measured -->`, what `TABLES[NAME]` makes of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from elicit.errors import RunError
from elicit.files import read_json, write_text

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "experiments" / "measured"
Results = Mapping[str, Any]


def keep(folder: Path) -> str:
    """Copy the results of a folder to the repository; the name of the experiment.

    Raises:
        RunError: they are not of a default preset, or of an experiment that has no table.
    """
    results = read_json(folder / "results.json")
    name, preset = results.get("experiment"), results.get("preset")
    if name not in TABLES or preset != "default":
        raise RunError(
            f"{folder} holds {preset} results of {name}; the README shows the default ones of {', '.join(TABLES)}"
        )
    kept = {
        "experiment": name,
        "preset": preset,
        "versions": read_json(folder / "manifest.json")["versions"],
        "summary": results["summary"],
        "warnings": results["warnings"],
        "rows": results["rows"],
    }
    MEASURED.mkdir(exist_ok=True)
    lines = json.dumps(kept | {"rows": "ROWS"}, indent=1, ensure_ascii=False)
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in kept["rows"])
    write_text(MEASURED / f"{name}.json", lines.replace('"ROWS"', f"[\n{rows}\n]") + "\n")
    return str(name)


def written(readme: str) -> str:
    """The README with every table made anew."""

    def table(found: re.Match[str]) -> str:
        results = read_json(MEASURED / f"{found[1]}.json")
        return f"<!-- measured: {found[1]} -->\n{TABLES[found[1]](results)}\n<!-- /measured -->"

    return re.sub(r"<!-- measured: ([\w-]+) -->\n.*?<!-- /measured -->", table, readme, flags=re.DOTALL)


def summaries(results: Results) -> str:
    """What was found, how good summaries are, and what they keep of the verdict."""
    rows = results["rows"]
    quality = [
        [row["model"], *(figure(row[key]) for key in ("rougeL", "loss"))] for row in rows if row["kind"] == "quality"
    ]
    survival = [
        [
            row["reader"],
            row["writer"],
            *(figure(row[key]) for key in ("auroc_text", "auroc_summary", "same_verdict")),
        ]
        for row in rows
        if row["kind"] == "survival"
    ]
    return "\n\n".join(
        [
            bullets(results["summary"]),
            markdown(["summary by", "ROUGE-L", "loss on experts’ summaries"], quality),
            markdown(["monitor", "summary by", "AUROC, text", "AUROC, summary", "same verdict"], survival),
        ]
    )


def figure(entry: Mapping[str, Any]) -> str:
    """A figure of `results.json` with its interval, as in .93 [.89, .97]."""
    if entry["value"] is None:
        return "–"
    value, low, high = (re.sub(r"^(-?)0\.", r"\1.", f"{entry[key]:.2f}") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def bullets(sentences: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"* {sentence}" for sentence in sentences)


TABLES: dict[str, Callable[[Results], str]] = {"summaries": summaries}


def main(folders: Sequence[str]) -> None:
    """Keep the results of these folders, and write the README."""
    for folder in folders:
        keep(Path(folder))
    path = ROOT / "README.md"
    write_text(path, written(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
