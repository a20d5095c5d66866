"""How fast the engine reads verdicts and hidden states, beside a plain transformers loop and lm-eval on the same texts."""

from __future__ import annotations

import gc
import importlib.util
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from elicit.domains import Question, load_domain
from elicit.files import write_json
from elicit.language_models.cache import ReadingCache
from elicit.language_models.loading import load_model
from elicit.language_models.local import LocalModel, _Weights

QUESTION = Question("Is the sentiment of this text positive?")
SLOW = 64  # texts for the slow way: it is measured per text
RULE = "An action is allowed when the user asked for it, when it touches only the user's own data, and when it can be undone. "


def benchmark_engine(model: str, texts: int, repeats: int, out: Path, say: Callable[[str], None]) -> None:
    """Measure, print and write results.json: texts per second, medians over the repeats."""
    weights = _Weights(*load_model(model))
    local = LocalModel(model, weights)
    samples = list(load_domain("vader/movie").train.sample(texts).texts)
    policy = Question(RULE * (320 // len(weights.tokenizer(RULE)["input_ids"]) + 1) + QUESTION.text)
    rows: list[dict[str, Any]] = []

    def measure(work: str, who: str, count: int, action: Callable[[], object]) -> float:
        action()
        seconds = []
        for _ in range(repeats):
            gc.collect()
            since = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - since)
        rate = count / statistics.median(seconds)
        rows.append({"work": work, "who": who, "texts": count, "texts_per_second": rate, "seconds": seconds})
        say(f"{work:<28} {who:<22} {rate:>9.1f} texts/s")
        return rate

    few = samples[:SLOW]
    for work, question in (("verdicts", QUESTION), ("verdicts, 320-token policy", policy)):
        measure(work, "elicit", texts, lambda question=question: local.log_odds(question, samples))
        measure(work, "transformers, batch 1", SLOW, lambda question=question: plain_log_odds(local, question, few))
        if importlib.util.find_spec("lm_eval"):
            measure(work, "lm-eval, batch 16", SLOW, lambda question=question: lm_eval_log_odds(local, question, few))
    layers = range(local.layers)
    fresh = iter(range(10**9))
    measure(
        "contrast pairs, all layers",
        "elicit",
        SLOW,
        # Other texts each time: the last answers of `states` are kept.
        lambda: local.states(QUESTION, [f"{text} {next(fresh)}" for text in few], layers),
    )
    measure("contrast pairs, all layers", "transformers, batch 1", SLOW, lambda: plain_states(local, QUESTION, few))
    for count in (250, 1000, 4000):
        part = (samples * (4000 // len(samples) + 1))[:count]
        since = time.perf_counter()
        local.log_odds(QUESTION, part)
        rate = count / (time.perf_counter() - since)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append({"work": "growth", "who": "elicit", "texts": count, "texts_per_second": rate, "peak_gb": peak})
        say(f"{'growth':<28} {f'elicit, {count} texts':<22} {rate:>9.1f} texts/s, peak {peak:.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        cached = LocalModel(model, weights, cache=ReadingCache(Path(folder) / "readings.sqlite"))
        cached.fingerprint()
        since = time.perf_counter()
        cached.log_odds(QUESTION, samples)
        first = time.perf_counter() - since
        measure("warm cache", "elicit", texts, lambda: cached.log_odds(QUESTION, samples))
        rows[-1]["times_faster_than_first"] = first * rows[-1]["texts_per_second"] / texts
        say(f"warm cache: {rows[-1]['times_faster_than_first']:.0f} times faster than the first reading")
    numerics = rank_agreement(local, model, few)
    say(f"rank agreement (Spearman): {numerics}")
    rows_of = {(row["work"], row["who"]): row for row in rows}
    for row in rows:
        mine = rows_of.get((row["work"], "elicit"))
        if mine and row["who"] != "elicit":
            row["elicit_is_times_faster"] = mine["texts_per_second"] / row["texts_per_second"]
            say(f"{row['work']}: elicit is {row['elicit_is_times_faster']:.1f} times faster than {row['who']}")
    floor = product_rate(weights.model.dtype)
    write_json(
        out / "results.json",
        {
            "schema": 1,
            "model": model,
            "dtype": str(weights.model.dtype),
            "threads": torch.get_num_threads(),
            "repeats": repeats,
            "large_product_flops_per_second": floor,
            "spearman": numerics,
            "rows": rows,
        },
    )


@torch.inference_mode()
def plain_log_odds(model: LocalModel, question: Question, texts: list[str]) -> list[float]:
    """What one writes first: one prompt at a time, all logits."""
    prompt, out = model.prompt(question), []
    for text in prompt.encode(texts):
        ids = torch.tensor([[*prompt.head, *prompt.suffix(text)]], device=model.transformers_model.device)
        logits = model.transformers_model(ids).logits[0, -1]
        out.append(float(logits[prompt.verdict.flagged] - logits[prompt.verdict.cleared]))
    return out


@torch.inference_mode()
def plain_states(model: LocalModel, question: Question, texts: list[str]) -> list[torch.Tensor]:
    """Both prompts in full, all hidden states of all tokens, one at a time."""
    prompt, out = model.prompt(question), []
    for text in prompt.encode(texts):
        for answer in (prompt.verdict.flagged, prompt.verdict.cleared):
            ids = torch.tensor([[*prompt.head, *prompt.suffix(text), answer]], device=model.transformers_model.device)
            states = model.transformers_model(ids, output_hidden_states=True).hidden_states
            out.append(torch.stack([layer[0, -1] for layer in states]))
    return out


def lm_eval_log_odds(model: LocalModel, question: Question, texts: list[str]) -> list[float]:
    """lm-eval's log-likelihood of the two continuations, batch 16."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    prompt = model.prompt(question)
    harness = HFLM(pretrained=model.transformers_model, tokenizer=model.tokenizer, batch_size=16)
    requests = []
    for i, text in enumerate(prompt.encode(texts)):
        context = model.tokenizer.decode([*prompt.head, *prompt.suffix(text)])
        requests += [Instance("loglikelihood", {}, (context, word), i) for word in (question.flagged, question.cleared)]
    found = harness.loglikelihood(requests, disable_tqdm=True)
    return [found[i][0] - found[i + 1][0] for i in range(0, len(found), 2)]


def rank_agreement(local: LocalModel, name: str, texts: list[str]) -> dict[str, float]:
    """Spearman correlation of log-odds between two batchings, and with float32."""
    as_is = local.log_odds(QUESTION, texts).values
    budget, local.engine.budget = local.engine.budget, 1
    alone = local.log_odds(QUESTION, texts).values
    local.engine.budget = budget
    exact = LocalModel(name, _Weights(*load_model(name, "float32"))).log_odds(QUESTION, texts).values
    return {
        "batched with one by one": round(float(spearmanr(as_is, alone).statistic), 4),
        "with float32": round(float(spearmanr(as_is, exact).statistic), 4),
    }


def product_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Operations per second of a large matrix product: what the hardware reaches at best."""
    a, b = (torch.from_numpy(np.ones((size, size), np.float32)).to(dtype) for _ in range(2))
    a @ b
    seconds = []
    for _ in range(5):
        since = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - since)
    return 2 * size**3 / statistics.median(seconds)
