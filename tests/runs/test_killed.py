"""A search that dies by kill -9 finishes when it is started again: with the same bytes, and no pass is made twice."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import rows_about, write_domain
from tests.runs.test_runs import outputs

# Where each search dies: right after the nth time that something was kept of which its own work is made.
DEATHS = {
    ("consistency", "float32"): ("reading", 6),
    ("consistency", "bfloat16"): ("reading", 6),
    ("icm", "float32"): ("reading", 4),
    ("state-consistency", "float32"): ("state", 2),
    ("self-training", "float32"): ("checkpoint", 2),
}


def attempt(folder: Path, model: Path, target: Path, method: str, dtype: str, death: tuple[str, int] | None) -> None:
    """A run on a folder and a cache of their own; it logs what is kept and learnt, and kills itself where it is told to."""
    os.environ["ELICIT_CACHE"] = str(folder / "cache")
    from elicit.language_models import local
    from elicit.language_models.cache import ReadingCache
    from elicit.language_models.states import StateCache
    from elicit.methods import icm, self_training
    from elicit.run_config import RunConfig
    from elicit.runs import run
    from elicit.training.trainer import VerdictTrainer

    icm.POOL, self_training.ROUNDS = 6, 1  # as in all tests here
    local.CHECKPOINT, local.SHARD = 8, 10  # several parts of so few texts
    times: Counter[str] = Counter()

    def watch(owner: type, name: str, kind: str, amount: Callable[..., int]) -> None:
        original = getattr(owner, name)

        def watched(self: Any, *given: Any, **named: Any) -> Any:
            done = original(self, *given, **named)
            with (folder / "log").open("a") as log:
                log.write(f"{kind} {amount(*given)}\n")
            times[kind] += 1
            if (kind, times[kind]) == death:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        setattr(owner, name, watched)

    watch(ReadingCache, "put", "reading", len)
    watch(StateCache, "put", "state", lambda _key, _layers, states, _odds: len(states))
    watch(VerdictTrainer, "training_step", "step", lambda *_: 1)
    watch(VerdictTrainer, "_save_checkpoint", "checkpoint", lambda *_: 1)
    sizes: dict[str, Any] = {"target_texts": 24, "calibration_texts": 8, "test_texts": 8, "device": "cpu"}
    outcome = run(RunConfig(str(model), (), (str(target),), (method,), dtype=dtype, **sizes), folder / "run")
    assert outcome.failed == 0


def exit_status(*asked: object) -> int | None:
    """Of a process that makes one attempt; negative for the signal that killed it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["elicit.runs", "elicit.training.trainer", "peft"])  # imported once for all of them
    process = context.Process(target=attempt, args=asked)
    process.start()
    process.join()
    return process.exitcode


def spent(folder: Path) -> Counter[str]:
    """By kind, how much was kept and learnt."""
    total: Counter[str] = Counter()
    for line in (folder / "log").read_text().splitlines():
        kind, amount = line.split()
        total[kind] += int(amount)
    return total


@pytest.mark.parametrize(("method", "dtype"), DEATHS)
def test_a_search_that_was_killed(method: str, dtype: str, model_folder: Path, tmp_path: Path) -> None:
    death = DEATHS[method, dtype]
    target = write_domain(tmp_path, "films", rows_about("film", 60))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    asked = (model_folder, target, method, dtype)
    assert exit_status(whole, *asked, None) == 0
    assert exit_status(killed, *asked, death) == -signal.SIGKILL
    before = spent(killed)
    assert not list((killed / "run").glob("monitors/films/*/calibration.json"))
    assert exit_status(killed, *asked, None) == 0
    found = outputs(killed / "run")
    assert found == outputs(whole / "run")
    assert {f"monitors/films/{method}/labels.jsonl", f"scores/films/{method}.jsonl"} <= found.keys()
    # It died on the way, and what it had kept by then it did not compute again.
    assert 0 < before[death[0]] < spent(whole)[death[0]]
    assert spent(killed) == spent(whole)
