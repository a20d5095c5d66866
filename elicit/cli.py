"""The command line: `elicit demo | plan | run | train | score | doctor | report | domains | methods`.

Heavy imports stand inside the commands, so that help and errors in options come at once.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from elicit.errors import ElicitError
from elicit.processes import joined

DEMO = {
    "sources": ("vader/amazon",),
    "targets": ("vader/tweets", "vader/nyt"),
    "source_texts": 480,
    "target_texts": 96,
    "calibration_texts": 64,
    "test_texts": 200,
    "drop_overlap": True,
}
NOT_IN_DEMO = ("icm", "bootstrap", "self-training", "thinking", "thinking-self-training")  # for its ten minutes


class WholeHelp(click.Group):
    """A group that says what its commands do whole, and wrapped where the terminal is narrow, in place of cut off."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.short_help = cmd.short_help or (cmd.help or "").partition("\n\n")[0].replace("\n", " ")
        super().add_command(cmd, name)


class ErrorGroup(WholeHelp):
    """A group whose commands run in several processes, end with one line instead of a traceback, and can be interrupted."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with joined():
                return super().invoke(context)
        except ElicitError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\ninterrupted: run the same command again to continue", err=True)
            sys.exit(130)


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps"),
        click.option(
            "--dtype", type=click.Choice(["auto", "bfloat16", "float16", "float32"]), default="auto", show_default=True
        ),
        click.option(
            "--model",
            default="smollm2-135m-instruct",
            show_default=True,
            help="Catalogue name, folder, GGUF file, hub id, or endpoint:URL#NAME of a served model.",
        ),
    ):
        command = option(command)
    return command


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--shots",
            default=0.0,
            show_default=True,
            type=click.FloatRange(0, 1),
            help="Share of the texts to learn from in few-shot sequences too.",
        ),
        click.option(
            "--rank", default=16, show_default=True, type=click.IntRange(1), help="Rank of the LoRA matrices."
        ),
        click.option("--learning-rate", default=1e-3, show_default=True, type=click.FloatRange(0, min_open=True)),
        click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Texts per step."),
        click.option("--epochs", default=2.0, show_default=True, type=click.FloatRange(0, min_open=True)),
        click.option(
            "--source-texts",
            default=800,
            show_default=True,
            type=click.IntRange(8),
            help="At most this many of each source.",
        ),
    ):
        command = option(command)
    return command


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    texts = click.IntRange(8)
    for option in (
        click.option("--drop-overlap", is_flag=True, help="Train without the texts that a target holds too."),
        click.option(
            "--max-text-tokens",
            type=click.IntRange(16),
            help="Longer texts lose their middle.  [default: 2048, or what a monitor named by --model reads]",
        ),
        click.option("--test-texts", default=1000, show_default=True, type=texts),
        click.option("--calibration-texts", default=200, show_default=True, type=texts),
        click.option("--target-texts", default=400, show_default=True, type=texts, help="Of its training split."),
        _training_options,
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0)),
        click.option(
            "--method",
            "methods",
            multiple=True,
            default=("all",),
            show_default=True,
            help="From `elicit methods`, or a Python file that registers some; repeat.",
        ),
        click.option(
            "--target", "targets", multiple=True, required=True, help="Domain to elicit a monitor for; repeat."
        ),
        click.option("--source", "sources", multiple=True, help="Labelled domain to train on; repeat for several."),
        _model_options,
    ):
        command = option(command)
    return command


@click.group(cls=ErrorGroup, context_settings={"max_content_width": 100})
@click.option("--quiet", is_flag=True, help="No progress bars and no notes, only results and errors.")
@click.version_option(package_name="elicit")
def main(quiet: bool) -> None:
    """Monitors without labels: train verdicts on domains that have labels, elicit them on domains that have none."""
    # Set before transformers and tqdm are imported, which read them once.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if quiet or not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"
    logging.basicConfig(level=logging.ERROR if quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in (
        "httpx",
        "httpx2",
        "openai",
        "httpcore",
        "httpcore2",
        "filelock",
        "urllib3",
        "datasets",
        "matplotlib",
        "transformers",
        "accelerate",
        "huggingface_hub",
    ):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def demo(out: Path, seed: int) -> None:
    """The main job on the packaged model and data: train on reviews, elicit on tweets and news, measure."""
    methods = tuple(name for name in _all_methods() if name not in NOT_IN_DEMO)
    _run(out, model="smollm2-135m-instruct", methods=methods, seed=seed, **DEMO)


@main.command()
@_run_options
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Run folder; the same command continues it."
)
def run(out: Path, methods: tuple[str, ...], **options: Any) -> None:
    """Train on sources, elicit on targets, compare with held-out labels; resumable.

    A domain is a name from `elicit domains`, a .toml file beside its data, or hub:owner/name.
    """
    _run(out, methods=_chosen(methods, options["model"]), **options)


@main.command()
@_run_options
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder: what is done there is left out.")
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(0, min_open=True),
    help="Of other hardware, instead of what is measured here.",
)
def plan(out: Path | None, tokens_per_second: float | None, methods: tuple[str, ...], **options: Any) -> None:
    """Tokens, time and disk of a run before it is started; it takes what `elicit run` takes."""
    from elicit.planning import plan as plan_run
    from elicit.run_config import RunConfig

    config = RunConfig(methods=_chosen(methods, options["model"]), **options)
    click.echo(plan_run(config, out, tokens_per_second, say=lambda line: click.echo(line, err=True)))


@main.command()
@_model_options
@click.option("--source", "sources", multiple=True, required=True, help="Labelled domain; repeat for several.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the monitor.")
@click.option("--report-to", default="none", show_default=True, help="Tracker of transformers: wandb, tensorboard, …")
@_training_options
@click.option(
    "--schedule",
    type=click.Choice(
        ["classification", "mixed", "classification-then-instruction", "instruction-then-classification"]
    ),
    default="classification",
    show_default=True,
    metavar="NAME",
    help="classification, mixed, classification-then-instruction or instruction-then-classification.",
)
@click.option(
    "--instructions", default="own", show_default=True, help="Pairs: own, a .jsonl, .csv or .parquet file, or hub:…"
)
@click.option(
    "--instruction-share",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the examples that are instructions.",
)
@click.option(
    "--loss",
    type=click.Choice(["example", "token"]),
    default="example",
    show_default=True,
    help="What counts alike: every example, or every token that is learnt.",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Of the mixture of sources: a high one makes their shares alike.",
)
@click.option(
    "--inverted",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the texts whose question is inverted, and their verdict with it.",
)
@click.option(
    "--wordings",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the texts that are asked about once more: in other words, inverted, or about something else.",
)
@click.option(
    "--source-weight",
    "source_weights",
    multiple=True,
    type=(str, float),
    metavar="NAME WEIGHT",
    help="How much a text of a source counts in the loss; 1 unless named. Repeat.",
)
@click.option(
    "--target-module",
    "target_modules",
    multiple=True,
    help="Linear layer that gets LoRA matrices, such as q_proj; all unless named. Repeat.",
)
@click.option(
    "--first-layer", default=0, show_default=True, type=click.IntRange(0), help="Layers below it stay as they are."
)
@click.option("--full", is_flag=True, help="Train all weights instead of a LoRA adapter; it takes a rate of some 2e-5.")
@click.option("--accumulation", default=1, show_default=True, type=click.IntRange(1), help="Batches per step.")
@click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time.")
@click.option("--length-grouping", is_flag=True, help="Batches of examples of like length, for several devices.")
@click.option(
    "--patience",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Stop after so many validations without a better AUROC on the sources; 0 trains to the end.",
)
def train(
    model: str, dtype: str, device: str, sources: tuple[str, ...], seed: int, out: Path, report_to: str, **sizes: Any
) -> None:
    """Train a verdict monitor on labelled domains, with validation on the way; resumable."""
    from elicit.evaluation.bootstrap import in_words
    from elicit.source_training import train_sources
    from elicit.training import TrainingConfig

    weights = dict(sizes.pop("source_weights"))
    config = TrainingConfig(texts=sizes.pop("source_texts"), source_weights=weights, **sizes)
    report = train_sources(
        model, sources, out, config, seed, dtype, device, report_to, say=lambda line: click.echo(line, err=True)
    )
    for name, row in report["held_out"].items():
        click.echo(f"{name}: AUROC {in_words(row['auroc'])} on {row['n']} held-out texts")
    click.echo(f"monitor: {out}")


@main.command()
@click.option("--monitor", required=True, help="Folder of a monitor, or the name of a language model.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Scores as JSON lines.")
@click.option("--text", "key", default="text", show_default=True, help="Field that holds the text.")
@click.option("--question", help="Ask this instead of the monitor's own question.")
@click.option("--flagged", help="Verdict word for --question.  [default: Yes]")
@click.option("--cleared", help="Verdict word for --question.  [default: No]")
@click.option("--model", help="Language model to use in place of the one that the monitor names.")
@click.option("--dtype", type=click.Choice(["auto", "bfloat16", "float16", "float32"]), default="auto")
@click.option("--device", default="auto")
@click.argument("texts", type=click.Path(path_type=Path, dir_okay=False))
def score(
    monitor: str,
    out: Path,
    key: str,
    question: str | None,
    flagged: str | None,
    cleared: str | None,
    model: str | None,
    dtype: str,
    device: str,
    texts: Path,
) -> None:
    """Score a JSON-lines file of texts that nobody labelled; in constant memory, resumable."""
    from elicit.domains import Question
    from elicit.monitors import load_monitor
    from elicit.scoring import calibration_of, check_files, score_file

    check_files(texts, out, key)
    chosen = {"--flagged": flagged, "--cleared": cleared}
    if unasked := [option for option, word in chosen.items() if word and not question]:
        raise click.UsageError(f"{unasked[0]} is a verdict word of --question, and there is none")
    loaded, folder = load_monitor(monitor, model, dtype, device), Path(monitor).expanduser()
    calibration = calibration_of(folder)
    if question and loaded.question != (asked := Question(question, flagged or "Yes", cleared or "No")):
        # A threshold was fitted for the monitor's own question and says nothing about another.
        loaded.question, calibration = asked, None
    found = score_file(loaded, texts, out, calibration, key, folder if folder.is_dir() else None)
    click.echo(f"scores: {out}" + (f" (unscored: {found.unscored}; each line says why)" if found.unscored else ""))
    if found.truncated:
        click.echo(f"note: texts longer than the monitor reads, of which the middle was left out: {found.truncated}")
    if found.total and found.unscored == found.total:
        raise click.ClickException(f"none of the {found.total} texts could be scored; {out} says why")


@main.command()
@click.option("--model", required=True, help="The served model: endpoint:URL#NAME.")
@click.option(
    "--against", required=True, help="The same model here: catalogue name, folder, hub id, or a monitor's folder."
)
@click.option("--domain", default="vader/amazon", show_default=True, help="Whose texts are scored both ways.")
@click.option("--dtype", type=click.Choice(["auto", "bfloat16", "float16", "float32"]), default="auto")
@click.option("--device", default="auto")
def doctor(model: str, against: str, domain: str, dtype: str, device: str) -> None:
    """Compare a served model with the same model here: log-odds of 64 texts, tokens and template."""
    from elicit.evaluation.parity import compare

    for line in compare(model, against, domain, dtype, device).plain_words():
        click.echo(line)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def report(folder: Path) -> None:
    """Print a run's table and write its figures and HTML report again."""
    from elicit.runs import load_results, write_reports

    path = write_reports(folder)
    _show(load_results(folder), path)


