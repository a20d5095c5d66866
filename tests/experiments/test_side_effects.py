"""Prompt-change and instruction: every plan beside the first one, on the same texts."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.evaluation import Resampled
from experiments.instruction import dilution, plans
from experiments.prompt_change import PLANS
from experiments.side_effects import _twin, dilution_row, hearing


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


def test_the_mean_over_tokens_is_compared_with_that_over_examples_at_the_same_share() -> None:
    swept = plans((0.1, 0.5))
    figures = {plan: Resampled(float(at), np.full(4, float(at))) for at, plan in enumerate(swept)}
    token, example = "50% instructions, mean over tokens", "50% instructions, mean over examples"
    assert _twin(token, swept, figures)["value"] == figures[token].value - figures[example].value == 2
    assert _twin(token, swept, figures)["reading"] == "better"
    assert _twin(token, swept, figures, low_is_good=True)["reading"] == "worse"
    assert _twin(example, swept, figures)["value"] is None


def test_dilution_is_told_in_the_mean_over_all_shares() -> None:
    swept = plans((0.1, 0.5))
    seen = np.array([0.0, 0.1, 0.2, 0.3])  # what resamples add to every plan alike cancels
    values = {
        "verdicts alone": 0.9,
        "10% instructions, mean over examples": 0.8,
        "10% instructions, mean over tokens": 0.6,
    }
    values |= {"50% instructions, mean over examples": 0.9, "50% instructions, mean over tokens": 0.5}
    figures = {plan: Resampled(value, value + seen) for plan, value in values.items()}
    sizes = {"seeds": 3, "n": 120, "coverage": 1.0}
    (row,) = dilution_row("AUROC on tweets", swept, figures, sizes)
    assert (row["plans"], row["difference"]["value"], row["difference"]["high"]) == (2, -0.3, -0.3)
    (worse,) = dilution([{"kind": "suite"}, row])
    assert row["n"] == 120
    assert "averaged over 2 shares" in worse
    assert worse.endswith("AUROC on tweets -0.300 [-0.300, -0.300] (worse).")
    (loss,) = dilution_row("loss", swept, figures, sizes, low_is_good=True)
    assert loss["difference"]["reading"] == "better"
    assert dilution_row("AUROC on tweets", PLANS, figures, sizes) == []
    assert dilution([{"kind": "suite"}]) == []


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.51, 0.9, "answered (0.60 [0.51, 0.90])"),
        (0.1, 0.49, "not answered (0.30 [0.10, 0.49])"),
        (0.4, 0.5, "not settled to be answered (0.45 [0.40, 0.50])"),
    ],
)
def test_a_question_is_answered_where_the_whole_interval_lies_above_chance(low, high, said) -> None:
    assert hearing({"value": float(said.split("(")[1][:4]), "low": low, "high": high}) == said


def test_a_question_that_no_text_tells_from_the_trained_one_is_not_read() -> None:
    assert hearing({"value": None, "undefined": "no text differs"}).startswith("not to be told apart")
