"""Prompt-change and instruction: every plan beside the first one, on the same texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from elicit.evaluation import Resampled
from experiments.instruction import dilution, plans
from experiments.prompt_change import PLANS
from experiments.side_effects import _twin
from tests.experiments.conftest import Smoke


def test_the_plans_are_the_four_schedules_and_the_sweep_of_shares_under_both_losses() -> None:
    schedules = {options.get("schedule", "classification") for options in PLANS.values()}
    assert len(schedules) == 4
    swept = plans((0.1, 0.5))
    assert len(swept) == 1 + 2 * 2
    assert swept["50% instructions, mean over tokens"] == {
        "schedule": "mixed",
        "instruction_share": 0.5,
        "loss": "token",
    }


@pytest.mark.parametrize("name", ["prompt-change", "instruction"])
def test_each_plan_has_a_suite_and_a_row_per_target(smoke: Callable[[str], Smoke], name: str) -> None:
    rows = smoke(name).results["rows"]
    suite = [row for row in rows if row["kind"] == "suite"]
    first = suite[1]
    assert suite[0]["plan"] == "untrained"
    assert suite[0]["loss_growth"]["value"] is None
    assert first["following_versus_first"]["value"] is None
    for row in suite[2:]:
        gain = row["following"]["value"] - first["following"]["value"]
        assert row["following_versus_first"]["value"] == pytest.approx(gain, abs=2e-6)
        assert {"trained", "reworded", "inverted"} <= set(row["accuracy"])
    transfer = {(row["plan"], row["target"]) for row in rows if row["kind"] == "transfer"}
    assert transfer == {(row["plan"], target) for row in suite for target in ("vader/nyt",)}


def test_the_mean_over_tokens_is_compared_with_that_over_examples_at_the_same_share() -> None:
    swept = plans((0.1, 0.5))
    figures = {plan: Resampled(float(at), np.full(4, float(at))) for at, plan in enumerate(swept)}
    token, example = "50% instructions, mean over tokens", "50% instructions, mean over examples"
    assert _twin(token, swept, figures)["value"] == figures[token].value - figures[example].value == 2
    assert _twin(token, swept, figures)["reading"] == "better"
    assert _twin(token, swept, figures, low_is_good=True)["reading"] == "worse"
    assert _twin(example, swept, figures)["value"] is None
    said = dilution([{"versus_twin": _twin(token, swept, figures)}, {"versus_twin": _twin(example, swept, figures)}])
    assert said == ["The mean over tokens in place of the mean over examples, at equal shares: AUROC better in 1 of 1."]