@main.group(invoke_without_command=True)
@click.pass_context
def domains(context: click.Context) -> None:
    """List the catalogue of domains; `elicit domains show NAME` prints rows of one."""
    if context.invoked_subcommand is not None:
        return
    from elicit.domains import describe, domain_names

    for name in domain_names():
        entry = describe(name)
        click.echo(f"{name}  [{entry.licence}; {entry.flagged} flagged, {entry.cleared} cleared]")
        click.echo(f"    {_short(entry.question.text, 110)}")


@domains.command()
@click.argument("name")
@click.option("--rows", default=8, show_default=True, type=click.IntRange(1))
@click.option("--unmask", is_flag=True, help="Print harmful texts too.")
def show(name: str, rows: int, unmask: bool) -> None:
    """Print some rows of a domain: a catalogue name, a .toml file, or hub:owner/name."""
    from elicit.domains import load_domain
    from elicit.domains.counts import counted

    domain = load_domain(name)
    click.echo(f"{domain.name}: {len(domain)} texts, {domain.duplicates} repeated ones left out")
    for line in counted(domain):
        click.echo(line)
    click.echo(f"question: {domain.question.text} ({domain.question.flagged}/{domain.question.cleared})")
    for line in (domain.licence and f"licence: {domain.licence}", domain.notes and f"note: {domain.notes}"):
        if line:
            click.echo(line)
    for text, label in zip(domain.sample(rows).texts, domain.sample(rows).labels, strict=True):
        verdict = {1: domain.question.flagged, 0: domain.question.cleared, None: "?"}[label]
        masked = domain.sensitive and not unmask
        click.echo(f"  {verdict:>5}  {f'[masked, {len(text)} characters]' if masked else _short(text, 100)}")


