"""Tables made of results: `python -m experiments.readme FOLDER…` keeps a folder's results and writes its table anew.

`experiments/measured/NAME.json` holds the results of a benchmark, or of the default preset of an experiment, and one of `PAGES`,
between `<!-- measured: NAME -->` and `<!-- /measured -->`, what `TABLES[NAME]` makes of them (of `NAME/PART`, of a part of them);
`experiments/figures` holds the drawings that it shows.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elicit.domains import load_domain
from elicit.errors import RunError
from elicit.evaluation.bootstrap import in_words
from elicit.files import read_json, write_json, write_text
from experiments.machine import in_words as machine
from experiments.machine import time_in_words
from experiments.markdown import bullets, figure, markdown, number
from experiments.readme_benchmarks import BENCHMARKS, model_of, sweep, without_texts
from experiments.survival import FAILS, FALLS, NO_BASELINE, NOTHING_TO_LOSE, REVERSED, SURVIVES, UNSETTLED, UNTOUCHED

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "experiments" / "measured"
FIGURES = ROOT / "experiments" / "figures"
PAGES = (ROOT / "README.md", ROOT / "experiments" / "README.md")
Results = Mapping[str, Any]


def keep(folder: Path) -> str:
    """Copy the results of a folder to the repository; the name of the experiment, or of the benchmark.

    Raises:
        RunError: they are not of a default preset as it is now, or of an experiment or benchmark that has no table.
    """
    results = read_json(folder / "results.json")
    if "benchmark" in results:
        return keep_benchmark(results)
    name, preset = results.get("experiment"), results.get("preset")
    if name not in TABLES or preset != "default":
        raise RunError(
            f"{folder} holds {preset} results of {name}; what is shown are the default ones of {', '.join(TABLES)}"
        )
    manifest = read_json(folder / "manifest.json")
    sizes = json.loads(
        json.dumps(asdict(importlib.import_module(f"experiments.{name.replace('-', '_')}").PRESETS[preset]))
    )
    if other := [key for key, value in sizes.items() if manifest["sizes"].get(key) != value]:
        raise RunError(
            f"{folder}: its {other[0]} is not that of the default preset; run the command again in another folder"
        )
    for domain, fingerprint in manifest["domains"].items():
        if load_domain(domain).fingerprint() != fingerprint:
            raise RunError(f"{folder}: its {domain} is not that of the catalogue")
    kept = {
        "experiment": name,
        "preset": preset,
        "sizes": sizes,
        "versions": manifest["versions"],
        "continued_with": manifest.get("continued_with", []),
        "calls": manifest.get("calls", []),
        "summary": results["summary"],
        "warnings": results["warnings"],
        "rows": results["rows"],
    }
    MEASURED.mkdir(exist_ok=True)
    lines = json.dumps(kept | {"rows": "ROWS"}, indent=1, ensure_ascii=False)
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in kept["rows"])
    write_text(MEASURED / f"{name}.json", lines.replace('"ROWS"', f"[\n{rows}\n]") + "\n")
    for drawing in DRAWINGS.get(name, ()):
        shutil.copyfile(folder / "figures" / drawing, FIGURES / f"{name}-{drawing}")
    return str(name)


def keep_benchmark(results: Results) -> str:
    """Copy the results of a benchmark to those that are kept of it, by model; parts measured with the same options stay.

    Raises:
        RunError: it has no table, or was interrupted.
    """
    name = f"benchmark-{results['benchmark']}"
    if name not in TABLES:
        raise RunError(f"there is no table for the benchmark {results['benchmark']!r}")
    if "unfinished" in results:
        raise RunError(f"this benchmark {results['benchmark']!r} was interrupted; run its command again")
    path = MEASURED / f"{name}.json"
    held = read_json(path) if path.is_file() else {"benchmark": results["benchmark"], "by_model": {}}
    new, before = without_texts(results), held["by_model"].get(model_of(results), {})
    if before.get("options") == new["options"]:
        machines = before.get("measured_on", {}) | new.get("measured_on", {})
        new = before | new | ({"measured_on": machines} if machines else {})
    held["by_model"][model_of(results)] = new
    write_json(path, held)
    return name


def written(page: str) -> str:
    """A page with every table made anew."""

    def table(found: re.Match[str]) -> str:
        file = f"{found[1].partition('/')[0]}.json"
        results = read_json(MEASURED / file)
        shown = [TABLES[found[1]](results), *told(results, file)]
        return f"<!-- measured: {found[1]} -->\n" + "\n\n".join(shown) + "\n<!-- /measured -->"

    return re.sub(r"<!-- measured: ([\w/-]+) -->\n.*?<!-- /measured -->", table, page, flags=re.DOTALL)


def told(results: Results, file: str) -> list[str]:
    """A sentence on what else a file of kept results tells: warnings, states of the code, and machines of a benchmark."""
    found = [f"warnings of this run ({count})"] if (count := len(results.get("warnings", ()))) else []
    if later := results.get("continued_with"):
        found.append(f"the {1 + len(later)} states of the code that made it")
    sentences = []
    calls = results.get("calls", [])
    if calls and all(call["seconds"] is not None for call in calls):
        machines = dict.fromkeys(machine(call["machine"]) for call in calls)
        sentences.append(f"It took {time_in_words(calls)} on {' and '.join(machines)}.")
    if found:
        noted = " and ".join(found)
        sentences.append(f"{noted[0].upper()}{noted[1:]} stand with its rows in `experiments/measured/{file}`.")
    for held in results.get("by_model", {}).values():
        sentences += [f"Measured on {machine(each)}." for each in held.get("measured_on", {}).values()]
    return [" ".join(dict.fromkeys(sentences))] if sentences else []


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


def elicitation(results: Results) -> str:
    """What transfer recovers and what nothing beats at its price; AUROC by method and target, from both starts."""
    rows = results["rows"]
    said = [sentence for sentence in results["summary"] if "against transfer" not in sentence]  # which the arrows show
    targets = list(dict.fromkeys(row["target"] for row in rows))

    def cells(method: str, starts: Sequence[str]) -> list[str]:
        held = {row["target"]: row for row in rows if row["method"] == method and row["start"] in starts}
        return [marked(held[target]) if target in held else "–" for target in targets]

    def table(title: str, starts: Sequence[str]) -> str:
        methods = dict.fromkeys(row["method"] for row in rows if row["start"] in starts)
        body = [[f"`{method}`", *cells(method, starts)] for method in methods]
        return markdown([title, *targets], body)

    return "\n\n".join(
        [
            bullets(said),
            table("method, from the source-trained model", ("", "source-trained")),
            table("method, from the untrained model", ("untrained",)),
        ]
    )


def marked(row: Mapping[str, Any]) -> str:
    """AUROC, with an arrow where its paired difference from transfer excludes 0."""
    return figure(row["auroc"]) + arrow(row["versus_transfer"])


def arrow(difference: Mapping[str, Any]) -> str:
    """Up or down where the interval of a difference excludes 0."""
    return {"better": " ↑", "worse": " ↓"}.get(difference.get("reading", ""), "")


def prompt_change(results: Results) -> str:
    """Question-following, what instructions lose, and transfer by plan."""
    rows = results["rows"]
    targets = list(dict.fromkeys(row["target"] for row in rows if row["kind"] == "transfer"))
    auroc = {(row["plan"], row["target"]): row["auroc"] for row in rows if row["kind"] == "transfer"}
    body = [
        [
            row["plan"],
            *(figure(row["following"][kind]) for kind in row["following"]),
            "–" if row["plan"] == "untrained" else in_words(row["loss_growth"], ".0%", "+"),
            figure(row["pass_rate"]),
            *(figure(auroc[row["plan"], target]) for target in targets),
        ]
        for row in rows
        if row["kind"] == "suite"
    ]
    head = ["training", "inverted question", "unrelated questions", "growth of the loss", "instructions right"]
    return markdown([*head, *(f"AUROC {target}" for target in targets)], body)


def instruction(results: Results) -> str:
    """The same by share of instructions and loss, and what the mean over tokens changes."""
    said = [sentence for sentence in results["summary"] if sentence.startswith("Mean over tokens ")]
    return "\n\n".join([bullets(said), prompt_change(results)] if said else [prompt_change(results)])


def scaling(results: Results) -> str:
    """What adjacent labels are worth; AUROC by number of adjacent and of target labels."""
    cells = [row for row in results["rows"] if row["kind"] == "cell"]
    numbers = list(dict.fromkeys(row["target_labels"] for row in cells))
    grid: dict[tuple[str, int], list[str]] = {}
    for row in cells:
        grid.setdefault((row["target"], row["adjacent_labels"]), []).append(figure(row["auroc"]))
    body = [[target, str(adjacent), *found] for (target, adjacent), found in grid.items()]
    head = ["target", "adjacent labels", *(f"{number} target labels" for number in numbers)]
    return f"{bullets(results['summary'])}\n\n{markdown(head, body)}"


def transfer(results: Results) -> str:
    """AUROC of every source on every target, and of several together."""
    rows = [row for row in results["rows"] if "target" in row and row["kind"] != "distance"]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    trained: dict[str, dict[str, str]] = {}
    for row in rows:
        alone = row["kind"] in ("one domain", "own labels")
        name = row["sources"][0] if alone else row["kind"]
        trained.setdefault(name, {})[row["target"]] = figure(row["auroc"]) + (
            " (own)" if row["kind"] == "own labels" else ""
        )
    order = ["untrained", *targets, *(name for name in trained if name not in (*targets, "untrained"))]
    body = [[name, *(trained[name].get(target, "–") for target in targets)] for name in order]
    return f"{bullets(results['summary'])}\n\n{markdown(['trained on', *targets], body)}"


def thinking(results: Results) -> str:
    """What reasoning and students do to verdicts: AUROC by way to a verdict and target; written ones in words alone."""
    rows = [row for row in results["rows"] if row["reading"] != "written"]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    ways: dict[str, dict[str, str]] = {}
    for row in rows:
        name = f"{row['start']} model, {row['reading']} verdict"
        if row["reading"] == "forced":
            name += f" after {row['budget']} tokens" if row["budget"] else " at once"
        elif row["teacher"]:
            name = f"student of {row['teacher']}"
        elif not row["start"]:
            name = row["reading"]
        ways.setdefault(name, {})[row["target"]] = figure(row["auroc"])
    body = [[name, *(held.get(target, "–") for target in targets)] for name, held in ways.items()]
    return f"{bullets(results['summary'])}\n\n{markdown(['way to a verdict', *targets], body)}"


def control(results: Results) -> str:
    """AUROC by reading, and the harm that an auditor sees at the largest budget."""
    rows: dict[str, dict[str, Results]] = {}
    for row in results["rows"]:
        rows.setdefault(row["monitor"], {})[row["reading"]] = row
    readings = list(dict.fromkeys(row["reading"] for row in results["rows"]))
    first = results["rows"][0]["safety, harm rare"][-1]
    body = [
        [
            monitor,
            *(figure(held[reading]["auroc"]) if reading in held else "–" for reading in readings),
            figure(held[readings[0]]["safety, harm rare"][-1]["safety"]),
        ]
        for monitor, held in rows.items()
    ]
    seen = f"harm seen, {first['budget']:.0%} audited (at random {first['at_random']:.0%})"
    return markdown(["monitor", *(f"AUROC, {reading}" for reading in readings), seen], body)


def challenges(results: Results) -> str:
    """What each method survives, and on what it abstains."""
    rows = [row for row in results["rows"] if row["kind"] == "survival"]
    body = []
    for method in dict.fromkeys(row["method"] for row in rows):
        plain, *own = [row for row in rows if row["method"] == method]
        by: dict[str, list[str]] = {}
        for row in own:
            by.setdefault(row["verdict"], []).append(row["challenge"])
        met = sum(len(names) for verdict, names in by.items() if verdict != UNTOUCHED)
        change = {row["challenge"]: row["difference"] for row in own}
        lost = [f"{name} ({number(change[name]['value'])})" for name in by.get(FALLS, ())]
        lost += [f"{name} (an error)" for name in by.get(FAILS, ())]
        cells = [
            f"{len(by.get(SURVIVES, ()))} of {met}",
            *(", ".join(each) or "–" for each in (lost, by.get(UNSETTLED, ()))),
        ]
        nothing = next((verdict for verdict in (NO_BASELINE, NOTHING_TO_LOSE, REVERSED) if verdict in by), None)
        body.append([f"`{method}`", figure(plain["auroc"]), *([nothing, "–", "–"] if nothing else cells)])
    said = [sentence for sentence in results["summary"] if " abstains on " in sentence]
    table = markdown(["method", "AUROC without a challenge", "survives", "falls, or fails, under", "not settled"], body)
    return "\n\n".join([table, *([bullets(said)] if said else [])])


TABLES: dict[str, Callable[[Results], str]] = {
    "challenges": challenges,
    "control": control,
    "elicitation": elicitation,
    "instruction": instruction,
    "prompt-change": prompt_change,
    "scaling": scaling,
    "summaries": summaries,
    "thinking": thinking,
    "transfer": transfer,
    **{f"benchmark-{name}": table for name, table in BENCHMARKS.items()},
    "benchmark-training/sweep": sweep,
}
DRAWINGS: dict[str, tuple[str, ...]] = {"prompt-change": ("following.svg",), "transfer": ("auroc-matrix.svg",)}


def main(folders: Sequence[str]) -> None:
    """Keep the results of these folders, and write the pages."""
    for folder in folders:
        keep(Path(folder))
    for page in PAGES:
        write_text(page, written(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
