import numpy as np
import pytest

from elicit.monitors.scores import Scores, scores_from


def test_coverage_and_reasons() -> None:
    scores = scores_from(
        ["a", "b", "c", "d"], [0.0, 1.0, float("nan"), 2.0], [None, None, "the text is empty", "too long"]
    )
    assert scores.coverage == 0.5
    assert scores.scored.tolist() == [True, True, False, False]
    assert scores.unscored() == {"the text is empty": 1, "too long": 1}


def test_a_value_that_is_not_finite_becomes_unscored_and_zero_stays_a_score() -> None:
    scores = scores_from(["a", "b"], [float("inf"), 0.0])
    assert scores.reasons == ("the score is not a finite number", None)
    assert np.isnan(scores.values[0])
    assert scores.values[1] == 0.0


@pytest.mark.parametrize(("value", "reason"), [(1.0, "why not"), (float("nan"), None), (float("inf"), None)])
def test_a_text_has_either_a_score_or_a_reason(value: float, reason: str | None) -> None:
    with pytest.raises(ValueError, match="row 0"):
        Scores(("a",), np.array([value]), (reason,))


def test_values_cannot_be_changed_afterwards() -> None:
    scores = scores_from(["a"], [1.0])
    with pytest.raises(ValueError, match="read-only"):
        scores.values[0] = 0.0
