"""Results of a benchmark, which the same command continues and another one must not touch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elicit.errors import RunError
from elicit.files import read_json, write_json
from elicit.run_folder import versions
from experiments.machine import commit, here

ASKED = ("schema", "benchmark", "options", "measured_on")  # what is no measurement


def resume(path: Path, benchmark: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a file of results holds; where there is none, the schema, the benchmark and the options.

    Args:
        path: of the file.
        benchmark: whose results they are.
        options: all that decides what is measured, JSON values; none where every call measures anew.

    Raises:
        RunError: the file holds something else, or was measured with other options.
    """
    asked = json.loads(json.dumps(options or {}))
    if not path.is_file():
        return {"schema": 1, "benchmark": benchmark, "options": asked}
    held: dict[str, Any] = read_json(path)
    if held.get("benchmark") != benchmark:
        what = f"of {held['benchmark']}" if "benchmark" in held else "of something else"
        raise RunError(f"{path} holds results {what}, not of {benchmark}; choose another --out")
    for name, value in asked.items():
        was = held["options"].get(name)
        if was != value:
            raise RunError(f"{path} was measured with {name} {was!r}, and {value!r} is asked for; choose another --out")
    return held


@contextmanager
def on_this_machine(path: Path) -> Iterator[None]:
    """Keep in a file of results on which machine, and with which versions, each part was measured, however the work within ends."""
    before = read_json(path) if path.is_file() else {}
    try:
        yield
    finally:
        results = read_json(path) if path.is_file() else {}
        measured = [part for part, held in results.items() if part not in ASKED and before.get(part) != held]
        if measured:
            machine = here() | {"commit": commit(), "versions": versions()}
            write_json(
                path, results | {"measured_on": results.get("measured_on", {}) | dict.fromkeys(measured, machine)}
            )
