"""Transfer: what is trained for a target, distances between domains, and their rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from elicit.domains import Domain, Question, Row, make_domain
from elicit.evaluation import Resampled
from elicit.monitors import KeywordMonitor
from elicit.training import TrainingConfig
from experiments.distances import keyword_distance, rank_correlation, state_distance
from experiments.experiment import Folder
from experiments.transfer import (
    ALL,
    FAMILY,
    OWN,
    PRESETS,
    SINGLE,
    Recipe,
    few_texts,
    mean_gain,
    portions,
    recipes,
    scores_by_target,
    training_parts,
)


def domain(name: str, texts: list[str]) -> Domain:
    return make_domain(name, Question("Is it?"), [Row(str(i), text, i % 2) for i, text in enumerate(texts)])


def test_a_target_is_held_out_alone_and_with_its_family() -> None:
    found = recipes("a/one", ("a/one", "a/two", "b/one", "c"))
    assert found == [
        Recipe(OWN, ("a/one",)),
        Recipe(SINGLE, ("a/two",)),
        Recipe(SINGLE, ("b/one",)),
        Recipe(SINGLE, ("c",)),
        Recipe(FAMILY, ("b/one", "c")),
        Recipe(ALL, ("a/two", "b/one", "c")),
    ]
    # One domain is no mixture: it has its row already.
    assert [recipe.kind for recipe in recipes("a/one", ("a/one", "b/one"))] == [OWN, SINGLE]


def test_training_texts_are_in_no_other_domain_and_not_among_their_own_test_texts() -> None:
    shared = [f"shared {i}" for i in range(20)]
    one, two = (
        domain("one", shared + [f"one {i}" for i in range(60)]),
        domain("two", shared + [f"two {i}" for i in range(60)]),
    )
    parts, warnings = training_parts({"one": one, "two": two})
    for name, own, other in (("one", one, two), ("two", two, one)):
        assert not set(parts[name].texts) & set(other.texts)
        assert not set(parts[name].texts) & set(own.test.texts)
    assert len(warnings) == 2
    assert warnings[0].startswith("one: texts not trained on, since another domain holds them too: ")


def test_several_sources_give_as_many_texts_in_all_as_one() -> None:
    sizes = {"small": 10, "large": 90, "middle": 40}
    parts = {name: domain(name, [f"{name} {i}" for i in range(size)]) for name, size in sizes.items()}
    assert [len(part) for part in portions(list(parts.values()), 60)] == [10, 25, 25]
    assert [part.name for part in portions(list(parts.values()), 60)] == list(parts)
    assert [len(part) for part in portions(list(parts.values()), 1000)] == [10, 90, 40]
    assert few_texts(parts, 40) == [
        "small has 10 texts to train on: its own training sees fewer than the 40 of the others"
    ]


def test_every_training_is_asked_once_for_as_many_texts_as_the_preset_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def trained(self: Folder, name: str, base: object, sources: Sequence[Domain], config: TrainingConfig, *_: object):
        asked.append((sum(map(len, sources)), config.texts))
        return KeywordMonitor.fit_domains(sources)

    monkeypatch.setattr(Folder, "trained", trained)
    monkeypatch.setattr(Folder, "judges", lambda *_: [])
    monkeypatch.setattr(Folder, "untrained", lambda *_: KeywordMonitor.fit_domains(list(parts.values())))
    parts = {name: domain(name, [f"{name} {i} {i % 2}" for i in range(1500)]) for name in ("a/x", "b/y", "c/z")}
    preset = replace(PRESETS["full"], domains=tuple(parts), seeds=(0,), source_texts=1200)
    tests = {name: part.sample(60) for name, part in parts.items()}
    found = scores_by_target(Folder(tmp_path), preset, tests, parts)
    assert asked == [(1200, 1200)] * 6  # each alone, and every two of them: once, whatever they are for
    alone = {f"{kind}{name}" for kind in ("", "keyword-") for name in ("a-x", "b-y", "c-z", "b-y+c-z")}
    assert set(found["a/x"]) == {"untrained", *(key if key.startswith("keyword") else f"{key}-0" for key in alone)}


def test_the_mean_gain_over_targets_draws_each_targets_texts() -> None:
    drawn = np.array([-0.02, 0.0, 0.02] * 100)
    pairs = [
        (Resampled(0.9, 0.9 + drawn), Resampled(0.5, 0.5 + drawn)),
        (Resampled(0.6, 0.6 + drawn), Resampled(0.7, 0.7 - drawn)),
    ]
    found = mean_gain(pairs)
    assert found["value"] == pytest.approx(0.15)  # the mean of .4 and −.1
    assert (found["low"], found["high"]) == (pytest.approx(0.13), pytest.approx(0.17))  # half of the second one's ±.04
    assert found["reading"] == "better"


def test_domains_of_the_same_words_are_near_and_of_other_words_far() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]

    def texts(vocabulary: list[str], count: int = 60) -> list[str]:
        return [" ".join(rng.choice(vocabulary, 8)) for _ in range(count)]

    assert keyword_distance(texts(words), texts(words)) < 0.6
    assert keyword_distance(texts(words[:15]), texts(words[15:])) == 2.0


def test_the_distance_of_states_does_not_depend_on_their_scale_or_rotation() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4000, 3)), rng.normal(loc=(2.0, 0.0, 0.0), size=(4000, 3))
    assert state_distance(one, other) == pytest.approx(2.0, abs=0.1)  # unit covariance: the distance of the means
    mix = np.array([[3.0, 0.2, 0.0], [0.0, 0.7, 0.1], [0.4, 0.0, 1.5]])
    assert state_distance(one @ mix, other @ mix) == pytest.approx(2.0, abs=0.15)
    assert state_distance(one, one[::-1]) == 0.0


def test_a_loss_that_grows_with_distance_has_rank_correlation_minus_one() -> None:
    names = ("a", "b", "c", "d", "e")
    pairs = [
        {"source": s, "target": t, "d": abs(i - j) + 0.01 * i}
        for i, s in enumerate(names)
        for j, t in enumerate(names)
        if s != t
    ]
    distance = {(pair["source"], pair["target"]): pair["d"] for pair in pairs}
    exact = np.zeros(2000)
    aurocs = {pair: Resampled(0.9 - 0.05 * d, exact + 0.9 - 0.05 * d) for pair, d in distance.items()}
    aurocs |= {(name, name): Resampled(0.95, exact + 0.95) for name in names}
    found = rank_correlation(pairs, "d", aurocs, names)
    assert found["value"] == -1.0
    assert found["high"] == -1.0  # so it is in every draw of domains
    # The same figures, dealt out again at random: nothing is left that domains agree on.
    rng = np.random.default_rng(1)
    values = rng.permutation([aurocs[pair].value for pair in distance])
    shuffled = aurocs | {pair: Resampled(v, exact + v) for pair, v in zip(distance, values, strict=True)}
    found = rank_correlation(pairs, "d", shuffled, names)
    assert found["low"] < 0 < found["high"]
