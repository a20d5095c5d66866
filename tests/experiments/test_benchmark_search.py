"""The benchmark of searches: its parts one by one, means over seeds, and results of other weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import experiments.benchmark_search as search
from elicit.domains import Domain, Question, Row, UnlabelledDomain, make_domain
from elicit.errors import RunError
from elicit.files import read_json
from elicit.language_models.local import LocalModel
from elicit.monitors import Monitor, Scores
from experiments.cli import main

EVEN, FEW, MANY = search.SHARES


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    rows = [Row(str(i), f"film {i} is {('dull', 'good')[i % 2]}", i % 2) for i in range(400)]
    domain = make_domain("films", Question("Is it good?"), rows)
    monkeypatch.setattr(search, "load_domain", lambda _: domain)
    monkeypatch.setattr(search, "SHARED", 40)
    monkeypatch.setattr(search, "SIZES", (8,))
    return domain


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Flagged share and seed of every search that was made, of which none asks a model.

    What is found on an even share ranks all texts rightly, on few flagged ones wrongly, and on many as the seed has it.
    """
    made: list[tuple[float, int]] = []

    class Knows(Monitor):
        kind, question = "knows", None

        def __init__(self, sign: float) -> None:
            self.sign = sign

        def _score(self, texts: UnlabelledDomain) -> Scores:
            values = np.array([self.sign if "good" in text else -self.sign for text in texts.texts])
            return Scores(texts.ids, values, (None,) * len(texts))

        def save(self, folder: Path) -> None: ...

    def elicit(_monitor: object, texts: UnlabelledDomain, method: str, seed: int) -> Any:
        assert method == "consistency"
        share = round(sum("good" in text for text in texts.texts) / len(texts), 2)
        made.append((share, seed))
        return SimpleNamespace(monitor=Knows({EVEN: 1.0, FEW: -1.0}.get(share, -1.0 if seed else 1.0)))

    monkeypatch.setattr(search, "elicit_monitor", elicit)
    monkeypatch.setattr(LocalModel, "load", lambda _: SimpleNamespace(fingerprint=lambda: "f"))
    return made


def measure(out: Path, parts: tuple[str, ...], seeds: int = 2, model: str = "m") -> list[str]:
    """What is said."""
    said: list[str] = []
    search.benchmark_search(model, None, ("films",), 8, seeds, out, said.append, parts)
    return said


def test_shares_are_compared_with_the_even_one_over_seeds(
    domain: Domain, searches: list[tuple[float, int]], tmp_path: Path
) -> None:
    said = measure(tmp_path, ("balance",))
    results = read_json(tmp_path / "results.json")
    assert set(results) == {"schema", "benchmark", "options", "balance"}
    rows = {row["flagged_share"]: row for row in results["balance"]}
    assert [(row["texts"], row["seeds"], row["n"]) for row in rows.values()] == [(40, 2, len(domain.test))] * 3
    # By hand: 1 and 1; 0 and 0; 1 and 0, of which a resample draws two with replacement. Two seeds say so little of others
    # (Student's t is 12.7) that the interval is all that a share, or a difference of shares, can be.
    assert [rows[share]["auroc"]["value"] for share in (EVEN, FEW, MANY)] == [1.0, 0.0, 0.5]
    assert rows[EVEN]["less_even"]["value"] is None
    assert {"value": -1.0, "low": -1.0, "high": -1.0, "reading": "worse"}.items() <= rows[FEW]["less_even"].items()
    expected = {"value": -0.5, "low": -1.0, "high": 1.0, "reading": "no clear difference"}
    assert expected.items() <= rows[MANY]["less_even"].items()
    assert any("95% of 40 texts flagged, 2 seeds: AUROC 0.500 [0.000, 1.000]" in line for line in said)
    assert any("less that of 50% -0.500 [-1.000, +1.000]" in line for line in said)
    assert sorted(searches) == sorted((share, seed) for share in search.SHARES for seed in range(2))


