"""How fast a server answers beside the engine here, with the same model and texts, in turns, so that both meet the same load.

Every turn has texts of its own: a server may keep what it has read, and a monitor never asks about a text twice.

elicit-experiment benchmark served --endpoint endpoint:http://127.0.0.1:8000/v1#NAME --out runs/served
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from elicit.domains import load_domain
from elicit.errors import DomainError
from elicit.evaluation.parity import Parity
from elicit.files import write_json
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.local import LocalModel
from experiments.benchmark_engine import QUESTION, policy_question
from experiments.resume import resume


def benchmark_served(
    model: str, endpoint: str, texts: int, repeats: int, dtype: str, out: Path, say: Callable[[str], None]
) -> None:
    """Measure, print and write results.json: texts per second, medians over the repeats, and how far the log-odds agree.

    Raises:
        DomainError: there are fewer texts than so many for every repeat, and one more that is not timed.
    """
    results = resume(out / "results.json", "served")
    domain, turns = load_domain("vader/amazon"), repeats + 1
    if texts * turns > len(domain):
        raise DomainError(
            f"{domain.name}: {repeats} timed turns and an untimed one of {texts} texts each take {texts * turns}, and there are "
            f"{len(domain)}; lower --texts or --repeats"
        )
    chosen = domain.sample(texts * turns).texts
    local, served = LocalModel.load(model, dtype).uncached(), EndpointModel.load(endpoint).uncached()
    tokens = [len(text.ids) for text in local.prompt(QUESTION).encode(chosen)]
    results |= {
        "model": model,
        "endpoint": endpoint,
        "texts": texts,
        "tokens_per_text": round(float(np.mean(tokens)), 1),
        "threads_here": torch.get_num_threads(),
        "dtype_here": local.dtype,
        "work": {},
    }
    for work, question in (("verdicts", QUESTION), ("verdicts, 320-token policy", policy_question(local.tokenizer))):
        seconds: dict[str, list[float]] = {"here": [], "served": []}
        read: dict[str, NDArray[np.float64]] = {}
        for turn in range(turns):
            for name, one in (("here", local), ("served", served)):
                since = time.perf_counter()
                read[name] = one.log_odds(question, chosen[turn::turns]).values
                if turn:  # the first prepares both
                    seconds[name].append(time.perf_counter() - since)
        here, there = (texts / statistics.median(seconds[name]) for name in ("here", "served"))
        found = Parity(domain.name, read["served"], read["here"], (), None, None, None)
        results["work"][work] = {
            "seconds": seconds,
            "texts_per_second": {"here": here, "served": there},
            "elicit_is_times_faster": here / there,
            "rank_correlation": found.rank_correlation,
            "largest_difference": float(np.abs(found.difference).max()),
        }
        write_json(out / "results.json", results)
        say(f"{work:<28} here {here:.1f} texts/s, served {there:.1f}: elicit is {here / there:.1f} times faster")
