"""`elicit-experiment`: one command per question; each composes `elicit` and `probes` and writes a run folder."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from elicit.cli import ErrorGroup, WholeHelp
from experiments import EXPERIMENTS

OUT = click.Path(path_type=Path, file_okay=False)


@click.group(cls=ErrorGroup)
@click.version_option(package_name="elicit")
def main() -> None:
    """Experiments on elicitation, and benchmarks against what people use today."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries' talk among themselves


def _adapter(_context: click.Context, _option: click.Parameter, folder: Path | None) -> Path | None:
    """The adapter in a folder, which may be that of a monitor."""
    if folder is None:
        return None
    for place in (folder, folder / "adapter"):
        if (place / "adapter_config.json").is_file():
            return place
    raise click.BadParameter(f"{folder} holds no adapter_config.json; name the folder that `elicit train --out` wrote")


def _adapter_option(purpose: str) -> Callable[..., Any]:
    kind = click.Path(path_type=Path, file_okay=False, exists=True)
    return click.option(
        "--adapter", type=kind, callback=_adapter, help=f"Folder of a trained monitor or adapter, {purpose}."
    )


_OF_DOMAINS = "of the catalogue (`elicit domains`), a .toml file, or hub:owner/name"
# Fields of presets that a command can change, by their names.
CHANGES: dict[str, Callable[..., Any]] = {
    "domains": click.option(
        "--domain", "domains", multiple=True, help=f"Each is trained on and measured on: {_OF_DOMAINS}; repeats."
    ),
    "source": click.option("--source", help=f"Labelled domain to train on: {_OF_DOMAINS}."),
    "sources": click.option(
        "--source", "sources", multiple=True, help=f"Labelled domain to train on: {_OF_DOMAINS}; repeats."
    ),
    "target": click.option("--target", help=f"Domain whose labels measure, and are never learnt from: {_OF_DOMAINS}."),
    "targets": click.option(
        "--target", "targets", multiple=True, help=f"Domain whose held-out labels measure: {_OF_DOMAINS}; repeats."
    ),
    "methods": click.option(
        "--method",
        "methods",
        multiple=True,
        help="Label-free method, or .py file of your own, in place of the preset's; references stay; repeats.",
    ),
    "seeds": click.option(
        "--seed", "seeds", multiple=True, type=click.IntRange(0), help="Of trainings and draws; repeats."
    ),
    "log": click.option(
        "--log",
        multiple=True,
        type=click.Path(exists=True),
        help="Inspect log (.eval, .json) or ControlArena's trajectory.jsonl, in place of the packaged transcripts; repeats.",
    ),
    "label": click.option(
        "--label",
        help="Where a log holds its labels: scores.NAME or metadata.NAME. True, 1, unsafe, attack and Inspect's C (correct: "
        "of a side task, say) are harmful; false, 0, safe, honest and I are not.",
    ),
    "question": click.option("--question", help="What the monitors answer about a log."),
}
# Which of them the preset of each experiment has; a test compares the two, since help does without importing any experiment.
OPTIONS: dict[str, tuple[str, ...]] = {
    "transfer": ("domains", "seeds"),
    "scaling": ("source", "targets", "seeds"),
    "elicitation": ("sources", "targets", "methods", "seeds"),
    "prompt-change": ("source", "targets", "seeds"),
    "instruction": ("source", "targets", "seeds"),
    "thinking": ("source", "targets", "seeds"),
    "summaries": ("source", "target", "seeds"),
    "challenges": ("source", "target", "methods", "seeds"),
    "control": ("source", "methods", "seeds", "log", "label", "question"),
}


def _command(name: str, question: str) -> click.Command:
    @click.option(
        "--preset",
        type=click.Choice(["smoke", "default", "full"]),
        default="default",
        show_default=True,
        help="smoke: a minute or two; default: three seeds, for two CPU cores; full: for a GPU.",
    )
    @click.option("--model", help="Folder, GGUF file, hub id or catalogue name.  [default: smollm2-135m-instruct]")
    @click.option("--out", type=OUT, required=True, help="Folder of the experiment; the same command continues it.")
    def command(preset: str, out: Path, **changes: Any) -> None:
        from experiments.experiment import conduct

        conduct(name, preset, out, click.echo, {key: value for key, value in changes.items() if value})

    for field in reversed(OPTIONS[name]):
        command = CHANGES[field](command)
    return click.command(name, help=question)(command)


for _name, _question in EXPERIMENTS.items():
    main.add_command(_command(_name, _question))


class Benchmark(click.Command):
    """A benchmark, whose results become a page as well."""

    def invoke(self, context: click.Context) -> Any:
        """Run it, and write the page."""
        from experiments.report import write_benchmark_page
        from experiments.resume import on_this_machine

        with on_this_machine(context.params["out"] / "results.json"):
            super().invoke(context)
        name = ["elicit-experiment", *context.command_path.split()[1:]]
        words = list(name)
        for option in self.params:
            if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
                given = context.params[str(option.name)]
                for each in given if option.multiple else (given,):  # type: ignore[attr-defined]
                    words += [option.opts[0], str(each)]
        page = write_benchmark_page(context.params["out"], " ".join(name), str(self.help), shlex.join(words))
        click.echo(f"report: {page.resolve()}")