def test_searches_from_the_untrained_model_are_compared_with_asking_it(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero-shot ranks a quarter of the pairs rightly, and what is found all, half or three quarters of them by seed."""
    test = search.held_out(domain, search.UNSEEN_TEST)
    right = {None: 0.25, 0: 1.0, 1: 0.5, 2: 0.75}
    started: list[tuple[int, int]] = []

    class Ranks(Monitor):
        kind, question = "ranks", None

        def __init__(self, seed: int | None) -> None:
            self.seed = seed

        def _score(self, texts: UnlabelledDomain) -> Scores:
            # Of the flagged texts such a share lies above all cleared ones, the others below.
            flagged = [i for i in texts.ids if int(i) % 2]
            above = set(flagged[: round(right[self.seed] * len(flagged))])
            values = np.array([0.0 if int(i) % 2 == 0 else 1.0 if i in above else -1.0 for i in texts.ids])
            return Scores(texts.ids, values, (None,) * len(texts))

        def save(self, folder: Path) -> None: ...

    def elicit(monitor: object, texts: UnlabelledDomain, method: str, seed: int) -> Any:
        assert (method, monitor) == ("consistency", "as it came")
        started.append((len(texts), seed))
        return SimpleNamespace(monitor=Ranks(seed))

    monkeypatch.setattr(search, "elicit_monitor", elicit)
    monkeypatch.setattr(search, "UNSEEN_POOL", 40)
    folder = search.Folder(tmp_path)
    scores = Ranks(None).score(test.unlabelled())
    monkeypatch.setattr(search.Folder, "scores", lambda self, part, name, load, kept=search.Folder.scores: (
        scores if name == "zero-shot" else kept(self, part, name, load)
    ))  # fmt: skip
    row = search.untrained("as it came", "films", 3, folder)  # type: ignore[arg-type]
    assert started == [(40, 0), (40, 1), (40, 2)]
    assert (row["texts"], row["seeds"], row["n"]) == (40, 3, len(test))
    assert row["zero_shot"]["value"] == pytest.approx(0.25, abs=0.01)
    assert row["consistency"]["value"] == pytest.approx(0.75, abs=0.01)
    assert row["less_zero_shot"]["value"] == pytest.approx(0.5, abs=0.01)
    assert row["less_zero_shot"]["low"] < 0  # three seeds that differ so much
    started.clear()
    search.untrained("as it came", "films", 3, folder)  # type: ignore[arg-type]
    assert not started


def test_what_was_searched_is_not_searched_again(
    domain: Domain, searches: list[tuple[float, int]], tmp_path: Path
) -> None:
    measure(tmp_path, ("balance",))
    before = (tmp_path / "results.json").read_bytes()
    searches.clear()
    measure(tmp_path, ("balance",))
    assert not searches
    assert (tmp_path / "results.json").read_bytes() == before
    measure(tmp_path, ("balance",), seeds=3)
    assert sorted(searches) == sorted((share, 2) for share in search.SHARES)


def test_right_labels_are_compared_text_by_text_whatever_their_class(domain: Domain) -> None:
    """20 texts, half flagged: consistency has all right, icm calls all cleared, and verdicts err on one text of each class."""
    ids = domain.ids[:20]
    right = {
        "consistency": dict.fromkeys(ids, 1),
        "icm": {i: 1 - int(i) % 2 for i in ids},
        "verdicts": {i: int(i not in ids[:2]) for i in ids},
    }
    rows = [{"domain": "films", "method": name, "seed": 0, "right": held} for name, held in right.items()]
    found = {row["other"]: row["less"] for row in search.differences(rows)}
    assert found["verdicts"]["value"] == 0.1
    assert found["icm"]["value"] == 0.5
    # Texts of both classes are drawn: how many are flagged, and so how often icm is wrong, differs between resamples.
    assert found["icm"]["low"] == pytest.approx(0.5 - 1.96 * (0.25 / 20) ** 0.5, abs=0.06)
    assert found["icm"]["high"] == pytest.approx(0.5 + 1.96 * (0.25 / 20) ** 0.5, abs=0.06)


def test_results_of_other_weights_under_the_same_name_are_refused(
    domain: Domain, make_model, make_tokenizer, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    make_tokenizer().save_pretrained(model)
    make_model("llama").save_pretrained(model)
    for _ in range(2):  # the same weights go on
        measure(tmp_path / "out", ("cost",), model=str(model))
    held = read_json(tmp_path / "out" / "results.json")
    assert [row["texts"] for row in held["cost"]] == [8]
    assert "speed" not in held
    make_model("llama", seed=1).save_pretrained(model)
    with pytest.raises(RunError, match=r"was measured with weights '[0-9a-f]{64}', and '[0-9a-f]{64}' is asked for"):
        measure(tmp_path / "out", ("cost",), model=str(model))
    assert read_json(tmp_path / "out" / "results.json") == held


def test_the_command_measures_the_parts_that_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr(search, "benchmark_search", lambda *_, say, parts: given.append(parts))
    monkeypatch.setattr("experiments.report.write_benchmark_page", lambda folder, *_: folder)
    for options in ([], ["--part", "balance", "--part", "cost"]):
        CliRunner().invoke(main, ["benchmark", "search", *options, "--out", "o"], catch_exceptions=False)
    assert given == [search.PARTS, ("balance", "cost")]
    assert CliRunner().invoke(main, ["benchmark", "search", "--part", "recall", "--out", "o"]).exit_code == 2
