"""A run: source training, elicitation on targets, agreement with held-out labels; one folder, which can be resumed.

manifest.json                      what was asked, versions, hashes of model and domains
monitors/source/                   the trained monitor
monitors/<target>/<method>/        each method's monitor, with its calibration and the labels that it found, if any
scores/<target>/<method>.jsonl     test scores; a method is done when this file is there
results.json, figures/, report.html
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from elicit.domains import Domain
from elicit.errors import DivergedError, DomainError, PromptError, RunError
from elicit.evaluation import evaluate_target
from elicit.evaluation.score_files import read_scores, write_scores
from elicit.files import read_json, write_json
from elicit.language_models.language_model import LanguageModel
from elicit.methods import METHODS, Elicited, Ingredients, Method
from elicit.methods.states import read_upper_layers
from elicit.monitors import Calibration, Monitor, Scores, VerdictMonitor, fit_calibration
from elicit.monitors.blend import BlendMonitor
from elicit.monitors.monitor import MONITOR
from elicit.monitors.probe import ProbeMonitor
from elicit.reports import write_figures, write_report
from elicit.run_config import Domains, RunConfig, cannot
from elicit.run_folder import changed_versions, claim, entries, note_versions, refuse_others, versions
from elicit.timings import TIMINGS, Timings, read_timings
from elicit.training import is_trained, train_monitor, training_notes

SCHEMA = 1
OF_ONE_METHOD = (DivergedError, DomainError, PromptError, ValueError)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind: results as written to results.json, and how many methods failed."""

    results: dict[str, Any]
    report: Path
    failed: int


def run(
    config: RunConfig,
    out: Path,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
    readings: Path | None = None,
) -> Outcome:
    """Run, or continue, everything that a configuration asks for.

    Args:
        config: what to compute.
        out: the run's folder; one that holds another configuration is refused.
        command: the command line, for the manifest.
        say: called with one line per step.
        readings: folder where readings and hidden states are kept; by default the user's cache. In one of its own a run spends what
            it would have spent alone.

    Raises:
        DomainError: a domain cannot be used. Raised before any model is loaded.
        RunError: the folder belongs to another run, is in use, or cannot be written.
    """
    domains = Domains(config)
    refuse_others(out, "manifest.json", "run", {TIMINGS})
    with claim(out):
        try:
            return _Run(config, out, domains, command, say, readings).finish()
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"the run in {out} cannot go on: {error}; if nothing can be written there, make room or choose another --out, then "
                "run the same command again: what is done stays done"
            ) from error


