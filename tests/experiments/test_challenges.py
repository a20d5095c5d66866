"""Challenges: when a method survives, and on what it abstains."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, Row, load_domain, make_domain
from elicit.domains.challenges import IMPOSSIBLE
from elicit.methods import Labelling
from elicit.monitors.scores import scores_from
from experiments.challenges import (
    CHALLENGES,
    PLAIN,
    PRESETS,
    Outcome,
    Preset,
    _Work,
    abstention,
    abstentions,
    summary,
)
from experiments.experiment import Folder

TARGET = make_domain("toy", Question("Is it good?"), [Row(str(i), f"text number {i}", i % 2) for i in range(400)])


@pytest.fixture
def work(tmp_path) -> _Work:
    preset = Preset("toy", "toy", ("harder",), ("m",), (0, 1), 8, 1.0, 8, 100)
    return _Work(preset, Folder(tmp_path), TARGET.train, TARGET)


def outcomes(work: _Work, right_before: float, right_after: float) -> dict:
    """A method that ranks this share of the test texts by their label, and the others the other way round."""
    labels = work.test.label_array()

    def outcome(right: float) -> Outcome:
        turned = np.arange(len(labels)) >= right * len(labels)
        return Outcome(scores_from(work.test.ids, np.where(turned, 1 - labels, labels).tolist()))

    return {(PLAIN, "m"): [outcome(right_before)] * 2, ("harder", "m"): [outcome(right_after)] * 2}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (0.9, 0.9, "survives"),
        (0.9, 0.95, "survives"),
        (0.9, 0.6, "falls"),
        (0.9, 0.85, "falls"),
        (0.5, 0.5, "nothing to lose"),
    ],
)
def test_a_method_survives_what_is_shown_to_cost_it_little(work, before, after, verdict) -> None:
    held = outcomes(work, before, after)
    row = work.row("harder", "m", held)
    assert row["verdict"] == verdict
    assert row["difference"]["value"] == pytest.approx(after - before, abs=0.03)
    assert work.row(PLAIN, "m", held)["difference"]["value"] is None


def test_a_method_that_fails_does_not_survive(work) -> None:
    held = outcomes(work, 0.9, 0.9) | {("harder", "m"): [Outcome(None, failure="too few texts")] * 2}
    row = work.row("harder", "m", held)
    assert (row["verdict"], row["auroc"]["undefined"]) == ("fails", "too few texts")
    said = summary([work.row(PLAIN, "m", held), row], [])
    assert said == ["m survives 0 of 1 challenges; not shown to survive: harder (an error)."]


def test_an_error_of_one_method_is_kept_and_costs_no_other(work, monkeypatch) -> None:
    def fail(*_):
        raise ValueError("no direction")

    monkeypatch.setattr("experiments.challenges.elicit_monitor", fail)
    monkeypatch.setattr(work, "start", lambda _: None)
    assert work.outcome(PLAIN, "ccs", 0) == Outcome(None, failure="no direction")
    monkeypatch.setattr("experiments.challenges.elicit_monitor", None)
    assert work.outcome(PLAIN, "ccs", 0).failure == "no direction"  # from disk


def test_abstentions_by_hand() -> None:
    ids = ("a", "b", f"{IMPOSSIBLE} 0", f"{IMPOSSIBLE} 1")
    labelling = Labelling(ids, np.array([True, True, False, False]), np.array([4.0, 0.1, -0.1, -0.2]))
    assert abstention(labelling) == {"possible": 0.5, "impossible": 1.0}
    assert abstention(Labelling(ids[:2], labelling.labels[:2], labelling.log_odds[:2])) == {"possible": 0.5}
    held = {
        ("x", "m"): [
            Outcome(None, {"possible": 0.5, "impossible": 1.0}),
            Outcome(None, {"possible": 0.1, "impossible": 0.2}),
        ]
    }
    (row,) = abstentions(held | {(PLAIN, "m"): [Outcome(None, {"possible": 0.5})]})
    assert (row["possible"], row["impossible"]) == (0.3, 0.6)


def test_every_challenge_leaves_the_test_rows_and_their_labels_alone() -> None:
    target, preset = load_domain("vader/tweets"), PRESETS["default"]
    test = target.test.sample(60)
    for name, challenge in CHALLENGES.items():
        pool, changed = challenge(preset, target.train, test, 0)
        assert (changed.ids, changed.labels, changed.groups) == (test.ids, test.labels, test.groups), name
        assert len(pool) >= 16
        assert not set(pool.ids) & set(test.ids)
