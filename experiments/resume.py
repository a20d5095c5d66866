"""Results of a benchmark, which the same command continues and another one must not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elicit.errors import RunError
from elicit.files import read_json


def resume(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of results holds; where there is none, the schema and the options.

    Args:
        path: of the file.
        options: all that decides what is measured, JSON values.

    Raises:
        RunError: the results were measured with other options.
    """
    asked = json.loads(json.dumps(options))
    if not path.is_file():
        return {"schema": 1, "options": asked}
    held: dict[str, Any] = read_json(path)
    for name, value in asked.items():
        was = held.get("options", {}).get(name)
        if was != value:
            raise RunError(f"{path} was measured with {name} {was!r}, and {value!r} is asked for; choose another --out")
    return held
