"""Every comparison with another tool in one table: the benchmarks of engine, probes and training, and tokens per label.

A peer that is not installed is left out of the table. Each benchmark keeps its own folder, so that the same command goes on with
the first that did not end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elicit.files import read_json, write_json
from experiments.benchmark_engine import benchmark_engine
from experiments.benchmark_probes import benchmark_probes
from experiments.benchmark_search import benchmark_search
from experiments.benchmark_training import benchmark_training
from experiments.peers import PACKAGES, installed
from experiments.resume import on_this_machine, resume

PEERS_OF = {"training": ["trl"], "engine": ["lm-eval"], "probes": ["elk"], "search": []}
Row = dict[str, Any]


def benchmark_peers(model: str, out: Path, say: Callable[[str], None]) -> None:
    """Run what has no results yet, print the table and write it to results.json."""
    parts: dict[str, Callable[[Path], None]] = {
        "training": lambda folder: benchmark_training(model, 1000, ("speed",), folder, say),
        "engine": lambda folder: benchmark_engine(model, None, 500, 5, folder, say),
        "probes": lambda folder: benchmark_probes(1000, 4096, 32, 2, 3, 20, folder, say),
        "search": lambda folder: benchmark_search(model, None, ("vader/tweets",), 24, 3, folder, say, ("cost",)),
    }
    results = resume(out / "results.json", "peers", {"model": model})
    found: dict[str, Any] = {}
    for name, run in parts.items():
        done = out / name / "done.json"
        # A benchmark whose peer was installed or changed since is measured again, both sides.
        with_peers = {peer: installed(peer) for peer in PEERS_OF[name]}
        ended = resume(done, f"peers, {name}", {"model": model})
        if not done.is_file() or ended["peers"] != with_peers:
            say(f"benchmark {name}")
            with on_this_machine(out / name / "results.json"):
                run(out / name)
            write_json(done, ended | {"peers": with_peers})
        found[name] = read_json(out / name / "results.json")
    rows = comparisons(found)
    versions = {peer: version for peer in PACKAGES if (version := installed(peer))}
    write_json(out / "results.json", results | {"peers": versions, "rows": rows})
    for line in table(rows):
        say(line)


def comparisons(found: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row per peer and work: by how many times the peer takes longer, or needs more, from the benchmarks' results."""
    return [
        *_speeds(found["engine"]),
        *_training(found["training"]),
        *_probes(found["probes"]),
        *_search(found["search"]),
    ]


def table(rows: list[Row]) -> list[str]:
    """Lines of text."""
    width = {key: max(len(str(row[key])) for row in rows) for key in ("peer", "work", "ours", "theirs")}
    return [
        f"{row['peer']:<{width['peer']}}  {row['work']:<{width['work']}}  {row['ours']:>{width['ours']}}  "
        f"{row['theirs']:>{width['theirs']}}  {row['times']:,.1f} times"
        for row in rows
    ]


def _speeds(engine: Mapping[str, Any]) -> Iterator[Row]:
    mine = {row["work"]: row for row in engine["rows"] if row["who"] == "elicit"}
    for row in engine["rows"]:
        if row["who"] != "elicit":
            ours, theirs = mine[row["work"]]["texts_per_second"], row["texts_per_second"]
            yield _row(row["who"], row["work"], f"{ours:.1f} texts/s", f"{theirs:.1f} texts/s", ours / theirs)


def _training(training: Mapping[str, Any]) -> Iterator[Row]:
    by_who = {row["who"]: row for row in training["speed"]}
    ours, theirs = by_who["elicit"], by_who.get("trl")
    if theirs is None:
        return
    speeds, memory = [[row[key] for row in (ours, theirs)] for key in ("tokens_per_second", "extra_gigabytes")]
    yield _row("trl", "training, speed", *(f"{value:.0f} tokens/s" for value in speeds), speeds[0] / speeds[1])
    yield _row("trl", "training, memory", *(f"{value:.1f} GB" for value in memory), memory[1] / memory[0])


def _probes(probes: Mapping[str, Any]) -> Iterator[Row]:
    mine = {row["probe"]: row for row in probes["against_elk"] if row["who"] == "probes"}
    for row in probes["against_elk"]:
        if row["who"] != "probes":
            ours, theirs = mine[row["probe"]]["seconds_per_layer"], row["seconds_per_layer"]
            yield _row(row["who"], row["probe"], f"{ours:.2f} s/layer", f"{theirs:.2f} s/layer", theirs / ours)


def _search(search: Mapping[str, Any]) -> Iterator[Row]:
    for row in search["cost"]:
        if "icm_tokens_per_label" in row:
            ours, theirs = row["consistency_tokens_per_label"], row["icm_tokens_per_label"]
            work = f"labels of {row['texts']} texts"
            yield _row("icm", work, f"{ours:,} tokens/label", f"{theirs:,} tokens/label", row["icm_in_consistencies"])


def _row(peer: str, work: str, ours: str, theirs: str, times: float) -> Row:
    return {"peer": peer, "work": work, "ours": ours, "theirs": theirs, "times": round(times, 2)}