@main.command()
def methods() -> None:
    """List label-free methods and references."""
    from elicit.methods import METHODS

    width = max(map(len, METHODS))
    for method in sorted(METHODS.values(), key=lambda m: m.label_free is None):
        kind = "label-free" if method.label_free else f"labels: {method.labels}"
        click.echo(f"{method.name:<{width}}  {kind:<14}  {method.description}")


@main.command()
@click.option("--clear", is_flag=True, help="Remove readings and hidden states; models and data stay.")
@click.option("--clear-all", is_flag=True, help="Remove everything: readings, hidden states, models, data.")
def cache(clear: bool, clear_all: bool) -> None:
    """Show what is kept in the user's cache, or clear it."""
    import shutil

    from elicit.domains.artefacts import cache_dir
    from elicit.language_models.cache import ReadingCache
    from elicit.language_models.states import StateCache

    if clear or clear_all:
        ReadingCache().clear()
        StateCache().clear()
        shutil.rmtree(cache_dir() / "adapters", ignore_errors=True)
    if clear_all:
        for part in ("artefacts", "domains", "models"):
            shutil.rmtree(cache_dir() / part, ignore_errors=True)
    click.echo(f"{cache_dir()}")
    for entry in sorted(cache_dir().iterdir()) if cache_dir().is_dir() else ():
        files = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
        click.echo(f"  {entry.name:<20} {sum(path.stat().st_size for path in files) / 1e6:>10.1f} MB")


