"""The scaffold, on an experiment that counts what it computes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from elicit.domains import Domain, Question, Row, make_domain
from elicit.errors import DomainError, RunError
from elicit.files import read_json, write_json
from elicit.monitors import KeywordMonitor
from elicit.monitors.scores import scores_from
from elicit.reports.charts import Curve, curves
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from experiments import EXPERIMENTS
from experiments.cli import CHANGES, OPTIONS, main
from experiments.experiment import Findings, Folder, alarms, compared, conduct, held_out, notes
from experiments.machine import time_in_words

EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Preset:
    units: tuple[int, ...]
    seeds: tuple[int, ...] = (0, 1)
    model: str = "smollm2-135m-instruct"


class Toy(ModuleType):
    def __init__(self) -> None:
        super().__init__("experiments.toy")
        self.PRESETS = {"smoke": Preset((1, 2)), "default": Preset((1, 2, 3)), "full": Preset((1,))}
        self.computed: list[int] = []

    def run_toy(self, preset: Preset, folder: Folder) -> Findings:
        def work(unit: int) -> dict[str, Any]:
            self.computed.append(unit)
            return {"auroc": {"value": 0.5 + unit / 10, "low": 0.5, "high": 1.0}}

        rows = [folder.part(lambda: work(unit), unit=unit) | {"name": EVIL, "n": 4} for unit in preset.units]  # noqa: B023
        drawing = Drawing("line", "curves", f"A line, {EVIL}", curves({"p": [Curve(EVIL, [0, 1], [0, 1])]}, "x", "y"))
        table = Table("All", ("Name", "AUROC"), [(row["name"], row["auroc"]) for row in rows])
        return Findings(rows, [f"found {EVIL}"], [Section("Findings", [], [drawing], [table])], ["measured"], [EVIL])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    module = Toy()
    monkeypatch.setitem(sys.modules, "experiments.toy", module)
    monkeypatch.setitem(EXPERIMENTS, "toy", "What does it count?")
    monkeypatch.setitem(OPTIONS, "toy", ("seeds",))
    monkeypatch.setattr("experiments.changes.check_model", lambda name: None)
    return module


def interrupted(out: Path) -> None:
    """The toy in a folder, ended after its first unit."""

    def kill(line: str) -> None:
        if line == "unit 2":
            raise SystemExit(9)

    with pytest.raises(SystemExit):
        conduct("toy", "smoke", out, kill)


def test_a_killed_experiment_continues_where_it_was(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out)
    assert not (out / "results.json").exists()
    results = conduct("toy", "smoke", out, lambda _: None)
    assert toy.computed == [1, 2]
    assert [row["auroc"]["value"] for row in results["rows"]] == [0.6, 0.7]
    assert read_json(out / "results.json") == results


def test_another_preset_and_another_size_are_refused_in_the_same_folder(toy: Toy, tmp_path: Path) -> None:
    conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    with pytest.raises(RunError, match=r"with preset 'smoke', not 'default'.*elicit-experiment toy --preset smoke"):
        conduct("toy", "default", tmp_path / "out", lambda _: None)
    toy.PRESETS = toy.PRESETS | {"smoke": Preset((1, 4))}
    with pytest.raises(RunError, match=r"with units \[1, 2\], not \[1, 4\]"):
        conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    assert toy.computed == [1, 2]


def test_a_folder_that_holds_something_else_is_refused_and_stays_as_it_was(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no experiment \(thesis.txt, …\)"):
        conduct("toy", "smoke", tmp_path, lambda _: None)
    assert not toy.computed
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_command_that_computed_nothing_does_not_claim_the_folder(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Findings:
        raise DomainError("name where labels stand")

    with monkeypatch.context() as patch:
        patch.setattr(toy, "run_toy", refuse)
        with pytest.raises(DomainError):
            conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    results = conduct("toy", "default", tmp_path / "out", lambda _: None)
    assert results["command"] == f"elicit-experiment toy --preset default --out {tmp_path / 'out'}"
    assert toy.computed == [1, 2, 3]


def test_other_versions_that_continued_are_named(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert not any("begun with" in warning for warning in conduct("toy", "smoke", out, lambda _: None)["warnings"])
    begun = read_json(out / "manifest.json")["versions"]
    monkeypatch.setattr("elicit.run_folder.versions", lambda: begun | {"torch": "9.9"})
    for _ in range(2):
        warnings = conduct("toy", "smoke", out, lambda _: None)["warnings"]
        assert [w for w in warnings if "begun" in w] == [f"begun with torch {begun['torch']}, continued with 9.9"]


def test_another_model_is_asked_for_by_name_and_a_server_is_refused(toy: Toy, tmp_path: Path) -> None:
    results = conduct("toy", "smoke", tmp_path / "a", lambda _: None, {"model": "other"})
    assert results["command"] == f"elicit-experiment toy --preset smoke --model other --out {tmp_path / 'a'}"
    assert read_json(tmp_path / "a" / "manifest.json")["sizes"]["model"] == "other"
    with pytest.raises(RunError, match="a server trains nothing"):
        conduct("toy", "smoke", tmp_path / "b", lambda _: None, {"model": "endpoint:http://127.0.0.1:1/v1"})


def test_changed_data_are_refused(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one"]

    def load(name: str) -> Domain:
        return make_domain(name, Question("Is it?"), [Row(str(i), f"{texts[0]} {i}", i % 2) for i in range(20)])

    monkeypatch.setattr("experiments.experiment.load_domain", load)
    monkeypatch.setattr(
        toy, "run_toy", lambda _, folder: Findings([{"n": len(folder.domain("d"))}], ["found"], [], ["measured"])
    )
    conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    texts[0] = "another"
    with pytest.raises(RunError, match="the data of d have changed since this began"):
        Folder(tmp_path / "out").domain("d")


def test_scores_of_other_texts_are_refused_and_monitors_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    domain = make_domain("d", Question("Is it?"), [Row(str(i), f"text {i}", i % 2) for i in range(20)])
    folder = Folder(tmp_path)
    scores = folder.scores(domain, "m", lambda: KeywordMonitor.fit_domains([domain]))
    with pytest.raises(RunError, match=r"d/m\.jsonl scores other texts than d now has; delete the file"):
        folder.scores(domain.take(range(10)), "m", lambda: KeywordMonitor.fit_domains([domain]))
    blind = scores_from(domain.ids, [0.0] * 20, ["too long" if i % 2 else None for i in range(20)])
    with pytest.raises(DomainError, match=r"d: monitors cannot be compared .*one class only.*blind scored 10 of 20"):
        compared(domain, {"keywords": scores, "blind": blind})


def test_units_are_found_by_all_that_decides_them(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.part(lambda: 1, what="a", seed=0) == 1
    assert folder.part(lambda: 2, what="a", seed=1) == 2
    assert folder.part(lambda: 3, seed=0, what="a") == 1  # the same unit, whatever the order of its parts


def test_scores_come_back_with_what_is_unscored(tmp_path: Path) -> None:
    domain = make_domain("a/b", Question("Is it?"), [Row(str(i), f"text {i}", i % 2) for i in range(8)])
    folder, asked = Folder(tmp_path), []

    class Monitor:
        def score(self, texts):
            asked.append(len(texts))
            return scores_from(texts.ids, [0.25] * 7 + [float("nan")], [None] * 7 + ["the text is empty"])

    first = folder.scores(domain, "m-0", Monitor)
    again = folder.scores(domain, "m-0", Monitor)
    assert asked == [8]
    assert again.reasons == first.reasons
    assert again.unscored() == {"the text is empty": 1}
    assert again.values[0] == 0.25


def test_held_out_texts_have_labels_of_both_classes(tmp_path: Path) -> None:
    rows = [Row(str(i), f"text {i}", None if i % 3 == 0 else i % 2) for i in range(80)]
    found = held_out(make_domain("d", Question("Is it?"), rows), 12)
    assert set(found.labels) == {0, 1}
    assert len(found) < 12  # those without a label are left out, and no other text takes their place
    for label, said in ((1, "have the label 1, all of them"), (None, "have no label")):
        rows = [Row(str(i), f"text {i}", label) for i in range(80)]
        with pytest.raises(DomainError, match=f"d: of its test texts the 12 that are looked at {said}"):
            held_out(make_domain("d", Question("Is it?"), rows), 12)


def test_unscored_texts_and_warnings_beside_figures_are_alarms() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "warning": "few texts"}
    rows = [{"target": "t", "method": "m", "coverage": 0.75, "auroc": figure}, {"target": "u", "coverage": 1.0}]
    assert alarms(rows) == ["t, m: 25.0% of the texts are unscored", "t, m, auroc: few texts"]
    deep = [{"plan": "p", "accuracy": {"other words": figure}, "safety": [{"budget": 0.1, "found": figure}]}]
    assert alarms(deep) == ["p, accuracy, other words: few texts", "p, safety, found: few texts"]


def test_few_examples_are_one_alarm_for_all_rows() -> None:
    (alarm,) = alarms([{"n": 50}, {"n": 49}, {"n": 10}, {"n": 0}, {}])
    assert alarm.startswith("2 of 5 rows")
    assert "on 10:" in alarm
    assert not alarms([{"n": 50}])


def test_what_a_training_noted_is_an_alarm_of_every_later_call_too(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    conduct("toy", "smoke", out, lambda _: None)
    write_json(out / "monitors" / "m-0" / "training_history.json", {"history": [], "notes": ["it diverged"]})
    assert "monitors/m-0: it diverged" in conduct("toy", "smoke", out, lambda _: None)["warnings"]


def test_every_registered_experiment_has_a_command_and_three_presets() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    for name in EXPERIMENTS:
        assert name in listed
        assert "--preset" in CliRunner().invoke(main, [name, "--help"]).output


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_that_are_reported_have_three_seeds(name: str) -> None:
    module = __import__(f"experiments.{name.replace('-', '_')}", fromlist=["PRESETS"])
    assert set(module.PRESETS) == {"smoke", "default", "full"}
    assert all(len(module.PRESETS[size].seeds) >= 3 for size in ("default", "full"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_domain_method_and_seed_of_a_preset_can_be_changed(name: str) -> None:
    module = __import__(f"experiments.{name.replace('-', '_')}", fromlist=["PRESETS"])
    held = {field.name for field in fields(module.PRESETS["default"])}
    assert set(OPTIONS[name]) == held & set(CHANGES)


def test_when_where_and_how_long_is_told_of_every_call_that_measured(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out)
    (first,) = read_json(out / "manifest.json")["calls"]
    assert first["seconds"] >= 0
    assert first["machine"]["cores"] > 0
    calls = conduct("toy", "smoke", out, lambda _: None)["calls"]
    assert calls[0] == first
    assert len(calls) == 2
    assert conduct("toy", "smoke", out, lambda _: None)["calls"] == calls  # there was nothing left to measure
    assert "in 2 calls" in (out / "report.html").read_text(encoding="utf-8")


def test_time_that_was_killed_before_anything_was_kept_is_not_forgotten(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = {
        "began": "2026-01-01T00:00:00Z",
        "seconds": None,
        "commit": "",
        "machine": {"processor": "p", "cores": 1, "threads": 1},
    }
    sizes = {"units": [1, 2], "seeds": [0, 1], "model": "smollm2-135m-instruct"}
    write_json(out / "manifest.json", {"experiment": "toy", "preset": "smoke", "sizes": sizes, "calls": [killed]})
    calls = conduct("toy", "smoke", out, lambda _: None)["calls"]
    assert [call["seconds"] is None for call in calls] == [True, False]
    write_json(
        tmp_path / "other" / "manifest.json", {"experiment": "toy", "preset": "default", "sizes": {}, "calls": [killed]}
    )
    assert len(conduct("toy", "smoke", tmp_path / "other", lambda _: None)["calls"]) == 1


def test_a_domain_with_labels_missing_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(str(i), f"text {i}", None if i < 30 else i % 2) for i in range(80)]
    monkeypatch.setattr("experiments.experiment.load_domain", lambda name: make_domain(name, Question("Is it?"), rows))
    write_json(tmp_path / "manifest.json", {"versions": {}})
    Folder(tmp_path).domain("my/texts")
    assert notes(tmp_path) == ["domains/my/texts: 30 of its 80 texts have no label: nothing is measured on them"]


def test_wall_time_in_words() -> None:
    assert time_in_words([{"seconds": 90.0}]) == "1.5 min"
    assert time_in_words([{"seconds": 90.0}, {"seconds": None}, {"seconds": 30.0}]) == (
        "2.0 min in 2 calls, and 1 earlier or interrupted, for how long is not known"
    )


def test_a_smoke_page_says_first_that_it_finds_nothing_and_one_seed_is_warned_of(toy: Toy, tmp_path: Path) -> None:
    results = conduct("toy", "smoke", tmp_path / "a", lambda _: None, {"seeds": (3,)})
    assert "nothing below is a finding" in results["summary"][0]
    assert any(warning.startswith("there is one seed") for warning in results["warnings"])
    assert results["command"] == f"elicit-experiment toy --preset smoke --seed 3 --out {tmp_path / 'a'}"
    larger = conduct("toy", "default", tmp_path / "b", lambda _: None)
    assert larger["summary"] == [f"found {EVIL}"]
    assert not any("one seed" in warning for warning in larger["warnings"])


def test_the_command_line_writes_the_folder(toy: Toy, tmp_path: Path) -> None:
    from experiments.cli import _command

    out = tmp_path / "a folder"
    outcome = CliRunner().invoke(_command("toy", "What?"), ["--preset", "smoke", "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert f"· found {EVIL}" in outcome.output
    assert {path.name for path in out.iterdir()} >= {"results.json", "report.html", "manifest.json", "figures", "parts"}
    assert read_json(out / "results.json")["command"] == f"elicit-experiment toy --preset smoke --out '{out}'"


def test_text_of_data_is_never_markup(toy: Toy, tmp_path: Path) -> None:
    conduct("toy", "smoke", tmp_path / "out", lambda _: None)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_source_leaves_out_what_targets_hold_and_says_what_it_lacks(tmp_path: Path, monkeypatch) -> None:
    rows = [Row(str(i), f"{'good' if i % 2 else 'bad'} film number {i}", i % 2) for i in range(100)]
    source = make_domain("films/all", Question("Is it good?"), rows)
    shared = source.train.texts[3]
    target = make_domain(
        "films/few",
        Question("Is it good?"),
        [Row("1", f"  {shared.upper()}", 1), *(Row(f"o{i}", f"other {i}", i % 2) for i in range(9))],
    )
    monkeypatch.setattr(Folder, "domain", lambda self, name: source)
    write_json(tmp_path / "manifest.json", {"versions": {}})
    part = Folder(tmp_path).source("films/all", [target], 1000)
    assert len(part) == len(source.train) - 1
    assert shared not in part.texts
    assert [line for line in notes(tmp_path) if line.startswith("sources/films/all: ")] == [
        "sources/films/all: training texts left out, since a target holds them too: 1",
        f"sources/films/all: it has {len(part)} training texts, fewer than the 1000 that the preset asks for",
    ]
    assert sum(Folder(tmp_path).source("films/all", [target], 20).labels) == 10
    assert len(notes(tmp_path)) == 1


def test_a_warning_of_many_figures_is_one_line() -> None:
    def row(name: str) -> dict[str, Any]:
        return {"name": name, "auroc": {"value": 1.0, "low": 1.0, "high": 1.0, "warning": "no spread"}}

    assert alarms([row("a"), row("b")]) == ["a, auroc: no spread", "b, auroc: no spread"]
    assert alarms([row(name) for name in "abcde"]) == ["5 figures (a, auroc; b, auroc; c, auroc; …): no spread"]


def test_what_sources_note_does_not_claim_a_folder(toy: Toy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_json(out / "manifest.json", {"experiment": "toy", "preset": "default", "sizes": {}})
    write_json(out / "notes" / "sources" / "a.json", [])
    assert conduct("toy", "smoke", out, lambda _: None)["preset"] == "smoke"
