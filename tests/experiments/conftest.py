"""Smoke presets, run once each by whichever worker asks first: interrupted, continued, and read by all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from elicit.files import read_json, write_json
from elicit.language_models import local

Units = dict[str, list[Any]]


@dataclass(frozen=True)
class Smoke:
    """A folder in which a smoke preset was interrupted and continued.

    Attributes:
        out: the folder.
        lock: held by whoever writes there.
        results: what results.json holds.
        before: what `finished_units` gave when it was interrupted.
    """

    out: Path
    lock: FileLock
    results: dict[str, Any]
    before: Units


def finished_units(out: Path) -> Units:
    """Files of what must not be computed twice, parts and scores: hashes of their contents, and times."""
    paths = [*out.rglob("parts/*.json"), *out.rglob("scores/**/*.jsonl")]
    return {
        str(path.relative_to(out)): [hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns]
        for path in paths
    }


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str], Smoke]:
    """Runs the smoke preset of an experiment, the first time that it is asked for by any worker."""
    own = tmp_path_factory.getbasetemp()
    root = (own if worker_id == "master" else own.parent) / "smoke"
    root.mkdir(exist_ok=True)
    loaded = cache(local._load_weights)  # one model in memory serves all experiments

    @cache
    def run(name: str) -> Smoke:
        from experiments.experiment import conduct

        out, done = root / name, root / f"{name}.json"
        before: Units = {}

        def interrupt(_: str) -> None:
            before.update(finished_units(out))
            if before:
                raise KeyboardInterrupt

        lock = FileLock(root / f"{name}.lock")
        with lock, pytest.MonkeyPatch.context() as patch:
            if not done.is_file():
                patch.setattr(local, "_load_weights", loaded)
                with pytest.raises(KeyboardInterrupt):
                    conduct(name, "smoke", out, interrupt)
                conduct(name, "smoke", out, lambda _: None)
                write_json(done, before)
        return Smoke(out, lock, read_json(out / "results.json"), read_json(done))

    return run
