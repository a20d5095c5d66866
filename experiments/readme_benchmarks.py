"""What the READMEs say of benchmarks, made of their kept results.

Results of one benchmark are kept by model; where a sentence or a table needs a part that was not measured, it is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from elicit.language_models.loading import DEFAULT_MODEL
from experiments.markdown import bullets, figure, markdown, number

Results = Mapping[str, Any]
NAMES = {"smollm2-135m-instruct": "SmolLM2-135M", "gemma-3-270m": "Gemma-3-270m"}


def without_texts(value: Any) -> Any:
    """Results of a benchmark without what there is of every text: of right labels, their share."""
    if isinstance(value, Mapping):
        held = {key: without_texts(inner) for key, inner in value.items() if key != "right"}
        return held | ({"right_share": round(statistics.mean(value["right"].values()), 4)} if "right" in value else {})
    return [without_texts(each) for each in value] if isinstance(value, list) else value


def model_of(results: Results) -> str:
    """Whose results they are, or "" where no model has a part in them."""
    alone = results.get("processes", {}).get("1", {})
    return str(results["options"].get("model") or results.get("model") or alone.get("model", ""))


def shown(results: Results) -> Results:
    """Those of the model that is shown where there is room for one: the default one, or else the first."""
    held: Mapping[str, Results] = results["by_model"]
    return held.get(DEFAULT_MODEL) or next(iter(held.values()))


def engine(results: Results) -> str:
    """Texts per second by work and tool, and what else was measured of ours."""
    found = shown(results)
    rows = {(row["work"], row["who"]): row for row in found["rows"]}
    tools = list(dict.fromkeys(row["who"] for row in found["rows"]))
    body = []
    for work in dict.fromkeys(row["work"] for row in found["rows"]):
        mine = rows[work, "elicit"]
        if any((work, tool) in rows for tool in tools[1:]):
            pairs = work.startswith("contrast pairs")
            cells = [_speed(mine, "pairs" if pairs else "texts")]
            cells += [_slower(mine, rows[work, tool]) if (work, tool) in rows else "–" for tool in tools[1:]]
            body.append([f"{work} ({mine['texts']:,} texts)", *cells])
    growth = [row for row in found["rows"] if "extra_gigabytes" in row]
    few, many = growth[0], growth[-1]
    warm = rows["warm cache", "elicit"]
    pairs, plain = (rows["contrast pairs, all layers", tool] for tool in ("elicit", "transformers, batch 1"))
    said = [
        f"The matrix products of the verdicts alone, at the rate of a large one, would take "
        f"{rows['verdicts', 'elicit']['share_of_floor']:.0%} of the time that the verdicts take.",
        f"Memory grew from {few['extra_gigabytes']:.2f} to {many['extra_gigabytes']:.2f} GB above the weights between "
        f"{few['texts']:,} and {many['texts']:,} texts, at {few['texts_per_second']:.0f} and "
        f"{many['texts_per_second']:.0f} texts/s; contrast pairs take {pairs['memory_in_weights']:.2f} times the weights in all, "
        f"and {plain['memory_in_weights']:.2f} times in the plain loop.",
        f"Readings come from the cache at {warm['texts_per_second']:,.0f} texts/s.",
        "Log-odds rank texts as float32 does: Spearman correlation "
        + ", ".join(f"{value['with float32']:.4f} for the model {name}" for name, value in found["spearman"].items())
        + ".",
    ]
    head = [f"{found['threads']} threads, {_dtype(found['dtype'])}, {found['mean_text_tokens']} tokens a text", *tools]
    return f"{markdown(head, body)}\n\n{bullets(said)}"


def training(results: Results) -> str:
    """Speed and memory beside TRL by model, how far training carries, and where rate and rank come from."""
    parts, speeds, said = [], [], []
    for model, found in results["by_model"].items():
        tools = {row["who"]: row for row in found.get("speed", ())}
        if tools:
            mine = tools["elicit"]
            cells = [f"{mine['tokens_per_second']:.0f} tokens/s, {mine['extra_gigabytes']:.1f} GB beyond the weights"]
            if other := tools.get("trl"):
                times = mine["tokens_per_second"] / other["tokens_per_second"]
                cells.append(
                    f"{other['tokens_per_second']:.0f} ({times:.1f} times slower), {other['extra_gigabytes']:.1f} GB"
                )
            speeds.append([NAMES.get(model, model), *cells, *["–"] * (2 - len(cells))])
        if carried := found.get("transfer"):
            seconds = carried["seconds"]
            where = ", ".join(f"{figure(value)} on {name}" for name, value in carried["auroc"].items())
            said.append(
                f"Trained on {carried['texts']:,} product reviews for two epochs (the mean of {carried['seeds']} seeds), "
                f"{NAMES.get(model, model)} has AUROC {where}. One training took {min(seconds):.0f} to {max(seconds):.0f} s on "
                f"{found['options']['threads']} threads."
            )
    if speeds:
        parts.append(markdown(["model", "elicit", "TRL"], speeds))
    return "\n\n".join([*parts, *([bullets(said)] if said else [])])


def sweep(results: Results) -> str:
    """Validation AUROC and loss by rate and rank."""
    rows = shown(results)["sweep"]
    sizes = list(dict.fromkeys((row["texts"], row["epochs"]) for row in rows))
    at = {(row["learning_rate"], row["rank"], row["texts"], row["epochs"]): row for row in rows}
    body = []
    for rate, rank in dict.fromkeys((row["learning_rate"], row["rank"]) for row in rows):
        cells = [at[rate, rank, *size] for size in sizes]
        body.append([f"{rate:g}, {rank}", *(f"{_short(row['auroc'])} ({_short(row['loss'])})" for row in cells)])
    head = [f"{texts} texts, {epochs:g} epoch{'s' if epochs > 1 else ''}" for texts, epochs in sizes]
    return markdown(["learning rate, rank", *head], body)


def search(results: Results) -> str:
    """What a label costs, how many are right, and what unequal classes change."""
    found = shown(results)
    said = []
    for row in found.get("cost", ()):
        if "icm_tokens_per_label" in row and row["texts"] == max(
            each["texts"] for each in found["cost"] if "icm_tokens_per_label" in each
        ):
            said.append(
                f"For {row['texts']} texts `consistency` sends {row['consistency_tokens_per_label']:,} tokens per label, "
                f"{row['consistency_passes']:.1f} times what all prompts hold; `icm` would send "
                f"{row['icm_tokens_per_label']:,} (counted on made-up readings), {row['icm_in_consistencies']:,.0f} times as many."
            )
    if cost := found.get("cost"):
        passes = [row["consistency_passes"] for row in cost]
        said.append(
            f"From {cost[0]['texts']:,} to {cost[-1]['texts']:,} texts `consistency` reads {min(passes):.1f} to {max(passes):.1f} "
            "times what all prompts hold."
        )
    if timed := found.get("speed"):
        said.append(
            f"A search over {timed['texts']:,} texts of {timed['mean_words']:.0f} words takes {timed['seconds']:.0f} s on "
            f"{timed['threads']} threads, and {timed['peak_gigabytes']:.1f} GB with model and data."
        )
    for row in found.get("balance", ()):
        if row["less_even"].get("value") is not None:
            said.append(
                f"With {row['flagged_share']:.0%} of {row['texts']} texts of {row['domain']} flagged in place of half of them, the "
                f"AUROC of `consistency` changes by {figure(row['less_even'], 3)} ({row['seeds']} seeds)."
            )
    tables = [table(found) for part, table in (("difference", _labels), ("untrained", _untrained)) if part in found]
    return "\n\n".join([*tables, *([bullets(said)] if said else [])])


def served(results: Results) -> str:
    """Texts per second here and behind a server."""
    found = shown(results)
    body = [
        [
            work,
            f"{row['texts_per_second']['here']:.1f} texts/s",
            f"{row['texts_per_second']['served']:.1f} ({row['elicit_is_times_faster']:.1f} times slower)",
        ]
        for work, row in found["work"].items()
    ]
    return markdown(["work", f"here, {_dtype(found['dtype_here'])}", "served"], body)


def probes(results: Results) -> str:
    """Seconds per layer beside elk, of all probes together, and whether they find what was planted."""
    found = shown(results)
    rows = {(row["probe"], row["who"]): row for row in found["against_elk"]}
    body = []
    for probe in dict.fromkeys(row["probe"] for row in found["against_elk"]):
        mine, other = rows[probe, "probes"], rows.get((probe, "elk"))
        cells = [f"{mine['seconds_per_layer']:.3f} s, {mine['layers']} layers", "–"]
        if other:
            times = f"{other['probes_is_times_faster']:.1f} times slower, {other['layers']} layers"
            cells[1] = f"{other['seconds_per_layer']:.2f} s ({times})"
        body.append([f"`{probe}`", *cells])
    planted = ", ".join(f"{name} {number(value)}" for name, value in found["planted_up_to_sign"].items())
    seconds = {name: value for name, value in found["seconds_30_layers"].items() if name != "together"}
    slowest = max(seconds, key=lambda name: seconds[name])
    said = [
        f"All {len(seconds)} probes on 1,000 pairs and 30 layers of width 576 take {sum(seconds.values()):.0f} s on one thread, of "
        f"which {slowest} takes {seconds[slowest]:.0f}.",
        f"On new pairs with a planted truth AUROC is, in the mean of {found['seeds']} seeds and of label-free probes up to sign: "
        f"{planted}.",
    ]
    head = [f"{found['texts']:,} pairs of width {found['features']:,}, a layer", "probes", "elk"]
    return "\n\n".join([markdown(head, body), bullets(said)])


def processes(results: Results) -> str:
    """How many times as fast several processes are as one."""
    found = shown(results)
    body = []
    for count, held in found["processes"].items():
        works = {name: row for name, row in held.items() if isinstance(row, Mapping)}
        if all("times_faster_than_one" in row for row in works.values()):
            body.append([count, *(f"{row['times_faster_than_one']:.2f}" for row in works.values())])
    works = [name for name, row in found["processes"]["1"].items() if isinstance(row, Mapping)]
    return markdown(["processes", *(f"{name}, times one" for name in works)], body)


def peers(results: Results) -> str:
    """What other tools lack, and how many times the cost of the same work is there."""
    found = shown(results)
    body = []
    for purpose, tool, lacks, names in PEERS:
        rows = [row for row in found["rows"] if row["peer"] in names]
        times = "; ".join(f"{row['work']}: {row['times']:,.1f} times" for row in rows)
        # Nobody waits for what the search of the reference code would read: it is counted.
        body.append([purpose, tool, lacks, (COUNTED if "icm" in names else "") + times or "–"])
    return markdown(["for", "there is", "what it does not do, and this does", "its cost, in ours"], body)


COUNTED = "tokens that its algorithm would read, counted with `icm`: "
PEERS = (
    (
        "labels without labels",
        "the reference code of internal coherence maximisation",
        "save its labels, resume, read log-odds of the model itself (its algorithm is `icm` here)",
        ("icm",),
    ),
    (
        "probes on hidden states",
        "EleutherAI's elk and ccs",
        "fit all layers and restarts at once, choose layer and sign without labels",
        ("elk",),
    ),
    (
        "verdicts of a language model",
        "lm-evaluation-harness",
        "run what prompts share once, give rank metrics with paired intervals",
        ("lm-eval, batch 16",),
    ),
    (
        "training on verdicts",
        "TRL's `SFTTrainer`",
        "prove that one verdict token per text is learnt, weigh it against whole responses",
        ("trl",),
    ),
    (
        "monitors for control",
        "ControlArena",
        "score by log-odds, train monitors; its exported trajectories are read here",
        (),
    ),
)


def distractors(results: Results) -> str:
    """Accuracy against the truth, and against the distractor, by probe, construction and normalisation."""
    rows = shown(results)["rows"]
    at = {(row["probe"], row["construction"], row["norm"]): row for row in rows}
    columns = list(dict.fromkeys((row["construction"], row["norm"]) for row in rows))
    body = []
    for probe in dict.fromkeys(row["probe"] for row in rows):
        held = [at[probe, *column] for column in columns]
        body.append([f"`{probe}`", *(f"{row['truth']:.0%} ({row['distractor']:.0%})" for row in held)])
    return markdown(["probe", *(", ".join(column) for column in columns)], body)


BENCHMARKS: dict[str, Callable[[Results], str]] = {
    "distractors": distractors,
    "engine": engine,
    "peers": peers,
    "probes": probes,
    "processes": processes,
    "search": search,
    "served": served,
    "training": training,
}


def _labels(found: Results) -> str:
    """Shares of right labels by domain and method, and what consistency has more."""
    rows, less = found["rows"], {(row["domain"], row["other"]): row for row in found["difference"]}
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    body = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for domain in domains:
            right = statistics.mean(
                row["right_share"] for row in rows if (row["domain"], row["method"]) == (domain, method)
            )
            gain = less.get((domain, method))
            cells.append(f"{right:.0%}" + (f" ({figure(gain['less'])})" if gain else ""))
        body.append([f"`{method}`", *cells])
    return markdown(["right labels (how many more `consistency` has)", *domains], body)


def _untrained(found: Results) -> str:
    """AUROC of the model as it came, asked zero-shot, and of what a search makes of it."""
    rows = found["untrained"]
    body = [
        [
            row["domain"],
            f"{row['texts']}, {row['n']}",
            *(figure(row[key]) for key in ("zero_shot", "consistency")),
            figure(row["less_zero_shot"], 3),
        ]
        for row in rows
    ]
    head = [f"from the untrained model, {rows[0]['seeds']} seeds", "texts searched, measured on"]
    return markdown([*head, "zero-shot", "`consistency`", "more"], body)


def _speed(row: Results, unit: str) -> str:
    return f"{row['texts_per_second']:.1f} {unit}/s"


def _slower(mine: Results, other: Results) -> str:
    times = mine["texts_per_second"] / other["texts_per_second"]
    some = f", {other['texts']} texts" if other["texts"] != mine["texts"] else ""
    return f"{other['texts_per_second']:.1f} ({times:.1f} times slower{some})"


def _dtype(name: str) -> str:
    return name.removeprefix("torch.")


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".lstrip("0")
