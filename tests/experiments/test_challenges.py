"""Challenges: when a method survives, and on what it abstains."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, Row, load_domain, make_domain
from elicit.domains.challenges import IMPOSSIBLE
from elicit.errors import RunError
from elicit.files import write_json
from elicit.methods import Elicited, Labelling
from elicit.monitors import KeywordMonitor
from elicit.monitors.scores import scores_from
from experiments.challenges import (
    CHALLENGES,
    IN_POOL_ALONE,
    PRESETS,
    Outcome,
    Preset,
    _Work,
    abstention,
    abstentions,
)
from experiments.experiment import Folder, notes
from experiments.survival import NO_BASELINE, PLAIN, UNTOUCHED, reading, summary

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
        (0.5, 0.5, "not above chance"),
        (0.1, 0.1, "below chance"),
    ],
)
def test_a_method_survives_what_is_shown_to_cost_it_little(work, before, after, verdict) -> None:
    held = outcomes(work, before, after)
    row = work.row("harder", "m", held)
    assert row["verdict"] == verdict
    assert row["difference"]["value"] == pytest.approx(after - before, abs=0.03)
    assert work.row(PLAIN, "m", held)["difference"]["value"] is None


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (-0.04, 0.2, "survives"),
        (-0.04, -0.01, "survives"),  # worse, but by little
        (-0.06, -0.01, "falls"),
        (-0.4, 0.2, "not settled"),  # seeds differ too much to tell
        (-0.06, 0.0, "not settled"),
    ],
)
def test_an_interval_that_says_little_is_no_fall(low, high, found) -> None:
    assert reading({"value": (low + high) / 2, "low": low, "high": high}) == found


def test_an_undefined_difference_settles_nothing() -> None:
    assert reading({"value": None, "undefined": "no resample has it"}) == "not settled"


def test_a_sample_of_texts_with_impossible_ones_holds_both() -> None:
    """Few-shot methods take as many texts as they need in the order of a hash."""
    many = load_domain("vader/tweets").train
    pool, _ = CHALLENGES["impossible texts"](PRESETS["default"], many, many, 0)
    few = pool.sample(12).ids
    assert 0 < sum(name.startswith(IMPOSSIBLE) for name in few) < len(few)


def test_a_method_that_fails_does_not_survive(work) -> None:
    held = outcomes(work, 0.9, 0.9) | {("harder", "m"): [Outcome(None, failure="too few texts")] * 2}
    row = work.row("harder", "m", held)
    assert (row["verdict"], row["auroc"]["undefined"]) == ("fails", "too few texts")
    said = summary([work.row(PLAIN, "m", held), row], [])
    assert said == ["m survives 0 of 1 challenges; falls, or fails, under harder (an error)."]


def test_what_fails_without_a_challenge_is_not_blamed_on_it(work) -> None:
    held = outcomes(work, 0.9, 0.9) | {(PLAIN, "m"): [Outcome(None, failure="too few texts")] * 2}
    row = work.row("harder", "m", held)
    assert row["verdict"] == NO_BASELINE
    assert summary([work.row(PLAIN, "m", held), row], []) == [
        "m fails without any challenge: there is nothing to compare with."
    ]


def test_chance_has_nothing_to_lose_even_where_a_challenge_fails(work) -> None:
    held = outcomes(work, 0.5, 0.5) | {("other", "m"): [Outcome(None, failure="too few texts")] * 2}
    rows = [work.row(name, "m", held) for name in (PLAIN, "harder", "other")]
    assert summary(rows, []) == [
        "m is not shown to be better than chance without any challenge: what it loses cannot be told."
    ]


def test_whether_there_is_something_to_lose_does_not_depend_on_the_texts_that_a_challenge_leaves(work) -> None:
    """Right on nine of ten texts; on those that the challenge leaves it is mostly wrong."""
    held = outcomes(work, 0.9, 0.9)
    labels = work.test.label_array()
    turned = [row for row in range(len(labels)) if row >= 0.9 * len(labels)]
    left = [*turned, *np.flatnonzero(labels)[:2].tolist(), *np.flatnonzero(~labels.astype(bool))[:2].tolist()]
    reasons = [None if row in left else "refused" for row in range(len(labels))]
    few = scores_from(work.test.ids, held["harder", "m"][0].scores.values.tolist(), reasons)
    row = work.row("harder", "m", held | {("harder", "m"): [Outcome(few)] * 2})
    assert row["n"] == len(set(left)) < len(labels)
    assert row["verdict"] != "not above chance"


def test_a_reference_that_never_sees_the_pool_survives_nothing_there(work) -> None:
    name = IN_POOL_ALONE[0]
    held = {
        (name if key == "harder" else key, "transfer"): value for (key, _), value in outcomes(work, 0.9, 0.9).items()
    }
    rows = [work.row(PLAIN, "transfer", held), work.row(name, "transfer", held)]
    assert rows[1]["verdict"] == UNTOUCHED
    assert summary(rows, []) == ["transfer survives 0 of 0 challenges."]
    assert set(IN_POOL_ALONE) < set(CHALLENGES)


def test_an_error_of_one_method_is_kept_and_costs_no_other(work, monkeypatch) -> None:
    def fail(*_):
        raise ValueError("no direction")

    monkeypatch.setattr("experiments.challenges.elicit_monitor", fail)
    monkeypatch.setattr(work, "start", lambda _: None)
    assert work.outcome(PLAIN, "ccs", 0) == Outcome(None, failure="no direction")
    monkeypatch.setattr("experiments.challenges.elicit_monitor", None)
    assert work.outcome(PLAIN, "ccs", 0).failure == "no direction"  # from disk


def test_a_full_disk_says_nothing_about_a_method(work, monkeypatch) -> None:
    def fail(*_):
        raise RunError("no space left")

    monkeypatch.setattr("experiments.challenges.elicit_monitor", fail)
    monkeypatch.setattr(work, "start", lambda _: None)
    with pytest.raises(RunError, match="no space left"):
        work.outcome(PLAIN, "ccs", 0)
    found = Elicited(KeywordMonitor.fit_domains([TARGET.train]), warnings=("it found nothing",))
    monkeypatch.setattr("experiments.challenges.elicit_monitor", lambda *_: found)
    assert work.outcome(PLAIN, "ccs", 0).scores is not None  # asked again, it is tried again
    write_json(work.folder.out / "manifest.json", {"versions": {}})
    assert notes(work.folder.out) == [f"{PLAIN}/ccs-0: it found nothing"]
    work.test = TARGET.train.sample(100)
    with pytest.raises(RunError, match="has scores of other texts than toy now has"):
        work.outcome(PLAIN, "ccs", 0)


def test_methods_that_scored_texts_of_one_class_alone_fail(work) -> None:
    labels = work.test.label_array()
    held = outcomes(work, 0.9, 0.9)
    one = scores_from(work.test.ids, labels.tolist(), [None if label else "refused" for label in labels])
    row = work.row("harder", "m", held | {("harder", "m"): [Outcome(one)] * 2})
    assert row["verdict"] == "fails"
    assert "one class only" in row["difference"]["undefined"]


def test_abstentions_by_hand() -> None:
    ids = ("a", "b", f"{IMPOSSIBLE} 0", f"{IMPOSSIBLE} 1")
    labelling = Labelling(ids, np.array([True, True, False, False]), np.array([4.0, 0.1, -0.1, -0.2]))
    assert abstention(labelling) == {"possible": [0, 1], "impossible": [1, 1]}
    assert abstention(Labelling(ids[:2], labelling.labels[:2], labelling.log_odds[:2])) == {"possible": [0, 1]}
    held = {
        ("x", "m"): [
            Outcome(None, {"possible": [0, 1], "impossible": [1, 1, 1, 1]}),
            Outcome(None, {"possible": [0, 0], "impossible": [0, 1, 0, 0]}),
        ]
    }
    (row,) = abstentions(held | {(PLAIN, "m"): [Outcome(None, {"possible": [0, 1]})]})
    assert (row["possible"]["value"], row["impossible"]["value"], row["n"]) == (0.25, 0.625, 4)
    # Whatever texts and seeds are drawn, the first seed alone abstains on all four.
    assert row["impossible"]["low"] < 0.625 < row["impossible"]["high"] == 1.0


def test_every_challenge_leaves_the_test_rows_and_their_labels_alone() -> None:
    target, preset = load_domain("vader/tweets"), PRESETS["default"]
    test = target.test.sample(60)
    for name, challenge in CHALLENGES.items():
        pool, changed = challenge(preset, target.train, test, 0)
        assert (changed.ids, changed.labels, changed.groups) == (test.ids, test.labels, test.groups), name
        assert len(pool) >= 16
        assert not set(pool.ids) & set(test.ids)
