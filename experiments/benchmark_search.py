"""What a label costs by consistency search, whether it is as good as by internal coherence maximisation, and where it breaks.

Three parts: prompt tokens and right labels beside `icm`; a search over a thousand texts, timed; and searches in which from few to
nearly all texts are flagged. Labels choose the texts of the last part, and are what labels are compared with; no search sees one.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elicit.domains import Domain, load_domain
from elicit.errors import RunError
from elicit.evaluation import bootstrap_weights, difference, mean_over_seeds
from elicit.evaluation.bootstrap import weighted_mean
from elicit.files import write_json
from elicit.language_models.loading import load_model
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import Weights, hash_of_files
from elicit.methods import consistency, elicit_monitor, icm
from elicit.methods.pool import Pool
from elicit.monitors import VerdictMonitor
from experiments.experiment import compared, held_out
from experiments.resume import resume

METHODS = ("icm", "consistency")
SIZES = (64, 128, 256, 1024)
LARGEST_FOR_ICM = 256  # even to count its requests takes long beyond
MANY = 1000  # texts of the search that is timed,
LONG = "vader/movie"  # of this domain
WORDS = range(20, 41)  # and with so many words
SHARES = (0.5, 0.05, 0.95)  # flagged texts; the others are compared with the first
SHARED = 200  # texts of each such search
TEST = 400


def benchmark_search(
    model: str,
    adapter: Path | None,
    domains: Sequence[str],
    pool: int,
    seeds: int,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Measure, print and write results.json; the same call continues what was interrupted."""
    if pool > icm.POOL:
        raise RunError(f"icm labels at most {icm.POOL} texts, and --pool is {pool}")
    path = out / "results.json"
    options = {
        "model": model,
        "adapter": hash_of_files(adapter) if adapter else None,
        "domains": {name: load_domain(name).require_labels().fingerprint() for name in domains},
        "pool": pool,
    }
    empty: dict[str, Any] = {"cost": [], "speed": None, "rows": [], "balance": []}
    results = empty | resume(path, "search", options)
    if not results["speed"]:
        results["speed"] = speed(model, adapter)
        say(f"a search over many texts: {results['speed']}")
        write_json(path, results)
    local = LocalModel.load(model)
    monitor = VerdictMonitor(local.with_adapter(adapter) if adapter else local)
    if not results["cost"]:
        results["cost"] = costs(monitor, domains[0], say)
        write_json(path, results)
    done = {(row["domain"], row["method"], row["seed"]) for row in results["rows"]}
    for domain in domains:
        for method in METHODS:
            for seed in range(seeds):
                if (domain, method, seed) not in done:
                    results["rows"].append(labels_of(monitor, domain, method, pool, seed))
                    write_json(path, results)
                    row = results["rows"][-1]
                    say(
                        f"{domain:<20} {method:<12} seed {seed}: {np.mean(list(row['right'].values())):.3f} of "
                        f"{len(row['right'])} labels right, {row['tokens_per_label']} tokens per label, {row['seconds']:.0f} s"
                    )
    for domain in domains:
        for seed in range(seeds):
            if not any((row["domain"], row["seed"]) == (domain, seed) for row in results["balance"]):
                results["balance"].append({"domain": domain, "seed": seed, "shares": balance(monitor, domain, seed)})
                write_json(path, results)
                say(f"{domain:<20} seed {seed}: by flagged share, {results['balance'][-1]['shares']}")
    results["difference"] = differences(results["rows"])
    for domain, found in results["difference"].items():
        say(
            f"{domain:<20} right labels, consistency less icm: {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
        )
    write_json(path, results)


