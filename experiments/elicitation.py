"""Which label-free method recovers how much of the gap, from the untrained and from the source-trained model?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elicit.files import write_json
from elicit.methods import METHODS
from elicit.reports import render_table
from elicit.runs import RunConfig, run


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    texts: dict[str, int]
    model: str = "smollm2-135m-instruct"


SLOW = ("icm", "self-training")  # minutes to hours of one target on a CPU


PRESETS = {
    "smoke": Preset(
        sources=("vader/amazon",),
        targets=("vader/tweets",),
        methods=("untrained", "transfer", "ccs", "state-consistency", "keyword-target"),
        seeds=(0,),
        texts={"source_texts": 96, "target_texts": 48, "calibration_texts": 32, "test_texts": 64},
    ),
    "default": Preset(
        sources=("vader/amazon", "facts/countries"),
        targets=("vader/tweets", "vader/nyt", "facts/elements", "sarcasm/headlines"),
        methods=tuple(name for name in METHODS if name not in SLOW),
        seeds=(0, 1, 2),
        texts={"source_texts": 320, "target_texts": 96, "calibration_texts": 48, "test_texts": 200},
    ),
    "full": Preset(
        sources=("vader/amazon", "vader/movie"),
        targets=("vader/tweets", "vader/nyt", "facts/elements", "sarcasm/headlines", "injection", "agent/web-policy"),
        methods=tuple(METHODS),
        seeds=(0, 1, 2, 3, 4),
        texts={"source_texts": 2000, "target_texts": 1000, "calibration_texts": 300, "test_texts": 1000},
    ),
}


def run_elicitation(preset: Preset, out: Path, say: Callable[[str], None]) -> None:
    """One run folder per seed and starting model below `out`, and `results.json` with the rows of all."""
    rows = []
    for start, sources in (("source-trained", preset.sources), ("untrained", ())):
        for seed in preset.seeds:
            methods = tuple(name for name in preset.methods if sources or METHODS[name].labels != "source")
            config = RunConfig(
                preset.model, sources, preset.targets, methods, seed=seed, drop_overlap=True, **preset.texts
            )
            outcome = run(config, out / f"seed-{seed}" / start, f"elicit-experiment elicitation --out {out}", say)
            say(render_table(outcome.results))
            rows += [row | {"seed": seed, "start": start} for row in outcome.results["rows"]]
    write_json(out / "results.json", {"schema": 1, "rows": rows})
