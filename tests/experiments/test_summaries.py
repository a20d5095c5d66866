"""Summaries: which texts means and gains are taken over, and what becomes of a model that writes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, Row, make_domain
from elicit.domains.reference_summaries import ReferenceSummary
from elicit.language_models.generation import Generation
from experiments.experiment import Folder
from experiments.summaries import PRESETS, UNTRAINED, _gain, _means, _Work, summary

SOURCE = make_domain("toy", Question("Is it good?"), [Row(str(i), f"text number {i}", i % 2) for i in range(20)])


def test_means_and_gains_are_over_the_texts_that_all_seeds_have() -> None:
    held = [{"rougeL": np.array([0.2, 0.4, np.nan])}, {"rougeL": np.array([0.6, 0.8, 0.9])}]
    assert _means(held, "rougeL").value == pytest.approx(0.5)
    gain = _gain(held, {"rougeL": np.array([np.nan, 0.5, 0.1])}, "rougeL")
    assert gain["value"] == pytest.approx(0.1)  # of the second text alone


def test_a_model_that_writes_nothing_has_undefined_figures_and_a_summary_of_them(tmp_path, monkeypatch) -> None:
    pairs = [ReferenceSummary(str(i), f"Text number {i} . It is long .", f"Number {i}.") for i in range(3)]
    silent = [Generation("", (), True, "it wrote nothing")] * len(pairs)
    monkeypatch.setattr(_Work, "written", lambda *_: silent)
    monkeypatch.setattr(Folder, "part", lambda *_, **__: [1.5] * len(pairs))
    rows = _Work(PRESETS["smoke"], Folder(tmp_path), SOURCE).quality(pairs)
    assert {row["model"]: row["copied"] for row in rows} == {"first sentence": 1.0, "untrained": None, "trained": None}
    undefined = {key: {"value": None} for key in ("auroc_difference", "auroc_text", "same_verdict")}
    said = summary([*rows, {"kind": "survival", "reader": "trained", "writer": "untrained", **undefined}])
    assert "is undefined for the untrained model" in said[0]
    assert "an undefined share of the cases" in said[2]


def test_what_is_written_comes_from_disk_and_nothing_written_has_a_reason(tmp_path, monkeypatch) -> None:
    class Writer:
        def generate(self, *_, **__):
            return [
                Generation("A film.", (1,), True),
                Generation("", (), True),
                Generation("", reason="the text is empty"),
            ]

    work = _Work(PRESETS["smoke"], Folder(tmp_path), SOURCE)
    monkeypatch.setattr(_Work, "model", lambda *_: type("M", (), {"model": Writer()}))
    first = work.written(UNTRAINED, 0, "films", ["a", "b", ""])
    assert [answer.reason for answer in first] == [None, "it wrote nothing", "the text is empty"]
    monkeypatch.setattr(_Work, "model", None)
    assert work.written(UNTRAINED, 0, "films", ["a", "b", ""]) == first
