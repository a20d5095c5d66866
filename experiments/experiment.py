"""What all experiments share: presets, a folder that continues where it was interrupted, findings and what is written of them.

manifest.json      which experiment with which preset, versions, fingerprints of domains and model; when it ran, where and how long
parts/*.json       what was measured, unit by unit: the same command computes none of them twice
notes/             what label-free methods, and sources of training, warned of
results.json       schema, experiment, preset, command, calls, rows, summary, warnings
figures/, report.html

An experiment is a module `experiments.NAME` with a frozen dataclass `Preset`, `PRESETS` (smoke, default, full), and a function
`run_NAME(preset, folder) -> Findings`; `experiments.EXPERIMENTS` names it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from elicit.domains import Domain, UnlabelledDomain, drop_overlap, load_domain
from elicit.errors import DomainError, RunError
from elicit.evaluation import Resampled, paired_aurocs
from elicit.evaluation.score_files import read_scores, write_scores
from elicit.files import read_json, write_json
from elicit.methods import METHODS, Elicited
from elicit.monitors import Monitor, Scores, VerdictMonitor
from elicit.reports.drawing import write_drawings
from elicit.reports.page import Section
from elicit.run_folder import changed_versions, claim, entries, note_versions, refuse_others, versions
from elicit.training import TrainingConfig, train
from elicit.training.validation import ENOUGH, validation_parts
from elicit.training.verdict_training import HISTORY
from experiments.changes import change, options
from experiments.machine import noted_call
from experiments.report import write_report

SCHEMA = 1
SIZES = ("smoke", "default", "full")
SINGLE = 3  # figures with one warning that are warned of one by one
FEW = 50  # texts: an interval from fewer is likely too narrow
NO_FINDING = "This preset shows that the experiment runs; with so few texts nothing below is a finding."
Unit = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        rows: one per measurement, for `results.json`: names, n, coverage, and figures with intervals or undefined with a reason.
        summary: what was found, in plain words that say no more than the intervals allow.
        warnings: every alarm.
        sections: tables and figures of the report.
        measured: how it was measured, sentence by sentence.
    """

    rows: Sequence[dict[str, Any]]
    summary: Sequence[str]
    sections: Sequence[Section]
    measured: Sequence[str]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Folder:
    """The folder of one experiment.

    Attributes:
        out: where it is.
        say: called with one line per step.
        command: what makes or continues it.
        written: what users wrote for a domain, a file for example, by its name.
    """

    out: Path
    say: Callable[[str], None] = lambda _: None
    command: str = ""
    written: Mapping[str, str] = field(default_factory=dict)
    _loaded: dict[str, VerdictMonitor] = field(default_factory=dict)

    def part(self, work: Callable[[], T], **unit: Any) -> T:
        """What `work` gives for one unit: from disk, where an earlier call of the same command left it.

        Args:
            work: computes something that JSON can hold.
            unit: everything, besides the preset's constants, that decides what comes out: names, sizes, seeds.
        """
        path = self.out / "parts" / f"{_hash(unit)}.json"
        if not path.is_file():
            self.say(
                ", ".join(f"{value}" if isinstance(value, str) else f"{name} {value}" for name, value in unit.items())
            )
            write_json(path, {"unit": unit, "result": work()})
        found: T = read_json(path)["result"]
        return found

    def scores(self, domain: Domain | UnlabelledDomain, name: str, load: Callable[[], Monitor]) -> Scores:
        """Scores of a domain's texts: from disk, where an earlier call of the same command left them.

        Args:
            domain: what `held_out` gives, or texts without labels.
            name: of the monitor; with the domain's it names the file, so it says all that decides which monitor it is.
            load: gives the monitor, trained or elicited.

        Raises:
            RunError: the scores on disk are of other texts.
        """
        path = self.out / "scores" / domain.name / f"{name}.jsonl"
        if not path.is_file():
            self.say(f"{domain.name}: {name}")
            texts = domain.unlabelled() if isinstance(domain, Domain) else domain
            write_scores(path, load().score(texts), None)
        scores = read_scores(path)
        if scores.ids != tuple(domain.ids):
            raise RunError(
                f"{path} scores other texts than {domain.name} now has; delete the file and run the same command again"
            )
        return scores

    def domain(self, name: str) -> Domain:
        """A domain by its name; an experiment is not continued on other data under the same name.

        Raises:
            DomainError: it cannot be used.
            RunError: it was another one when this began.
        """
        domain = load_domain(self.written.get(name, name))
        self.same("domains", name, domain.fingerprint(), f"the data of {name} have changed since this began")
        unknown = sum(label is None for label in domain.labels)
        if 0 < unknown < len(domain):
            said = f"{unknown} of its {len(domain)} texts have no label: nothing is measured on them"
            write_json(self.out / "notes" / "domains" / f"{name}.json", [said])
        return domain

    def same(self, kind: str, name: str, fingerprint: str, changed: str) -> None:
        """Keep a fingerprint in the manifest, or compare it with the one that is there."""
        path = self.out / "manifest.json"
        manifest = read_json(path)
        if manifest.setdefault(kind, {}).setdefault(name, fingerprint) != fingerprint:
            raise RunError(f"{self.out}: {changed}; choose another --out")
        write_json(path, manifest)

    def source(self, name: str, targets: Sequence[Domain], texts: int) -> Domain:
        """Labelled texts of a source to train on, half of them flagged as far as there are enough; none is in a target too.

        Args:
            name: of the source.
            targets: whose texts are left out.
            texts: at most so many. That there are fewer, or that some were left out, becomes a warning.

        Raises:
            DomainError: what is left has no label or one class only.
        """
        whole = self.domain(name).train.require_labels()
        part = drop_overlap(whole, targets).require_labels()
        chosen = part.balanced_sample(texts)
        said = []
        if dropped := len(whole) - len(part):
            said.append(f"training texts left out, since a target holds them too: {dropped}")
        if len(chosen) < texts:
            said.append(f"it has {len(chosen)} training texts, fewer than the {texts} that the preset asks for")
        write_json(self.out / "notes" / "sources" / f"{name}.json", said)
        return chosen

    def trained(
        self,
        name: str,
        base: VerdictMonitor,
        sources: Sequence[Domain],
        config: TrainingConfig,
        seed: int,
        judges: Sequence[Domain] = (),
    ) -> VerdictMonitor:
        """A monitor trained on labelled texts; the same call continues what was interrupted.

        Args:
            name: of the monitor; it says all that decides which one it is.
            base: what training starts from.
            sources: labelled texts.
            config, seed: as in `train`.
            judges: labelled texts by which a training that taught nothing is seen, as `judges` gives them; it is then warned of.
        """
        return train(base, sources, self.out / "monitors" / name, config, seed, judges).monitor

    def judges(self, *sources: str) -> list[Domain]:
        """Some labelled texts of each source that nothing is trained on."""
        return validation_parts([self.domain(name) for name in sources], 2 * ENOUGH)

    def elicited(self, name: str, found: Elicited) -> Monitor:
        """The monitor that a label-free method found; its warnings are kept for the report of this and of every later call.

        Args:
            name: of what was found; it says all that decides it.
            found: by the method.
        """
        write_json(self.out / "notes" / f"{name}.json", list(found.warnings))
        return found.monitor

    def untrained(self, name: str) -> VerdictMonitor:
        """A model as it came, loaded when it is first asked for; a folder is not continued with other weights."""
        if name not in self._loaded:
            from elicit.language_models.local import LocalModel

            self.say(f"loading {name}")
            model = LocalModel.load(name)
            self.same("models", name, model.fingerprint(), f"{name} is another model than when this began")
            self._loaded[name] = VerdictMonitor(model)
        return self._loaded[name]


