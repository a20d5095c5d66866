"""How much faster several processes are than one: verdicts, hidden states and training with the same model and texts.

elicit-experiment benchmark processes --out runs/processes
torchrun --nproc-per-node 2 -m experiments.cli benchmark processes --out runs/processes
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from elicit.domains import Question, load_domain
from elicit.files import read_json, write_json
from elicit.language_models.local import LocalModel
from elicit.methods.states import upper_layers
from elicit.monitors import VerdictMonitor
from elicit.processes import count
from elicit.training import TrainingConfig, train

QUESTION = Question("Is the sentiment of this text positive?")


def benchmark_processes(model: str, texts: int, repeats: int, out: Path, say: Callable[[str], None]) -> None:
    """Measure with as many processes as there are, and say how that compares with one; results.json holds all that was measured."""
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
    path = out / "results.json"
    results: dict[str, Any] = read_json(path) if path.is_file() else {"schema": 1, "model": model, "processes": {}}
    alone = results["processes"].get("1", {})
    found: dict[str, Any] = {"threads_each": torch.get_num_threads(), "dtype": str(local.transformers_model.dtype)}
    for work, action in ways.items():
        action()
        seconds = []
        for _ in range(repeats):
            since = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - since)
        found[work] = {
            "texts": len(domain),
            "seconds": seconds,
            "texts_per_second": len(domain) / statistics.median(seconds),
        }
        if count() > 1 and alone.get(work, {}).get("texts") == len(domain):
            found[work]["times_faster_than_one"] = found[work]["texts_per_second"] / alone[work]["texts_per_second"]
        faster = f"  {found[work]['times_faster_than_one']:.2f} × one" if "times_faster_than_one" in found[work] else ""
        say(f"{count()} processes  {work:<14} {found[work]['texts_per_second']:>8.1f} texts/s{faster}")
        results["processes"][str(count())] = found
        write_json(path, results)
