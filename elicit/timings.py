"""Seconds and tokens of a run's steps, in timings.json: they differ between runs, and results.json must not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elicit.files import read_json, write_json
from elicit.language_models.engine import Meter

TIMINGS = "timings.json"


class Timings:
    """What steps took, by name, in all attempts: one that failed or was interrupted counts too.

    What such an attempt read is not read again, and somebody paid for it.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path) -> None:
        self._path, self._held = out / TIMINGS, read_timings(out)
        self._open: list[dict[str, float]] = []  # of each step that is under way, what steps within it took

    @contextmanager
    def step(self, name: str, meter: Meter) -> Iterator[None]:
        """Add what happens in the block. A step within another one is not part of the outer one's figures."""
        within = {"seconds": 0.0, "tokens": 0.0}
        self._open.append(within)
        since, before = time.monotonic(), meter.tokens
        try:
            yield
        finally:
            self._open.pop()
            took = {"seconds": time.monotonic() - since, "tokens": float(meter.tokens - before)}
            for unit in took if self._open else ():
                self._open[-1][unit] += took[unit]
            held = self._held.get(name, {"seconds": 0.0, "tokens": 0})
            self._held[name] = {
                "seconds": round(held["seconds"] + took["seconds"] - within["seconds"], 2),
                "tokens": int(held["tokens"] + took["tokens"] - within["tokens"]),
            }
            write_json(self._path, self._held)

    def forget(self) -> None:
        """Begin anew."""
        self._path.unlink(missing_ok=True)
        self._held.clear()


def read_timings(out: Path) -> dict[str, Any]:
    """By step, seconds and tokens; nothing where none has ended yet."""
    return dict(read_json(out / TIMINGS)) if (out / TIMINGS).is_file() else {}
