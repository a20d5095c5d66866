"""Which probe finds the truth, and which a salient distractor? After Farquhar et al. (2023, arXiv 2312.10029)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elicit.files import write_json
from elicit.run_folder import claim, refuse_others
from experiments.benchmark_probes import LABEL_FREE
from experiments.resume import resume
from probes import ClassNorm, ClusterNorm, ErasureNorm, Normalisation
from probes.testing import found, negation, opinion, random_word

CONSTRUCTIONS = {"random word": random_word, "opinion": opinion, "negation": negation}
NORMS: dict[str, Callable[[], Normalisation]] = {
    "class": ClassNorm,
    "cluster": ClusterNorm,
    "erasure": ErasureNorm,
}


def run_distractors(seeds: int, out: Path, say: Callable[[str], None]) -> None:
    """Accuracy, up to sign, against truth and distractor: means, and least and most, over seeds, by probe."""
    refuse_others(out, "results.json", "results")
    with claim(out):
        results = resume(out / "results.json", "distractors", {"seeds": seeds}) | {"accuracy": "up to sign"}
        write_json(out / "results.json", results | {"rows": measured(seeds, say)})


def measured(seeds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row per construction, probe and normalisation."""
    rows: list[dict[str, Any]] = []
    say(f"{'construction':<14}{'probe':<14}{'norm':<10}{'truth':>7}{'distractor':>12}")
    for construction, make in CONSTRUCTIONS.items():
        for name, new_probe in LABEL_FREE.items():
            for norm, new_norm in NORMS.items():
                both: dict[str, list[float]] = {"truth": [], "distractor": []}
                for seed in range(seeds):
                    pairs = make(random_state=seed)
                    probe = new_probe(seed)
                    probe.norm = new_norm()
                    probe.fit(pairs.x_pos, pairs.x_neg)
                    for feature, value in found(probe.score(pairs.x_pos, pairs.x_neg), pairs).items():
                        both[feature].append(value)
                means = {feature: round(statistics.mean(values), 4) for feature, values in both.items()}
                ends = {f"{feature}_ends": [min(values), max(values)] for feature, values in both.items()}
                rows.append({"construction": construction, "probe": name, "norm": norm, "seeds": seeds} | means | ends)
                say(f"{construction:<14}{name:<14}{norm:<10}{means['truth']:>7.2f}{means['distractor']:>12.2f}")
    return rows