class _Run:
    def __init__(
        self,
        config: RunConfig,
        out: Path,
        domains: Domains,
        command: str,
        say: Callable[[str], None],
        readings: Path | None,
    ) -> None:
        self.config, self.out, self.domains, self.say, self.readings = config, out, domains, say, readings
        self.timings = Timings(out)
        self._open(command)

    def finish(self) -> Outcome:
        rows: list[dict[str, Any]] = []
        for target in self.domains.targets:
            rows += self._target(target)
        long = [self._long_texts(target) for target in self.domains.targets]
        results = {
            "schema": SCHEMA,
            "model": self.config.model,
            "seed": self.config.seed,
            "sources": [_describe(source) for source in self.domains.sources],
            "targets": [self._describe_target(target) for target in self.domains.targets],
            "rows": rows,
            "warnings": [*self.domains.warnings, *filter(None, long), *self._notes()],
        }
        write_json(self.out / "results.json", results)
        failed = sum("error" in row for row in rows)
        return Outcome(load_results(self.out), write_reports(self.out), failed)

    def _long_texts(self, target: Domain) -> str | None:
        """A warning of test texts of which a monitor did not read the middle."""
        files = sorted((self.out / "scores" / target.name).glob("*.jsonl"))
        cut = max((read_scores(file).cut for file in files), default=0)
        if not cut:
            return None
        return f"{target.name}: test texts longer than a monitor reads, of which the middle was left out: {cut}"

    def _notes(self) -> list[str]:
        """What the manifest says of the run that a reader should know."""
        manifest = read_json(self.out / "manifest.json")
        notes = changed_versions(manifest)
        notes += [f"source training: {note}" for note in training_notes(self.out / "monitors" / "source" / "adapter")]
        if manifest.get("trained"):
            notes.append(
                f"{self.config.model} was trained before, on labels that this run knows nothing of: “none” in this report means "
                "none in this run"
            )
        return notes

    @cached_property
    def untrained(self) -> VerdictMonitor:
        self.say(f"loading {self.config.model}")
        model = self.config.load(self.readings)
        monitor = VerdictMonitor(model)
        # Verdict words and questions are checked for every domain before anything long begins.
        for domain in [*self.domains.sources, *self.domains.targets]:
            monitor.check(domain.unlabelled())
        self._check_model(model)
        return monitor

    @cached_property
    def start(self) -> VerdictMonitor:
        """The transfer monitor, or the untrained one when there is no source."""
        if not self.domains.sources:
            return self.untrained
        folder = self.out / "monitors" / "source" / "adapter"
        untrained = self.untrained
        if not is_trained(folder):
            names = ", ".join(source.name for source in self.domains.sources)
            self.say(f"training on {names}")
            with self.timings.step("source training", untrained.model.meter):
                train_monitor(
                    untrained,
                    self._source_parts(),
                    folder,
                    self.config.training(self.config.source_texts),
                    self.config.seed,
                    self.domains.validation(self.config.source_texts),
                )
        start = VerdictMonitor(untrained.model.with_adapter(folder))
        if not (folder.parent / MONITOR).is_file():
            VerdictMonitor(start.model, self.domains.sources[0].question).save(folder.parent)
        return start

    def _source_parts(self) -> list[Domain]:
        return [source.train for source in self.domains.sources]

    def _target(self, target: Domain) -> list[dict[str, Any]]:
        """Result rows of one target."""
        scores: dict[str, Scores] = {}
        calibrations: dict[str, Calibration] = {}
        notes: dict[str, dict[str, Any]] = {}
        test = target.test.sample(self.config.test_texts)
        for name in self.config.methods:
            method = METHODS[name]
            notes[name] = self._about(method)
            reason = cannot(self.config, method, target)
            if reason is not None:
                notes[name]["skipped"] = reason
                continue
            if not is_done(self.out, target, method):
                self._prepare(method)
            try:
                scores[name], calibrations[name], extra = self._method(method, target, test)
                notes[name] |= extra
            except Exception as error:
                if not _ends_one_method(error, method):
                    raise
                logging.getLogger(__name__).exception("%s on %s failed", name, target.name)
                notes[name]["error"] = (
                    str(error) if isinstance(error, OF_ONE_METHOD) else f"{type(error).__name__}: {error}"
                )
        rows = evaluate_target(scores, test.labels, test.groups, calibrations, seed=self.config.seed)
        return [
            {"target": target.name, "method": name} | notes[name] | rows.get(name, {}) for name in self.config.methods
        ]

    def _prepare(self, method: Method) -> None:
        """Load or train what a method starts from: when that cannot be done, it is not the method that fails."""
        _ = self.untrained if method.label_free is None else self.start

    def _about(self, method: Method) -> dict[str, Any]:
        free = method.label_free is not None
        inherited = free and bool(self.domains.sources)
        return {
            "description": method.description,
            "labels_used": "source" if inherited else method.labels,
            "label_free": free,
            "reference": not free,
        }

    def _target_train(self, target: Domain) -> Domain:
        return target.train.sample(self.config.target_texts)

    def _method(self, method: Method, target: Domain, test: Domain) -> tuple[Scores, Calibration, dict[str, Any]]:
        """Scores on the test texts, from disk when they are there."""
        folder = self.out / "monitors" / target.name / method.name
        file = self.out / "scores" / target.name / f"{method.name}.jsonl"
        if is_done(self.out, target, method):
            held, scores = read_json(folder / "calibration.json"), read_scores(file)
            if scores.ids != test.ids:
                raise RunError(
                    f"{file} scores other texts than the test texts of {target.name}, by another version say; choose another --out"
                )
            return scores, Calibration.from_json(held["calibration"]), held["about"]
        self.say(f"{target.name}: {method.name}")
        with self.timings.step(f"{target.name}/{method.name}", self.untrained.model.meter):
            monitor, about = self._build(method, target, folder)
            calibration_texts = target.calibration.sample(self.config.calibration_texts).unlabelled()
            if isinstance(monitor, ProbeMonitor | BlendMonitor):
                read_upper_layers(monitor.model, calibration_texts)
                read_upper_layers(monitor.model, test.unlabelled())
            calibration = fit_calibration(monitor.score(calibration_texts).values)
            scores = monitor.score(test.unlabelled())
        if isinstance(monitor, VerdictMonitor) and monitor.question is None:
            monitor = VerdictMonitor(monitor.model, target.question)  # what is saved can score texts by itself
        monitor.save(folder)
        about |= {"threshold": calibration.threshold, "calibration": calibration.kind}
        if scores.verdict_mass is not None and np.isfinite(scores.verdict_mass).any():
            about["verdict_mass"] = round(float(np.nanmean(scores.verdict_mass)), 4)
        write_json(folder / "calibration.json", {"calibration": calibration.to_json(), "about": about})
        write_scores(file, scores, calibration)
        return scores, calibration, about

    def _build(self, method: Method, target: Domain, folder: Path) -> tuple[Monitor, dict[str, Any]]:
        if method.label_free is not None:
            found = method.label_free(self.start, self._target_train(target).unlabelled(), self.config.seed)
            if not isinstance(found, Elicited):
                raise TypeError(
                    f"{method.name} gives {type(found).__name__}, and a label-free method gives an Elicited"
                )
            json.dumps(found.details)  # what cannot be written is to be known before anything is scored
            if found.labelling is not None:
                folder.mkdir(parents=True, exist_ok=True)
                found.labelling.write(folder / "labels.jsonl")
            return found.monitor, {"details": found.details, "warnings": list(found.warnings)}
        assert method.reference is not None
        labelled = _labelled_part(self._target_train(target)) if method.labels == "target" else None
        given = Ingredients(
            untrained=self.untrained,
            load_start=lambda: self.start,
            sources=self._source_parts(),
            target=labelled,
            training=self.config.training(self.config.target_texts),
            seed=self.config.seed,
            folder=folder,
        )
        monitor = method.reference(given)
        return monitor, {"details": {}, "warnings": training_notes(folder / "adapter")}

    def _describe_target(self, target: Domain) -> dict[str, Any]:
        test = target.test.sample(self.config.test_texts)
        known = [label for label in test.labels if label is not None]
        return _describe(target) | {
            "train": len(self._target_train(target)),
            "calibration": len(target.calibration.sample(self.config.calibration_texts)),
            "test": len(test),
            "labelled": bool(known),
            "flagged_share": round(sum(known) / len(known), 4) if known else None,
        }

    def _open(self, command: str) -> None:
        """Write the manifest, or check that the one which is there asks for the same."""
        path = self.out / "manifest.json"
        asked = json.loads(json.dumps(asdict(self.config)))
        hashes = self.domains.hashes()
        code = {name: METHODS[name].code for name in self.config.methods if METHODS[name].code}
        if not path.is_file():
            content = {
                "schema": SCHEMA,
                "command": command,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "config": asked,
                "domains": hashes,
                "methods": code,
                "model": None,
                "versions": versions(),
            }
            write_json(path, content)
            return
        held = read_json(path)
        if entries(self.out) <= {"manifest.json", TIMINGS} and held["model"] is None:
            # A command that failed before it computed anything does not claim the folder.
            path.unlink()
            self.timings.forget()
            self._open(command)
            return
        differs = [key for key, value in asked.items() if held["config"].get(key) != value]
        if differs:
            was, now = held["config"].get(differs[0]), asked[differs[0]]
            raise RunError(
                f"{self.out} holds another run, with {differs[0]} {_listed(was)}, not {_listed(now)}; choose another --out, or "
                f"repeat the command that it was made with: {held['command']}"
            )
        changed = [name for name, value in hashes.items() if held["domains"].get(name) != value]
        if changed:
            raise RunError(
                f"{self.out}: the data of {changed[0]} have changed since this run began; choose another --out"
            )
        for name, value in code.items():
            if held.get("methods", {}).get(name) == value:
                continue
            if any((self.out / "scores").rglob(f"{name}.jsonl")):
                raise RunError(
                    f"{self.out}: the file of method {name} has changed since it gave scores here; choose another --out"
                )
            held = held | {"methods": held.get("methods", {}) | {name: value}}  # it failed, and was mended
            write_json(path, held)
        note_versions(path)

    def _check_model(self, model: LanguageModel) -> None:
        """A run is not continued with other weights under the same name."""
        path = self.out / "manifest.json"
        manifest = read_json(path)
        fingerprint = model.fingerprint()
        if manifest["model"] is None:
            folder = Path(self.config.model).expanduser()
            trained = bool(model.parent) or is_trained(folder) or (folder / MONITOR).is_file()
            write_json(path, manifest | {"model": fingerprint, "dtype": model.dtype, "trained": trained})
        elif manifest["model"] != fingerprint:
            raise RunError(
                f"{self.out}: {self.config.model} is another model than when this run began; choose another --out"
            )