def _chosen(methods: tuple[str, ...], model: str) -> tuple[str, ...]:
    """Names of methods; a file's are registered, and take its place."""
    from elicit.methods import load_methods

    names: list[str] = []
    for name in methods:
        if name == "all":
            names += _all_methods(model)
        else:
            names += load_methods(Path(name)) if name.endswith(".py") else (name,)
    return tuple(dict.fromkeys(names))


def _all_methods(model: str = "") -> tuple[str, ...]:
    """All methods that a model has what they need for: a served one has verdicts alone."""
    from elicit.language_models.address import is_endpoint
    from elicit.methods import METHODS

    return tuple(name for name, method in METHODS.items() if method.needs == "verdicts" or not is_endpoint(model))


def _run(out: Path, **options: Any) -> None:
    from elicit.run_config import RunConfig
    from elicit.runs import run as run_config

    command = shlex.join(["elicit", *sys.argv[1:]])
    outcome = run_config(RunConfig(**options), out, command, say=lambda line: click.echo(line, err=True))
    _show(outcome.results, outcome.report)
    if outcome.failed:
        raise click.ClickException(
            f"{outcome.failed} methods failed; the table says which, and the same command tries again"
        )


def _show(results: dict[str, Any], report: Path) -> None:
    from elicit.reports import plain_words, render_table

    click.echo(render_table(results))
    for sentence in plain_words(results):
        click.echo(f"· {sentence}")
    click.echo(f"\nreport: {report.resolve()}")


def _short(text: str, width: int) -> str:
    line = " ".join(_printable(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _printable(text: str) -> str:
    # A domain's text is data: control characters must not reach the terminal.
    return "".join(character if character.isprintable() or character.isspace() else "�" for character in text)


if __name__ == "__main__":
    main()
