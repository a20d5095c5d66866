"""How much faster several processes are than one: verdicts, hidden states and training with the same model and texts.

elicit-experiment benchmark processes --out runs/processes
torchrun --nproc-per-node 2 -m experiments.cli benchmark processes --out runs/processes
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from elicit.domains import Question, load_domain
from elicit.files import write_json
from elicit.language_models.local import LocalModel
from elicit.methods.states import upper_layers
from elicit.monitors import VerdictMonitor
from elicit.processes import count, spread
from elicit.training import TrainingConfig, train
from experiments.resume import resume

QUESTION = Question("Is the sentiment of this text positive?")


def benchmark_processes(model: str, texts: int, repeats: int, out: Path, say: Callable[[str], None]) -> None:
    """Measure with as many processes as there are, and say how that compares with one; results.json holds all that was measured."""
    path = out / "results.json"
    results = {"processes": {}} | resume(path, "processes")
    domain = load_domain("vader/movie").require_labels().balanced_sample(texts)
    local = LocalModel.load(model).uncached()
    layers, config = upper_layers(local.layers), TrainingConfig(texts=texts, epochs=1.0)

    def learn() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(VerdictMonitor(local), [domain], Path(folder), config)

    ways: dict[str, Callable[[], object]] = {
        "verdicts": lambda: local.log_odds(QUESTION, domain.texts),
        "hidden states": lambda: local.states(QUESTION, domain.texts, layers, log_odds=True),
        "training": learn,
    }
    alone = results["processes"].get("1", {})
    found: dict[str, Any] = {
        "model": model,
        "texts": len(domain),
        "threads_each": torch.get_num_threads(),
        "dtype": str(local.transformers_model.dtype),
    }
    if count() > 1 and (differs := difference(alone, found)):
        say(f"no comparison with one process: {differs}")
        alone = {}
    for work, action in ways.items():
        action()
        timed = [seconds_of(action) for _ in range(repeats)]
        row: dict[str, Any] = {"seconds": [wall for wall, _ in timed]}
        row["cpu_seconds_of_the_busiest"] = [busiest for _, busiest in timed]
        if count() > 1 and work in alone:
            for times, what in (("times_faster_than_one", "seconds"), ("by_cpu_time", "cpu_seconds_of_the_busiest")):
                row[times] = statistics.median(alone[work][what]) / statistics.median(row[what])
        faster = (
            f"  {row['times_faster_than_one']:.2f} × one, {row['by_cpu_time']:.2f} × by CPU time"
            if "by_cpu_time" in row
            else ""
        )
        say(f"{count()} processes  {work:<14} {len(domain) / statistics.median(row['seconds']):>8.1f} texts/s{faster}")
        found[work] = row
        results["processes"][str(count())] = found
        write_json(path, results)


def difference(alone: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Why what one process was measured to do is not what several are compared with, or None."""
    if not alone:
        return "it was not measured here; run the same command without a launcher first"
    for key, value in found.items():
        if alone.get(key) != value:
            return f"its {key} was {alone.get(key)!r}, and is {value!r} now"
    return None


def seconds_of(action: Callable[[], object]) -> tuple[float, float]:
    """Time of some work, and CPU time of the process that has most to do: the better guide on cores that others use too."""
    before, since = spread(time.process_time, [()] * count()), time.perf_counter()
    action()
    wall, after = time.perf_counter() - since, spread(time.process_time, [()] * count())
    return wall, max(end - start for start, end in zip(before, after, strict=True))