def _ends_one_method(error: Exception, method: Method) -> bool:
    """Whether an error ends a method and not the run: it cannot cope with a domain, a model not with its prompts.

    So does every mistake in a method of the user's own; a full disk or a lost process is none.
    """
    return isinstance(error, OF_ONE_METHOD) or (bool(method.code) and not isinstance(error, OSError | RunError))


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else repr(value)


def write_reports(out: Path) -> Path:
    """Write figures and report.html of a finished run; the report's path."""
    results = load_results(out)
    write_figures(results, out / "figures")
    write_report(results, out / "report.html")
    return out / "report.html"


def load_results(out: Path) -> dict[str, Any]:
    """What results.json of a run folder holds, with the manifest's entries that a report shows."""
    for name in ("manifest.json", "results.json"):
        if not out.is_dir():
            raise RunError(f"there is no folder {out}")
        if not (out / name).is_file():
            raise RunError(f"{out} holds no finished run: {name} is missing; run the command of the run again")
    manifest, results = read_json(out / "manifest.json"), read_json(out / "results.json")
    if "experiment" in results or "benchmark" in results:
        raise RunError(f"{out} is of an experiment; the command that made it writes its report again")
    if missing := [key for key in ("versions", "command", "created") if key not in manifest] or [
        key for key in ("rows", "targets", "warnings") if key not in results
    ]:
        raise RunError(f"{out} is damaged: {missing[0]!r} is missing; run the command of the run again")
    timings = read_timings(out)
    shown: dict[str, Any] = results | {name: manifest[name] for name in ("versions", "command", "created")}
    shown["rows"] = [row | timings.get(f"{row['target']}/{row['method']}", {}) for row in results["rows"]]
    shown["seconds"] = round(sum(part.get("seconds", 0.0) for part in timings.values()), 1)
    return shown


def _describe(domain: Domain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "question": domain.question.text,
        "rows": len(domain),
        "duplicates": domain.duplicates,
        "licence": domain.licence,
        "sensitive": domain.sensitive,
        "notes": domain.notes,
    }


def _labelled_part(domain: Domain) -> Domain:
    return domain.take([row for row, label in enumerate(domain.labels) if label is not None])


def is_done(out: Path, target: Domain, method: Method) -> bool:
    """Whether a run's folder holds what a method found on a target."""
    calibration = out / "monitors" / target.name / method.name / "calibration.json"
    return (out / "scores" / target.name / f"{method.name}.jsonl").is_file() and calibration.is_file()
