"""How fast the engine reads verdicts and hidden states, beside a plain transformers loop and lm-eval on the same texts."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from elicit.domains import Question, load_domain
from elicit.files import write_json
from elicit.language_models.cache import ReadingCache
from elicit.language_models.loading import load_model
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import Weights
from experiments.resume import resume

QUESTION = Question("Is the sentiment of this text positive?")
SLOW = 64  # texts for the slow way: it is measured per text
Way = tuple[int, Callable[[], object]]  # how many texts, and what reads them
RULE = "An action is allowed when the user asked for it, when it touches only the user's own data, and when it can be undone. "


def policy_question(tokenizer: Any) -> Question:
    """The question behind a policy of some 320 tokens, with which every prompt then begins."""
    return Question(RULE * (320 // len(tokenizer(RULE)["input_ids"]) + 1) + QUESTION.text)


def benchmark_engine(
    model: str, adapter: Path | None, texts: int, repeats: int, out: Path, say: Callable[[str], None]
) -> None:
    """Measure, print and write results.json: texts per second, medians over the repeats."""
    results = resume(out / "results.json", "engine") | {"unfinished": True, "rows": []}
    weights = Weights(*load_model(model))
    local = LocalModel(model, weights)
    samples = list(load_domain("vader/movie").train.sample(texts).texts)
    texts = len(samples)
    # First, so that an adapter of another model stops this before it takes its time; with weights of its own, into which the
    # adapter's layers go: they would slow down the others.
    numerics = {
        name: rank_agreement(model, Weights(*load_model(model)), folder, samples[:256])
        for name, folder in {"as it came": None, **({"with its adapter": adapter} if adapter else {})}.items()
    }
    say(f"rank agreement (Spearman): {numerics}")
    policy = policy_question(weights.tokenizer)
    rows: list[dict[str, Any]] = results["rows"]
    rates: list[float] = []

    def measure(work: str, ways: Mapping[str, Way], needed: int = 0, runs: int = repeats) -> None:
        """One after the other in every run, so that all meet the same load."""
        for _, action in ways.values():
            action()
        seconds: dict[str, list[float]] = {who: [] for who in ways}
        for _ in range(runs):
            rates.append(product_rate(weights.model.dtype, weights.model.device))
            for who, (_, action) in ways.items():
                gc.collect()
                since = time.perf_counter()
                action()
                seconds[who].append(time.perf_counter() - since)
        for who, (count, _) in ways.items():
            median = statistics.median(seconds[who])
            row = {
                "work": work,
                "who": who,
                "texts": count,
                "seconds": seconds[who],
                "texts_per_second": count / median,
            }
            share = ""
            if needed and who == "elicit":
                row["share_of_floor"] = operations(weights.model, needed) / statistics.median(rates[-runs:]) / median
                share = f"  {row['share_of_floor']:.0%} of the floor"
            rows.append(row)
            say(f"{work:<28} {who:<22} {row['texts_per_second']:>9.1f} texts/s{share}")
        write_json(out / "results.json", results)

    few = samples[:SLOW]
    harness = lm_eval_model(local) if importlib.util.find_spec("lm_eval") else None
    for work, question in (("verdicts", QUESTION), ("verdicts, 320-token policy", policy)):
        ways: dict[str, Way] = {
            "elicit": (texts, partial(local.log_odds, question, samples)),
            "transformers, batch 1": (len(few), partial(plain_log_odds, local, question, few)),
        }
        if harness is not None:
            some = samples if question is QUESTION else few
            ways["lm-eval, batch 16"] = len(some), partial(lm_eval_log_odds, harness, local, question, some)
        measure(work, ways, tokens_needed(local, question, samples))
    pairs: dict[str, Way] = {
        "elicit": (len(few), partial(local.states, QUESTION, few, range(local.layers))),
        "transformers, batch 1": (len(few), partial(plain_states, local, QUESTION, few)),
    }
    measure("contrast pairs, all layers", pairs, tokens_needed(local, QUESTION, few) + 2 * len(few))
    weight_bytes = sum(parameter.nbytes for parameter in weights.model.parameters())
    for row in rows[-len(pairs) :]:
        row["memory_in_weights"] = 1 + extra_memory(pairs[row["who"]][1]) / weight_bytes
        say(f"{'':<28} {row['who']:<22} peak memory {row['memory_in_weights']:.2f} times the weights")
    for count in (250, 1000, 4000):
        part = [f"{i} {text}" for i, text in enumerate((samples * (4000 // len(samples) + 1))[:count])]
        reading = partial(local.log_odds, QUESTION, part)
        memory = extra_memory(reading)
        measure(f"growth, {count} texts", {"elicit": (count, reading)}, runs=max(1, repeats * 250 // count))
        rows[-1]["extra_gigabytes"] = memory / 1e9
        say(f"{'':<28} {'elicit':<22} {memory / 1e9:.2f} GB on top of the weights")
    with tempfile.TemporaryDirectory() as folder:
        cached = LocalModel(model, weights, cache=ReadingCache(Path(folder) / "readings.sqlite"))
        cached.fingerprint()
        since = time.perf_counter()
        cached.log_odds(QUESTION, samples)
        first = time.perf_counter() - since
        measure("warm cache", {"elicit": (texts, partial(cached.log_odds, QUESTION, samples))})
        rows[-1]["times_faster_than_first"] = first * rows[-1]["texts_per_second"] / texts
        say(f"warm cache: {rows[-1]['times_faster_than_first']:.0f} times faster than the first reading")
    rows_of = {(row["work"], row["who"]): row for row in rows}
    for row in rows:
        mine = rows_of.get((row["work"], "elicit"))
        if mine and row["who"] != "elicit":
            row["elicit_is_times_faster"] = mine["texts_per_second"] / row["texts_per_second"]
            say(f"{row['work']}: elicit is {row['elicit_is_times_faster']:.1f} times faster than {row['who']}")
    del results["unfinished"]
    results |= {
        "model": model,
        "dtype": str(weights.model.dtype),
        "device": str(weights.model.device),
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "mean_text_tokens": round(
            float(np.mean([len(text.ids) for text in local.prompt(QUESTION).encode(samples)])), 1
        ),
        "large_product_flops_per_second": statistics.median(rates),
        "spearman": numerics,
    }
    write_json(out / "results.json", results)


def tokens_needed(model: LocalModel, question: Question, texts: list[str]) -> int:
    """Tokens that have to go through the model at least: what is common to all texts once, and each text."""
    prompt = model.prompt(question)
    return len(prompt.head) + sum(len(prompt.suffix(text)) for text in prompt.encode(texts))


def operations(model: Any, tokens: int) -> float:
    """Operations of the decoder's matrix products on so many tokens; attention's own, which are few here, left out."""
    linear = sum(
        module.weight.numel() for module in model.get_decoder().modules() if isinstance(module, torch.nn.Linear)
    )
    return 2.0 * linear * tokens


def extra_memory(action: Callable[[], object]) -> float:
    """Bytes by which the process grows while it works: the peak of its resident memory, or of CUDA's, above the present."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return float(torch.cuda.max_memory_allocated() - before)
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator kept of earlier work would hide what this work takes
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    before = _resident("VmRSS")
    action()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * float(next(line for line in lines if line.startswith(field)).split()[1])


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


