"""Files that appear complete or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from elicit.errors import RunError


def write_text(path: Path, content: str) -> None:
    """Write a file atomically: an interrupted or failed write leaves what was there before.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; make room or choose another --out, then run the same command "
            "again: what is done stays done"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented, with keys in the order given; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run the command that wrote it again") from error
