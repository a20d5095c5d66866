"""Elicitation: what is shared is charged to everyone, and the front holds what nothing beats at its price."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from elicit.reports.charts import pareto
from experiments.elicitation import cost, points
from tests.experiments.conftest import Smoke


def test_a_reading_that_several_methods_share_is_charged_to_each() -> None:
    timings = [
        {
            "t/ccs": {"seconds": 12.0, "tokens": 900},
            "t/crc": {"seconds": 0.2, "tokens": 0},
            "t/icm": {"seconds": 90.0, "tokens": 5},
            "t/probe-target": {"seconds": 0.1, "tokens": 0},
            "t/probe-source": {"seconds": 30.0, "tokens": 2000},
            "t/mean-difference-source": {"seconds": 0.1, "tokens": 0},
        },
        {
            "t/ccs": {"seconds": 10.0, "tokens": 900},
            "t/crc": {"seconds": 0.4, "tokens": 0},
            "t/icm": {"seconds": 70.0, "tokens": 5},
        },
    ]
    assert cost(timings, "t", "crc", "tokens") == 900
    assert cost(timings, "t", "crc", "seconds") == 11.0
    assert cost(timings, "t", "icm", "seconds") == 80.0
    # A probe on target labels reads what the label-free ones read; probes on source labels read something else.
    assert cost(timings[:1], "t", "probe-target", "tokens") == 900
    assert cost(timings[:1], "t", "mean-difference-source", "tokens") == 2000


def test_the_smoke_rows_hold_both_starts_and_references_once(smoke: Callable[[str], Smoke]) -> None:
    run = smoke("elicitation")
    rows = run.results["rows"]
    assert sorted(row["start"] for row in rows if row["method"] == "ccs") == ["source-trained", "untrained"]
    assert [row["start"] for row in rows if row["method"] == "untrained"] == [""]
    labels = {(row["start"], row["method"]): row["labels_used"] for row in rows}
    assert labels["source-trained", "ccs"] == "source"
    assert labels["untrained", "ccs"] == "none"
    by_method = {row["method"]: row for row in rows if row["start"] != "untrained"}
    gain = by_method["ccs"]["auroc"]["value"] - by_method["transfer"]["auroc"]["value"]
    assert by_method["ccs"]["versus_transfer"]["value"] == pytest.approx(gain, abs=2e-6)
    # Both starts read all texts themselves, whatever was read before.
    assert all(row["tokens"] > 0 and row["seconds"] > 0 for row in rows if not row["method"].startswith("keyword"))
    assert not list(run.out.rglob("readings.sqlite"))
    front = pareto(points(rows, "vader/tweets"))
    assert front
    assert [point.y for point in front] == sorted(point.y for point in front)
