"""`elicit train`: sources in; a monitor, its figures on held-out texts of the sources, and a model card out.

adapter/ or model/      what PEFT or transformers wrote
monitor.json            the monitor, for `elicit score` and `load_monitor`
training.json           what was asked, loss and validation figures, held-out figures of each source
README.md               the model card
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from elicit.domains import Domain, check_names, load_domain
from elicit.errors import DomainError, RunError
from elicit.evaluation import evaluate_target
from elicit.evaluation.bootstrap import in_words
from elicit.files import read_json, write_json, write_text
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor, fit_calibration
from elicit.run_folder import refuse_others
from elicit.training import TrainingConfig, train
from elicit.training.config import check_source_weights
from elicit.training.contradictions import check_contradictions
from elicit.training.trackers import check_tracker
from elicit.training.validation import unlearnt, validation_parts

HELD_OUT = 400  # texts of each source's test split
FIGURES = ("auroc", "balanced_accuracy")


def train_sources(
    model: str,
    sources: Sequence[str],
    out: Path,
    config: TrainingConfig,
    seed: int = 0,
    dtype: str = "auto",
    device: str = "auto",
    report_to: str = "none",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a verdict monitor on labelled domains; the same call continues what was interrupted.

    Args:
        model: catalogue name, folder, GGUF file or hub id.
        sources: labelled domains; their training splits are learnt from, their calibration splits validated on.
        out: folder of the monitor.
        config, seed, report_to: as in `train`.
        dtype, device: of the language model.
        say: called with one line per step.

    Returns:
        what training.json holds.

    Raises:
        DomainError: a source cannot be trained on. Raised before any model is loaded.
        RunError: the folder holds something else.
    """
    domains = [load_domain(name) for name in sources]
    asked = {"model": model, "sources": list(sources), "seed": seed, "config": config.to_json()}
    check_names("sources", domains)
    parts = [domain.require_labels().train.require_labels() for domain in domains]
    validation = validation_parts(domains)
    if config.patience and not validation:
        raise DomainError(
            f"stopping early needs validation texts, and the calibration splits of {', '.join(sources)} hold too few of both "
            "classes; leave out --patience, or train on more texts"
        )
    tests = [_test(domain, domains) for domain in domains]
    check_contradictions(domains)
    check_source_weights(config, domains)
    check_tracker(report_to)
    _claim(out, asked)
    base = VerdictMonitor(LocalModel.load(model, dtype, device))
    for domain in domains:
        base.check(domain.unlabelled())
    folder = out / ("model" if config.full else "adapter")
    trained = train(base, parts, folder, config, seed, validation, report_to)
    monitor = VerdictMonitor(trained.monitor.model, domains[0].question)
    notes = list(trained.notes)
    if not validation:
        notes.append("no text was left to validate on: nothing was seen of how well the sources were being learnt")
    for note in notes:
        say(note)
    report: dict[str, Any] = asked | {"examples": trained.examples, "history": trained.history, "notes": notes}
    report |= {"held_out": {}, "complete": True}
    for domain, test in zip(domains, tests, strict=True):
        report["held_out"][domain.name] = _held_out(monitor, test)
    monitor.save(out)
    write_text(out / "README.md", card(report))
    write_json(out / "training.json", report)  # the last: it says that all is there
    return report


def card(report: dict[str, Any]) -> str:
    """A model card: what was trained on what, how, and what it does on held-out texts of the same sources."""
    config = report["config"]
    lines = [
        "---",
        "library_name: " + ("transformers" if config["full"] else "peft"),
        f"base_model: {report['model']}",
        "tags: [monitor, single-token classification]",
        "---",
        "",
        "# A verdict monitor",
        "",
        f"`{report['model']}`, trained to answer with one token on {', '.join(report['sources'])}"
        + (f" ({config['schedule']})." if config["schedule"] != "classification" else "."),
        "",
        "## Data",
        "",
        "| examples | number |",
        "| --- | --- |",
        *(f"| {name} | {count} |" for name, count in report["examples"].items()),
        "",
        "## Held-out texts of the sources",
        "",
        "Agreement with labels, with 95 % intervals. It says how well the sources were learnt, not how well this transfers.",
        "",
        "| source | texts | AUROC | balanced accuracy |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {row['n']} | " + " | ".join(in_words(row[figure]) for figure in FIGURES) + " |"
            for name, row in report["held_out"].items()
        ),
        "",
        "## Hyper-parameters",
        "",
        "| name | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in {**config, "seed": report["seed"]}.items()),
    ]
    if report["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines) + "\n"


def _claim(out: Path, asked: dict[str, Any]) -> None:
    """Take a folder that is empty, or in which the same training was begun."""
    path = out / "training.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            held = read_json(path)
            if held.get("complete"):
                raise RunError(f"{out} holds a trained monitor already; choose another --out")
            differs = [key for key, value in asked.items() if held.get(key) != value]
            if differs and not _kept(out):
                write_json(path, asked)  # what was refused, or failed before there was anything to keep, claims nothing
            elif differs:
                raise RunError(f"{out} holds another training, with another {differs[0]}; choose another --out")
        else:
            refuse_others(out, path.name, "training")
            write_json(path, asked)
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from error


def _test(source: Domain, sources: Sequence[Domain]) -> Domain:
    """Texts of a source that nothing learns from.

    Raises:
        DomainError: its groups leave none, or other sources learn from all of them.
    """
    test = unlearnt(source.test, source, sources).sample(HELD_OUT)
    if not len(test):
        raise DomainError(f"{source.name}: other sources learn from all its test texts; leave {source.name} out")
    return test


def _kept(out: Path) -> bool:
    """Whether there is a checkpoint, or what came out."""
    return any(path.name.startswith("checkpoint-") or path.suffix == ".safetensors" for path in out.rglob("*"))


def _held_out(monitor: VerdictMonitor, test: Domain) -> dict[str, Any]:
    scores = monitor.score(test.unlabelled())
    calibration = fit_calibration(scores.values)
    row = evaluate_target({"trained": scores}, test.labels, test.groups, {"trained": calibration})["trained"]
    return {"n": row["n"], "coverage": row["coverage"]} | {figure: row[figure] for figure in FIGURES}