def speed(model: str, adapter: Path | None) -> dict[str, Any]:
    """Seconds of a search with nothing in the cache, and the process's peak memory with model and data."""
    domain = load_domain(LONG).train
    domain = domain.take([row for row, text in enumerate(domain.texts) if len(text.split()) in WORDS])
    texts = domain.sample(MANY).unlabelled()
    monitor = VerdictMonitor(LocalModel(model, Weights(*load_model(model)), adapter))
    since = time.perf_counter()
    elicit_monitor(monitor, texts, "consistency")
    return {
        "texts": len(texts),
        "mean_words": round(float(np.mean([len(text.split()) for text in texts.texts])), 1),
        "seconds": round(time.perf_counter() - since, 1),
        "threads": torch.get_num_threads(),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def balance(monitor: VerdictMonitor, name: str, seed: int) -> dict[str, Any]:
    """By flagged share of the texts searched: AUROC on the same test texts, and its distance from that of the even share."""
    domain = load_domain(name)
    test = held_out(domain, TEST)
    scores, sizes = {}, {}
    for share in SHARES:
        part = with_share(domain.train, share, SHARED, seed)
        elicited = elicit_monitor(monitor, part.unlabelled(), "consistency", seed)
        scores[str(share)], sizes[str(share)] = elicited.monitor.score(test.unlabelled()), len(part)
    figures, _ = compared(test, scores)
    even = figures[str(SHARES[0])]
    return {
        share: {"auroc": here.to_json(), "less_even": difference(here, even), "texts": sizes[share]}
        for share, here in figures.items()
    }


def with_share(domain: Domain, share: float, size: int, seed: int) -> Domain:
    """Texts of which such a share is flagged: `size`, or as many as a domain has that keep the share."""
    order = np.random.default_rng(seed).permutation(len(domain)).tolist()
    of = {label: [row for row in order if domain.labels[row] == label] for label in (1, 0)}
    size = min(size, int(len(of[1]) / share), int(len(of[0]) / (1 - share)))
    flagged = round(share * size)
    return domain.take(sorted([*of[1][:flagged], *of[0][: size - flagged]]))


def costs(monitor: VerdictMonitor, domain: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Prompt tokens per label by number of texts, counted while the searches run on made-up readings in place of the model's."""
    rows = []
    for size in SIZES:
        pool = Pool.of(monitor, load_domain(domain).unlabelled(), size)
        alone, together = pool.tokens_of_verdicts(), tokens_of_consistency(pool)
        row = {
            "texts": len(pool),
            "consistency_tokens_per_label": round((alone + together) / len(pool)),
            "consistency_passes": round((alone + together) / alone, 2),
        }
        if size <= LARGEST_FOR_ICM:
            requests, tokens = cost_of_icm(pool)
            row["icm_requests_per_label"] = round(requests / len(pool), 1)
            row["icm_tokens_per_label"] = round(tokens / len(pool))
            row["icm_in_consistencies"] = round(tokens / (alone + together), 1)
        say(f"counted: {row}")
        rows.append(row)
    return rows


def tokens_of_consistency(pool: Pool) -> int:
    """Tokens of all packs of one search."""
    sent: list[int] = []
    rng = np.random.default_rng(0)

    def read(packs: Sequence[Sequence[int]], _: Any) -> list[Any]:
        sent.extend(map(pool.tokens, packs))
        return [rng.normal(size=len(pack)) for pack in packs]

    def packs() -> list[list[int]]:
        return pool.packs(rng.permutation(len(pool)).tolist(), consistency.pack_size(len(pool)))

    consistency.search(rng.normal(size=len(pool)), read, packs, [], rng)
    return sum(sent)


def cost_of_icm(pool: Pool) -> tuple[int, int]:
    """Requests and their tokens, when every text keeps the label that it is given first."""
    spent = [0, 0]

    def score(asked: Sequence[tuple[icm.Labels, int]]) -> list[float]:
        spent[0] += len(asked)
        spent[1] += sum(pool.tokens([*context, row]) for context, row in asked)
        return [2.0 if row % 2 else -2.0 for _, row in asked]

    icm.search(score, len(pool), [], np.random.default_rng(0))
    return spent[0], spent[1]


def labels_of(monitor: VerdictMonitor, name: str, method: str, size: int, seed: int) -> dict[str, Any]:
    """One labelling, and which of its labels are those that somebody gave."""
    part = load_domain(name).train.sample(size)
    since = time.perf_counter()
    found = elicit_monitor(monitor, part.unlabelled(), method, seed)
    assert found.labelling is not None
    given = dict(zip(part.ids, part.labels, strict=True))
    labels = dict(zip(found.labelling.ids, found.labelling.labels, strict=True))
    return {
        "domain": name,
        "method": method,
        "seed": seed,
        "right": {i: int(int(label) == given[i]) for i, label in labels.items() if given[i] is not None},
        "tokens_per_label": found.details["tokens_per_label"],
        "seconds": round(time.perf_counter() - since, 1),
        "threads": torch.get_num_threads(),
        "details": found.details,
    }


def differences(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By domain: share of right labels by consistency less that by icm, on the texts that both labelled under all seeds.

    Its interval draws whole groups of texts, and seeds.
    """
    out = {}
    for name in dict.fromkeys(row["domain"] for row in rows):
        right = {(row["method"], row["seed"]): row["right"] for row in rows if row["domain"] == name}
        seeds = sorted({seed for _, seed in right if all((method, seed) in right for method in METHODS)})
        if not seeds:
            continue
        shared = set.intersection(*(set(right[method, seed]) for method in METHODS for seed in seeds))
        domain = load_domain(name)
        texts = domain.take([row for row, i in enumerate(domain.ids) if i in shared])
        weights = bootstrap_weights(texts.label_array(), texts.groups)
        weights = np.concatenate([np.ones((1, len(texts)), np.float32), weights])
        gains = [
            weighted_mean([right["consistency", seed][i] - right["icm", seed][i] for i in texts.ids], weights)
            for seed in seeds
        ]
        out[name] = mean_over_seeds(gains).to_json() | {"texts": len(texts)}
    return out
