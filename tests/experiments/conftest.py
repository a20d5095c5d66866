"""Smoke presets, run once each: interrupted, continued, and asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from elicit.files import read_json
from elicit.language_models import local


@dataclass(frozen=True)
class Smoke:
    """A folder in which a smoke preset was interrupted and continued.

    Attributes:
        out: the folder.
        results: what results.json holds.
        before: files of finished units, with their contents and times, when it was interrupted.
    """

    out: Path
    results: dict[str, Any]
    before: dict[Path, tuple[bytes, int]]


def finished_units(out: Path) -> dict[Path, tuple[bytes, int]]:
    """What must not be computed twice: parts and scores."""
    paths = [*out.rglob("parts/*.json"), *out.rglob("scores/**/*.jsonl")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Smoke]:
    """Runs the smoke preset of an experiment, the first time that it is asked for."""
    done: dict[str, Smoke] = {}
    loaded = cache(local._load_weights)  # one model in memory serves all experiments

    def run(name: str) -> Smoke:
        from experiments.experiment import conduct

        if name not in done:
            out = tmp_path_factory.mktemp("smoke") / name
            before: dict[Path, tuple[bytes, int]] = {}

            def interrupt(_: str) -> None:
                before.update(finished_units(out))
                if before:
                    raise KeyboardInterrupt

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(local, "_load_weights", loaded)
                with pytest.raises(KeyboardInterrupt):
                    conduct(name, "smoke", out, interrupt)
                conduct(name, "smoke", out, lambda _: None)
            done[name] = Smoke(out, read_json(out / "results.json"), before)
        return done[name]

    return run
