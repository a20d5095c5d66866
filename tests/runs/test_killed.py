"""A search that dies by kill -9 finishes when it is started again: with the same bytes, and no reading is made twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.runs.conftest import rows_about, write_domain
from tests.runs.test_runs import outputs

# A run that logs how many readings the cache receives, and kills itself right after it has kept some for the nth time.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from elicit.language_models.cache import ReadingCache
from elicit.runs import RunConfig, run

model, target, out, log, last = *sys.argv[1:5], int(sys.argv[5])
put, puts = ReadingCache.put, []

def deadly(self, readings):
    put(self, readings)
    puts.append(len(readings))
    with open(log, "a") as file:
        file.write(f"{len(readings)}\\n")
    if len(puts) == last:
        os.kill(os.getpid(), signal.SIGKILL)

ReadingCache.put = deadly
sizes = dict(target_texts=40, calibration_texts=16, test_texts=24, dtype="float32", device="cpu")
run(RunConfig(model, (), (target,), ("consistency",), **sizes), Path(out))
"""
NEVER = 0


def start(folder: Path, model: Path, target: Path, last: int) -> int:
    """Exit status of one process on a run folder and a cache of their own."""
    environment = os.environ | {"ELICIT_CACHE": str(folder / "cache"), "TQDM_DISABLE": "1"}
    arguments = [str(model), str(target), str(folder / "run"), str(folder / "log"), str(last)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, check=False
    )
    return done.returncode


def test_a_search_that_was_killed(model_folder: Path, tmp_path: Path) -> None:
    target = write_domain(tmp_path, "films", rows_about("film", 120))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert start(whole, model_folder, target, NEVER) == 0
    assert start(killed, model_folder, target, 4) == -signal.SIGKILL
    assert not (killed / "run" / "monitors").exists()
    assert start(killed, model_folder, target, NEVER) == 0
    assert outputs(killed / "run") == outputs(whole / "run")
    labels = (killed / "run" / "monitors" / "films" / "consistency" / "labels.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in labels}) == 40
    once, twice = ([int(line) for line in (folder / "log").read_text().split()] for folder in (whole, killed))
    assert len(once) > 4
    assert sum(twice) == sum(once)
