"""What a label costs by consistency search, whether it is as good as by internal coherence maximisation, and where it breaks.

Five parts: "speed", a search over a thousand texts, timed; "cost", prompt tokens per label beside those of `icm`; "labels", right
labels beside `icm` and beside the verdicts alone; "balance", searches in which from few to nearly all texts are flagged; and
"untrained", searches from the model as it came, on many domains, beside the model asked zero-shot. Labels choose the texts of
"balance", and are what labels and scores are compared with; no search sees one.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elicit.domains import Domain, load_domain
from elicit.errors import RunError
from elicit.evaluation import bootstrap_weights, difference, mean_over_seeds
from elicit.evaluation.bootstrap import Resampled, in_words, undefined, weighted_mean
from elicit.files import write_json
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import hash_of_files
from elicit.methods import consistency, elicit_monitor, icm
from elicit.methods.pool import Pool
from elicit.methods.self_training import labels_from_scores
from elicit.monitors import Monitor, Scores, VerdictMonitor
from elicit.run_folder import versions
from experiments.experiment import Folder, compared, held_out
from experiments.resume import resume

PARTS = ("speed", "cost", "labels", "balance", "untrained")
# The first is what consistency starts from: the monitor's own verdicts alone.
METHODS = ("verdicts", "icm", "consistency")
SIZES = (64, 128, 256, 1024)
LARGEST_FOR_ICM = 256  # even to count its requests takes long beyond
MANY = 1000  # texts of the search that is timed,
LONG = "vader/movie"  # of this domain
WORDS = range(20, 41)  # and with so many words
SHARES = (0.5, 0.05, 0.95)  # flagged texts; the others are compared with the first
SHARED = 200  # texts of each such search
TEST = 400
# On vader/movie, spam/sms and facts/countries constants of methods were chosen; on these they were not.
UNSEEN = (
    *("vader/amazon", "vader/tweets", "vader/nyt", "facts/elements"),
    *("sarcasm/headlines", "injection", "pyrit/harm", "pyrit/objective"),
)
UNSEEN_POOL, UNSEEN_TEST = 200, 250


def benchmark_search(
    model: str,
    adapter: Path | None,
    domains: Sequence[str],
    pool: int,
    seeds: int,
    out: Path,
    say: Callable[[str], None],
    parts: Sequence[str] = PARTS,
) -> None:
    """Measure, print and write results.json; the same call continues what was interrupted.

    Args:
        model: whose searches are measured.
        adapter: folder of the LoRA adapter to start from.
        domains: with labels, for "labels" and "balance"; the first is the one whose tokens are counted.
        pool: texts that both methods label.
        seeds: of the labels, and of the searches of every flagged share.
        out: folder of the results.
        say: called with one line per measurement.
        parts: what is measured, of `PARTS`; results of other parts stay.

    Raises:
        RunError: the folder holds something else, or results of other options, weights or data; or `pool` is more than icm takes.
    """
    if pool > icm.POOL:
        raise RunError(f"icm labels at most {icm.POOL} texts, and --pool is {pool}")
    path = out / "results.json"
    options = {
        "model": model,
        "adapter": hash_of_files(adapter) if adapter else None,
        "domains": {name: load_domain(name).require_labels().fingerprint() for name in domains},
        "pool": pool,
    }
    resume(path, "search", options)  # what can be refused before anything is loaded
    local = LocalModel.load(model)
    results = resume(path, "search", options | {"weights": local.fingerprint()})
    monitor = VerdictMonitor(local.with_adapter(adapter) if adapter else local)

    def keep(part: str, found: Any) -> None:
        results[part] = found
        write_json(path, results)

    if "speed" in parts and "speed" not in results:
        keep("speed", speed(monitor))
        say(f"a search over many texts: {results['speed']}")
    if "cost" in parts and "cost" not in results:
        keep("cost", costs(monitor, domains[0], say))
    if "labels" in parts:
        rows = results.get("rows", [])
        done = {(row["domain"], row["method"], row["seed"]) for row in rows}
        for domain, method, seed in product(domains, METHODS, range(seeds)):
            if (domain, method, seed) not in done:
                row = labels_of(monitor, domain, method, pool, seed)
                keep("rows", rows := [*rows, row])
                say(
                    f"{domain:<20} {method:<12} seed {seed}: {np.mean(list(row['right'].values())):.3f} of "
                    f"{len(row['right'])} labels right, {row['tokens_per_label']} tokens per label, {row['seconds']:.0f} s"
                )
        keep("difference", differences(rows))
        for found in results["difference"]:
            said = in_words(found["less"], ".3f", "+")
            say(f"{found['domain']:<20} right labels, consistency less {found['other']}: {said}")
        if len(codes := {row["code"] for row in rows}) > 1:
            say(
                f"these labels are of {len(codes)} states of the code; measure in another folder to compare like with like"
            )
    if "balance" in parts:
        write_json(path, results)  # scores are kept beside it on the way, and are those of these options
        keep("balance", [row for name in domains for row in balance(monitor, name, seeds, Folder(out, say))])
        for row in results["balance"]:
            say(
                f"{row['domain']:<20} {row['flagged_share']:.0%} of {row['texts']} texts flagged, {seeds} seeds: "
                f"AUROC {in_words(row['auroc'])}, less that of {SHARES[0]:.0%} {in_words(row['less_even'], '.3f', '+')}"
            )
    if "untrained" in parts:
        write_json(path, results)
        keep("untrained", [untrained(VerdictMonitor(local), name, seeds, Folder(out, say)) for name in UNSEEN])
        for row in results["untrained"]:
            say(
                f"{row['domain']:<20} untrained, {row['texts']} texts, {seeds} seeds: zero-shot {in_words(row['zero_shot'])}, "
                f"AUROC of consistency less that {in_words(row['less_zero_shot'], '.3f', '+')}"
            )


def speed(monitor: VerdictMonitor) -> dict[str, Any]:
    """Seconds of a search with nothing in the cache, and the process's peak memory with model and data."""
    domain = load_domain(LONG).train
    domain = domain.take([row for row, text in enumerate(domain.texts) if len(text.split()) in WORDS])
    texts = domain.sample(MANY).unlabelled()
    uncached = VerdictMonitor(monitor.model.uncached())
    since = time.perf_counter()
    elicit_monitor(uncached, texts, "consistency")
    return {
        "texts": len(texts),
        "mean_words": round(float(np.mean([len(text.split()) for text in texts.texts])), 1),
        "seconds": round(time.perf_counter() - since, 1),
        "threads": torch.get_num_threads(),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def balance(monitor: VerdictMonitor, name: str, seeds: int, folder: Folder) -> list[dict[str, Any]]:
    """By flagged share of the texts searched: AUROC on the same test texts, and its distance from that of the even share.

    Figures are means over seeds, which draw the texts and search them. Intervals are over test texts and seeds; those of the
    distances are paired, by text and by seed.

    Args:
        monitor: what the searches start from.
        name: of the domain.
        seeds: from 0 on.
        folder: where scores are kept; the same call computes none of them twice.
    """
    domain = load_domain(name)
    test = held_out(domain, TEST)
    sizes: dict[float, int] = {}

    def scores_of(seed: int) -> dict[str, Scores]:
        scores = {}
        for share in SHARES:
            part = with_share(domain.train, share, SHARED, seed)
            sizes[share] = len(part)
            scores[str(share)] = searched(monitor, part, test, f"consistency-{share}-flagged", seed, folder)
        return scores

    found, n = over_seeds(test, scores_of, seeds)
    means = {share: found[str(share)] for share in SHARES}
    even = SHARES[0]
    return [
        {
            "domain": name,
            "flagged_share": share,
            "texts": sizes[share],
            "seeds": seeds,
            "n": n,
            "auroc": mean.to_json(),
            "less_even": difference(mean, means[even]) if share != even else undefined("it is the even share itself"),
        }
        for share, mean in means.items()
    ]


def untrained(monitor: VerdictMonitor, name: str, seeds: int, folder: Folder) -> dict[str, Any]:
    """AUROC of a domain's test texts zero-shot and after searches, means over seeds, with the paired difference.

    Args:
        monitor: the model as it came.
        name: of the domain.
        seeds: of the searches, from 0 on.
        folder: where scores are kept; the same call computes none of them twice.
    """
    domain = load_domain(name)
    part, test = domain.train.sample(UNSEEN_POOL), held_out(domain, UNSEEN_TEST)
    zero_shot = folder.scores(test, "zero-shot", lambda: monitor)

    def scores_of(seed: int) -> dict[str, Scores]:
        name = "consistency-untrained"
        return {"zero-shot": zero_shot, "consistency": searched(monitor, part, test, name, seed, folder)}

    found, n = over_seeds(test, scores_of, seeds)
    return {
        "domain": name,
        "texts": len(part),
        "seeds": seeds,
        "n": n,
        "zero_shot": found["zero-shot"].to_json(),
        "consistency": found["consistency"].to_json(),
        "less_zero_shot": difference(found["consistency"], found["zero-shot"]),
    }


def searched(monitor: VerdictMonitor, part: Domain, test: Domain, name: str, seed: int, folder: Folder) -> Scores:
    """Scores of test texts after a search over other texts, whose labels stay here."""

    def found() -> Monitor:
        return elicit_monitor(monitor, part.unlabelled(), "consistency", seed).monitor

    return folder.scores(test, f"{name}-seed-{seed}", found)


def over_seeds(
    test: Domain, scores_of: Callable[[int], dict[str, Scores]], seeds: int
) -> tuple[dict[str, Resampled], int]:
    """AUROCs by name, means over seeds, paired by text and by seed; and the fewest texts that one of the seeds compares."""
    of_seeds, counts = zip(*(compared(test, scores_of(seed)) for seed in range(seeds)), strict=True)
    return {name: mean_over_seeds([held[name] for held in of_seeds]) for name in of_seeds[0]}, min(counts)


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
    if method == "verdicts":
        pool = Pool.of(monitor, part.unlabelled(), size)
        found, _ = labels_from_scores(monitor, part.unlabelled())
        details: dict[str, Any] = {}
        cost = round(pool.tokens_of_verdicts() / len(pool))
    else:
        elicited = elicit_monitor(monitor, part.unlabelled(), method, seed)
        assert elicited.labelling is not None
        found, details, cost = elicited.labelling, elicited.details, elicited.details["tokens_per_label"]
    given = dict(zip(part.ids, part.labels, strict=True))
    labels = dict(zip(found.ids, found.labels, strict=True))
    return {
        "domain": name,
        "method": method,
        "seed": seed,
        "right": {i: int(int(label) == given[i]) for i, label in labels.items() if given[i] is not None},
        "tokens_per_label": cost,
        "seconds": round(time.perf_counter() - since, 1),
        "threads": torch.get_num_threads(),
        "details": details,
        "code": versions()["code"],
    }


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By domain: share of right labels by consistency less that by another, on the texts that all labelled under all seeds.

    Its interval draws whole groups of texts, whatever their labels (a share of right labels depends on how many are flagged), and
    seeds.
    """
    out = []
    for name in dict.fromkeys(row["domain"] for row in rows):
        right = {(row["method"], row["seed"]): row["right"] for row in rows if row["domain"] == name}
        seeds = sorted({seed for _, seed in right if all((method, seed) in right for method in METHODS)})
        if not seeds:
            continue
        shared = set.intersection(*(set(right[method, seed]) for method in METHODS for seed in seeds))
        domain = load_domain(name)
        texts = domain.take([row for row, i in enumerate(domain.ids) if i in shared])
        weights = bootstrap_weights(np.zeros(len(texts)), texts.groups)
        weights = np.concatenate([np.ones((1, len(texts)), np.float32), weights])
        for other in METHODS[:-1]:
            gains = [
                weighted_mean([right["consistency", seed][i] - right[other, seed][i] for i in texts.ids], weights)
                for seed in seeds
            ]
            less = mean_over_seeds(gains, (-1.0, 1.0)).to_json()
            out.append({"domain": name, "other": other, "texts": len(texts), "less": less})
    return out
