"""How fast the probes are beside EleutherAI's elk, and whether they find what was planted."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from elicit.files import write_json
from experiments.resume import resume
from probes import (
    CCS,
    CRC,
    VINC,
    BimodalCRC,
    ContrastProbe,
    EnsembleProbe,
    ErasureNorm,
    KMeansProbe,
    LDAProbe,
    LogisticProbe,
    MeanDifference,
    PCAProbe,
    RandomProbe,
    RidgeProbe,
)
from probes.testing import planted

LABEL_FREE: dict[str, Callable[[int], ContrastProbe]] = {
    "ccs": lambda seed: CCS(random_state=seed),
    "crc": lambda _: CRC(),
    "bimodal-crc": lambda seed: BimodalCRC(random_state=seed),
    "vinc": lambda _: VINC(),
    "kmeans": lambda seed: KMeansProbe(random_state=seed),
    "pca": lambda _: PCAProbe(),
    "ensemble": lambda seed: EnsembleProbe(random_state=seed),
    "random": lambda seed: RandomProbe(random_state=seed),
}
SUPERVISED = {"logistic": LogisticProbe, "mean-difference": MeanDifference, "lda": LDAProbe, "ridge": RidgeProbe}
ELK_DECAY = 0.01  # elk's default


def benchmark_probes(
    texts: int,
    features: int,
    layers: int,
    peer_layers: int,
    repeats: int,
    seeds: int,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Measure, print and write results.json; one thread, on which the many small products of probes are fastest."""
    with _one_thread(), threadpool_limits(1):
        results = resume(out / "results.json", "probes")
        results |= {"texts": texts, "features": features, "layers": layers, "seeds": seeds}
        results["against_elk"] = against_elk(texts, features, layers, peer_layers, repeats, say)
        write_json(out / "results.json", results)
        results["seconds_30_layers"] = all_probes(say)
        write_json(out / "results.json", results)
        results["planted_up_to_sign"] = planted_direction(seeds, say)
        write_json(out / "results.json", results)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def against_elk(
    texts: int, features: int, layers: int, peer_layers: int, repeats: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Seconds per layer of CCS and VINC, with the answer word erased as elk does, and of elk's reporters; and losses of CCS.

    Ours divides states by one scale, elk's penalises a second one: the losses are of one kind, what is minimised is not.
    """
    pos, neg = states(texts, layers, features)
    rows: list[dict[str, Any]] = []

    def measure(name: str, who: str, count: int, action: Callable[[], dict[str, Any]]) -> None:
        seconds, found = [], {}
        for _ in range(repeats):
            since = time.perf_counter()
            found = action()
            seconds.append((time.perf_counter() - since) / count)
        rows.append(
            {"probe": name, "who": who, "layers": count, "seconds_per_layer": statistics.median(seconds)} | found
        )
        say(f"{name:<6} {who:<8} {rows[-1]['seconds_per_layer']:>8.3f} s per layer  {_shown(found)}")

    def ours(decay: float) -> dict[str, Any]:
        probe = CCS(decay=decay, norm=ErasureNorm()).fit(pos, neg)
        best = probe.objectives_.argmin(1, keepdim=True)
        return {"loss": [round(float(value), 6) for value in probe.losses_.gather(1, best)[:, 0]]}

    def elk_ccs() -> dict[str, Any]:
        from elk.training import CcsConfig, CcsReporter

        losses = []
        for layer in range(peer_layers):
            torch.manual_seed(layer)
            reporter = CcsReporter(CcsConfig(), features)
            loss = reporter.fit(torch.stack([neg[:, layer], pos[:, layer]], 1)[:, None])
            losses.append(round(loss, 6))
        return {"loss": losses}

    def elk_vinc() -> dict[str, Any]:
        from elk.training import EigenFitter, EigenFitterConfig

        for layer in range(peer_layers):
            fitter = EigenFitter(EigenFitterConfig(), features)
            fitter.fit(torch.stack([neg[:, layer], pos[:, layer]], 1)[:, None])
        return {}

    def vinc() -> dict[str, Any]:
        VINC(norm=ErasureNorm()).fit(pos, neg)
        return {}

    measure("ccs", "probes", layers, lambda: ours(ELK_DECAY))
    measure("vinc", "probes", layers, vinc)
    if _has_elk(say):
        measure("ccs", "elk", peer_layers, elk_ccs)
        measure("vinc", "elk", peer_layers, elk_vinc)
        mine = {row["probe"]: row for row in rows if row["who"] == "probes"}
        for row in rows[2:]:
            row["probes_is_times_faster"] = row["seconds_per_layer"] / mine[row["probe"]]["seconds_per_layer"]
            say(f"{row['probe']}: probes is {row['probes_is_times_faster']:.0f} times faster than elk")
    return rows


def _has_elk(say: Callable[[str], None]) -> bool:
    """Whether elk is installed with all that it imports."""
    try:
        importlib.import_module("elk.training")
    except ImportError as error:
        say(f"elk is left out ({error}): pip install --no-deps eleuther-elk==0.1.1, and what it then misses")
        return False
    return True


def states(texts: int, layers: int, features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, l, d) pairs like a model's: a spectrum that decays, an answer word, and a feature that flips with the answer."""
    random = torch.Generator().manual_seed(0)
    scale = torch.arange(1, features + 1).float() ** -0.5
    truth = (torch.rand(texts, generator=random) < 0.5).float() * 2 - 1
    shared = torch.randn(texts, layers, features, generator=random) * scale * 4
    direction = torch.nn.functional.normalize(torch.randn(layers, features, generator=random), dim=-1)
    half = torch.randn(layers, features, generator=random) + 2 * truth[:, None, None] * direction

    def noise() -> torch.Tensor:
        return torch.randn(texts, layers, features, generator=random) * scale

    return shared + half + noise(), shared - half + noise()


def all_probes(say: Callable[[str], None]) -> dict[str, float]:
    """Seconds of each probe on 1,000 pairs and all 30 layers of a model of width 576 (the default model's sizes)."""
    pos, neg = states(1000, 30, 576)
    labels = (np.random.default_rng(0).random(1000) < 0.5).astype(int)
    seconds = {}
    for name, make in LABEL_FREE.items():
        since = time.perf_counter()
        make(0).fit(pos, neg)
        seconds[name] = round(time.perf_counter() - since, 2)
    for name, kind in SUPERVISED.items():
        since = time.perf_counter()
        kind().fit(pos.numpy(), labels)
        seconds[name] = round(time.perf_counter() - since, 2)
    seconds["together"] = round(sum(seconds.values()), 2)
    say(f"1,000 pairs, 30 layers, 576 features: {_shown(seconds)}")
    return seconds


def planted_direction(seeds: int, say: Callable[[str], None]) -> dict[str, float]:
    """Mean AUROC over seeds on new pairs with a planted truth (n = 500, d = 256, signal-to-noise 1), label-free ones up to sign."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        pairs = planted(n=1000, random_state=seed)
        train, test = slice(0, 500), slice(500, None)
        for name, make in LABEL_FREE.items():
            probe = make(seed).fit(pairs.x_pos[train], pairs.x_neg[train])
            score = probe.score(pairs.x_pos[test], pairs.x_neg[test])
            value = float(roc_auc_score(pairs.truth[test], score))
            # Which end is true no label-free probe can know; here the question is whether it found the direction.
            found.setdefault(name, []).append(max(value, 1 - value))
        probe = LDAProbe().fit((pairs.x_pos - pairs.x_neg)[train], pairs.truth[train])
        score = probe.score((pairs.x_pos - pairs.x_neg)[test])
        found.setdefault("lda with labels", []).append(float(roc_auc_score(pairs.truth[test], score)))
    means = {name: round(statistics.mean(values), 4) for name, values in found.items()}
    say(f"planted direction, mean AUROC of {seeds} seeds, of label-free probes up to sign: {_shown(means)}")
    return means


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