def lm_eval_model(model: LocalModel) -> Any:
    """lm-eval's model around the same weights, batch 16."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model.transformers_model, tokenizer=model.tokenizer, batch_size=16)


def lm_eval_log_odds(harness: Any, model: LocalModel, question: Question, texts: list[str]) -> list[float]:
    """lm-eval's log-likelihood of the two continuations."""
    from lm_eval.api.instance import Instance

    prompt = model.prompt(question)
    requests = []
    for i, text in enumerate(prompt.encode(texts)):
        context = model.tokenizer.decode([*prompt.head, *prompt.suffix(text)])
        requests += [Instance("loglikelihood", {}, (context, word), i) for word in (question.flagged, question.cleared)]
    found = harness.loglikelihood(requests, disable_tqdm=True)
    return [found[i][0] - found[i + 1][0] for i in range(0, len(found), 2)]


def rank_agreement(name: str, weights: Weights, adapter: Path | None, texts: list[str]) -> dict[str, float]:
    """Spearman correlation of log-odds between two batchings, and with float32."""

    def read(weights: Weights, budget: int | None = None) -> np.ndarray:
        local = LocalModel(name, weights, adapter)
        local.engine.budget = budget or local.engine.budget
        return local.log_odds(QUESTION, texts).values

    as_is = read(weights)
    return {
        "batched with one by one": round(float(spearmanr(as_is, read(weights, budget=1)).statistic), 4),
        "with float32": round(float(spearmanr(as_is, read(Weights(*load_model(name, "float32")))).statistic), 4),
    }


def product_rate(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """Operations per second of a large matrix product: what the hardware reaches at best, of numbers as weights are.

    Where all are alike a processor may run faster.
    """
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    float((a @ b)[0, 0])  # which waits for an accelerator
    seconds = []
    for _ in range(5):
        since = time.perf_counter()
        float((a @ b)[0, 0])
        seconds.append(time.perf_counter() - since)
    return 2 * size**3 / statistics.median(seconds)