def held_out(domain: Domain, size: int) -> Domain:
    """At most so many labelled test texts, whose labels are for measuring alone.

    Raises:
        DomainError: there are not both labels among them.
    """
    test = domain.test.sample(size)
    known = test.take([row for row, label in enumerate(test.labels) if label is not None])
    if len(set(known.labels)) < 2:
        found = f"have the label {known.labels[0]}, all of them" if known.labels else "have no label"
        raise DomainError(
            f"{domain.name}: of its test texts the {len(test)} that are looked at {found}; what measures are held-out texts of "
            "both classes: label more of them, or choose a larger --preset"
        )
    return known


def compared(test: Domain, scores: Mapping[str, Scores]) -> tuple[dict[str, Resampled], int]:
    """`paired_aurocs` on labelled texts.

    Raises:
        DomainError: the texts that all monitors scored are not of both classes; names the monitor that scored fewest.
    """
    try:
        return paired_aurocs(scores, test.labels, test.groups)
    except ValueError as error:
        name = min(scores, key=lambda name: scores[name].coverage)
        raise DomainError(
            f"{test.name}: monitors cannot be compared ({error}); {name} scored {int(scores[name].scored.sum())} of {len(test)} "
            "texts; choose a larger --preset or another --model"
        ) from error


def conduct(
    name: str, size: str, out: Path, say: Callable[[str], None], changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run or continue an experiment, and write results, figures and report; what `results.json` holds.

    Args:
        name: of the experiment.
        size: of the preset.
        out: its folder; one that holds something else is refused.
        say: called with one line per step.
        changes: what other values the preset's fields are to have; see `experiments.changes.change`.

    Raises:
        RunError: the folder belongs to something else, is in use, or cannot be written; or the changes do not go together.
        DomainError, ModelError: a domain or the model cannot be found, or used for this.
    """
    module = importlib.import_module(f"experiments.{name.replace('-', '_')}")
    changed = change(module.PRESETS[size], changes or {})
    preset = changed.preset
    words = ["elicit-experiment", name, "--preset", size, *options(changes or {}), "--out", str(out)]
    folder, manifest = Folder(out, say, shlex.join(words), changed.written), out / "manifest.json"
    refuse_others(out, "manifest.json", "experiment")
    with claim(out):
        _open(folder, {"experiment": name, "preset": size, "sizes": json.loads(json.dumps(asdict(preset)))})
        for method in getattr(preset, "methods", ()):
            if code := METHODS[method].code:
                folder.same("methods", method, code, f"the file of {method} has changed since this began")
        with noted_call(out):
            findings: Findings = getattr(module, f"run_{name.replace('-', '_')}")(preset, folder)
        results: dict[str, Any] = {
            "schema": SCHEMA,
            "experiment": name,
            "preset": size,
            "command": folder.command,
            "calls": read_json(manifest)["calls"],
            "rows": list(findings.rows),
            "summary": [*([NO_FINDING] if size == "smoke" else []), *findings.summary],
            "warnings": list(
                dict.fromkeys([*one_seed(preset), *findings.warnings, *notes(out), *alarms(findings.rows)])
            ),
        }
        write_json(out / "results.json", results)
        shutil.rmtree(out / "figures", ignore_errors=True)  # of an older version, which may have drawn others
        write_drawings([drawing for section in findings.sections for drawing in section.drawings], out / "figures")
        report = write_report(results, findings, read_json(manifest), out / "report.html")
    for line in (*results["summary"], *(f"warning: {warning}" for warning in results["warnings"])):
        say(f"· {line}")
    say(f"report: {report.resolve()}")
    return results


def one_seed(preset: Any) -> list[str]:
    """A warning where trainings are not repeated."""
    if len(preset.seeds) > 1:
        return []
    return ["there is one seed: intervals do not show how much another training would differ"]


def notes(out: Path) -> list[str]:
    """What is to be known of a folder: versions that changed, what trainings noted, what sources and methods warned of."""
    manifest = read_json(out / "manifest.json")
    found = changed_versions(manifest)
    found += [
        f"{path.parent.relative_to(out)}: {note}"
        for path in sorted((out / "monitors").rglob(HISTORY))  # a run within it says itself what its trainings noted
        for note in read_json(path)["notes"]
    ]
    warned = out / "notes"
    found += [
        f"{path.relative_to(warned).with_suffix('')}: {warning}"
        for path in sorted(warned.rglob("*.json"))
        for warning in read_json(path)
    ]
    return found


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What rows say that a reader should know before trusting them: few texts, texts without a score, warnings beside figures."""
    found = []
    few = [row["n"] for row in rows if 0 < row.get("n", 0) < FEW]
    if few:
        found.append(
            f"{len(few)} of {len(rows)} rows rest on fewer than {FEW} examples, the smallest on {min(few)}: with so few, "
            "intervals are likely too narrow, and what they seem to show should be measured again on more"
        )
    places: dict[str, list[str]] = {}
    for row in rows:
        named = ", ".join(str(value) for value in row.values() if isinstance(value, str) and value)
        if row.get("coverage", 1.0) < 1.0:
            found.append(f"{named}: {1 - row['coverage']:.1%} of the texts are unscored")
        for where, warning in _warned(row):
            places.setdefault(warning, []).append(f"{named}, {where}")
    for warning, held in places.items():
        if len(held) > SINGLE:
            found.append(f"{len(held)} figures ({'; '.join(held[:SINGLE])}; …): {warning}")
        else:
            found += [f"{place}: {warning}" for place in held]
    return found


def _warned(held: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Warnings of all figures within a row, however deep, and where they stand."""
    if isinstance(held, Mapping):
        if held.get("warning") and where:
            yield where, str(held["warning"])
        for name, value in held.items():
            yield from _warned(value, f"{where}, {name}".removeprefix(", ").replace("_", " "))
    elif isinstance(held, list | tuple):
        for value in held:
            yield from _warned(value, where)


def _open(folder: Folder, asked: dict[str, Any]) -> None:
    """Write the manifest, or check that the one which is there asks for the same."""
    out, path = folder.out, folder.out / "manifest.json"
    # A command that failed before it computed anything does not claim the folder.
    if entries(out) <= {"manifest.json", "notes"}:
        held = read_json(path) if path.is_file() else {}
        calls = held.get("calls", []) if all(held.get(key) == value for key, value in asked.items()) else []
        began = {"schema": SCHEMA, **asked, "command": folder.command, "calls": calls, "versions": versions()}
        write_json(path, began | {"domains": {}, "models": {}})
        return
    held = read_json(path)
    for was, now in ((held, asked), (held.get("sizes", {}), asked["sizes"])):
        for key, value in now.items():
            if key != "sizes" and was.get(key) != value:
                raise RunError(
                    f"{out} holds another experiment, with {key} {was.get(key)!r}, not {value!r}; choose another --out, or "
                    f"repeat the command that it was made with: {held.get('command')}"
                )
    folder.say(f"continues what is in {out}: what was measured there is not measured again")
    note_versions(path)


def _hash(unit: Unit) -> str:
    return hashlib.sha256(json.dumps(unit, sort_keys=True).encode()).hexdigest()[:24]