@main.command(cls=Benchmark)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--out", type=OUT, required=True, help="Folder of the results; what is there is measured anew.")
def distractors(seeds: int, out: Path) -> None:
    """Label-free probes and normalisations on states in which something besides the truth is salient."""
    from experiments.distractors import run_distractors

    run_distractors(seeds, out, say=click.echo)


class Benchmarks(WholeHelp):
    command_class = Benchmark


@main.group(cls=Benchmarks)
def benchmark() -> None:
    """Speed, measured side by side with the same texts."""


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@click.option("--endpoint", required=True, help="The same model at a server: endpoint:URL#NAME.")
@click.option("--texts", default=300, show_default=True, type=click.IntRange(16))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Medians of this many runs.")
@click.option("--dtype", default="auto", show_default=True, help="Of the model here: auto, bfloat16, float16, float32.")
@click.option("--out", type=OUT, required=True)
def served(model: str, endpoint: str, texts: int, repeats: int, dtype: str, out: Path) -> None:
    """Verdict scoring here against a server that has the same model, in turns."""
    from experiments.benchmark_served import benchmark_served

    benchmark_served(model, endpoint, texts, repeats, dtype, out, say=click.echo)


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@_adapter_option("whose rank agreement is measured too")
@click.option("--texts", default=500, show_default=True, type=click.IntRange(16))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Medians of this many runs.")
@click.option("--out", type=OUT, required=True)
def engine(model: str, adapter: Path | None, texts: int, repeats: int, out: Path) -> None:
    """Verdict scoring and hidden states against a plain transformers loop, and lm-eval where it is installed."""
    from experiments.benchmark_engine import benchmark_engine

    benchmark_engine(model, adapter, texts, repeats, out, say=click.echo)


SEARCH_PARTS = ("speed", "cost", "labels", "balance", "untrained")


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@_adapter_option("to start from")
@click.option("--domain", "domains", multiple=True, default=("vader/tweets", "vader/nyt"), show_default=True)
@click.option(
    "--pool",
    default=24,
    show_default=True,
    type=click.IntRange(8),
    help="Texts that both label, at most as many as icm takes.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--part", "parts", multiple=True, default=SEARCH_PARTS, type=click.Choice(SEARCH_PARTS), help="Repeat for several."
)
@click.option("--out", type=OUT, required=True, help="The same command continues what is there.")
def search(
    model: str,
    adapter: Path | None,
    domains: tuple[str, ...],
    pool: int,
    seeds: int,
    parts: tuple[str, ...],
    out: Path,
) -> None:
    """Consistency search against internal coherence maximisation: tokens per label, right labels, and unequal classes."""
    from experiments.benchmark_search import benchmark_search

    benchmark_search(model, adapter, domains, pool, seeds, out, say=click.echo, parts=parts)


@benchmark.command()
@click.option("--texts", default=1000, show_default=True, type=click.IntRange(16), help="Pairs that both tools fit.")
@click.option("--features", default=4096, show_default=True, type=click.IntRange(8), help="Of these.")
@click.option("--layers", default=32, show_default=True, type=click.IntRange(1), help="Of these, that probes fit.")
@click.option("--peer-layers", default=2, show_default=True, type=click.IntRange(1), help="Layers that elk fits.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Medians of this many runs.")
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(1), help="Of the planted directions.")
@click.option("--out", type=OUT, required=True)
def probes(out: Path, **sizes: int) -> None:
    """Label-free probes against EleutherAI's elk where it is installed, and on a planted direction."""
    from experiments.benchmark_probes import benchmark_probes

    benchmark_probes(**sizes, out=out, say=click.echo)


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@click.option("--texts", default=256, show_default=True, type=click.IntRange(16))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Medians of this many runs.")
@click.option("--out", type=OUT, required=True, help="Results of other numbers of processes stay there.")
def processes(model: str, texts: int, repeats: int, out: Path) -> None:
    """With the processes that a launcher such as torchrun started, against what one process was measured to do."""
    from experiments.benchmark_processes import benchmark_processes

    benchmark_processes(model, texts, repeats, out, say=click.echo)


PARTS = ("speed", "sweep", "transfer")


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@click.option("--texts", default=1000, show_default=True, type=click.IntRange(8), help="Of the source, for transfer.")
@click.option("--part", "parts", multiple=True, default=PARTS, type=click.Choice(PARTS), help="Repeat for several.")
@click.option("--out", type=OUT, required=True, help="The same command continues what is there.")
def training(model: str, texts: int, parts: tuple[str, ...], out: Path) -> None:
    """Training against TRL where it is installed, its rates and ranks, and how far it carries."""
    from experiments.benchmark_training import benchmark_training

    benchmark_training(model, texts, parts, out, say=click.echo)


@benchmark.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True)
@click.option("--out", type=OUT, required=True, help="The same command continues what is there.")
def peers(model: str, out: Path) -> None:
    """Engine, probes, training and tokens per label, and one table of what other tools take for the same."""
    from experiments.benchmark_peers import benchmark_peers

    benchmark_peers(model, out, say=click.echo)


if __name__ == "__main__":
    main()
