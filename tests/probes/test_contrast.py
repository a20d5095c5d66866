"""What every label-free probe promises: checked input, scores of one text alone, invariances, signs, one layer like many."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from probes import (
    CCS,
    CRC,
    VINC,
    BimodalCRC,
    ClusterNorm,
    ContrastProbe,
    EnsembleProbe,
    ErasureNorm,
    KMeansProbe,
    LDAProbe,
    PCAProbe,
    RandomProbe,
)
from probes._arrays import as_pairs
from probes.testing import Pairs, planted

PROBES = [
    CCS(restarts=3),
    CRC(),
    BimodalCRC(restarts=1),
    VINC(),
    KMeansProbe(),
    PCAProbe(),
    EnsembleProbe(size=16),
    EnsembleProbe("principal", size=8),
    RandomProbe(),
    CRC(norm=ClusterNorm()),
    CRC(norm=ErasureNorm()),
]
FINDERS = [probe for probe in PROBES if not isinstance(probe, RandomProbe)]
# A random half of the features means something else after a rotation, and k-means is only sure of clusters that there
# are.
TURNING = [
    probe for probe in FINDERS if not isinstance(probe, EnsembleProbe) and not isinstance(probe.norm, ClusterNorm)
]


def name(probe: ContrastProbe) -> str:
    return repr(probe)


def clear(seed: int = 0, n: int = 60, d: int = 12) -> Pairs:
    """Pairs whose truth no probe can miss, so that its solution is unique up to sign."""
    return planted(n, d, signal=6.0, answer_word=0.2, common=0.5, random_state=seed)


def agree(a: np.ndarray, b: np.ndarray) -> float:
    """|correlation|."""
    return abs(float(np.corrcoef(a, b)[0, 1]))


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_fit_has_no_place_for_labels(probe: ContrastProbe) -> None:
    assert list(inspect.signature(probe.fit).parameters) == ["x_pos", "x_neg"]
    assert inspect.signature(probe.fit) == inspect.signature(ContrastProbe.fit.__get__(probe))


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_a_text_scores_the_same_in_every_batch(probe: ContrastProbe) -> None:
    pairs = planted(200, 24, random_state=3)
    layered = np.stack([pairs.x_pos, pairs.x_pos**2], 1), np.stack([pairs.x_neg, pairs.x_neg**2], 1)
    fitted = clone(probe).fit(*layered)
    whole = fitted.score(*layered)
    for size in (1, 5, 200):
        parts = [fitted.score(layered[0][i : i + size], layered[1][i : i + size]) for i in range(0, 200, size)]
        assert np.array_equal(np.concatenate(parts), whole)
    # The memory layout of the batch changes nothing, either.
    turned = [np.asfortranarray(half) for half in layered]
    assert np.array_equal(fitted.score(*turned), whole)


@pytest.mark.parametrize("probe", FINDERS, ids=name)
def test_a_clear_truth_is_found(probe: ContrastProbe) -> None:
    pairs = clear()
    scores = clone(probe).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    assert abs(roc_auc_score(pairs.truth, scores) - 0.5) > 0.49


@pytest.mark.parametrize("probe", FINDERS, ids=name)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_swapping_the_halves_negates_the_scores(probe: ContrastProbe, seed: int) -> None:
    pairs = clear(seed)
    forth = clone(probe).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    back = clone(probe).fit(pairs.x_neg, pairs.x_pos).score(pairs.x_neg, pairs.x_pos)
    np.testing.assert_allclose(back, -forth, rtol=1e-3, atol=1e-3 * np.abs(forth).max())


@pytest.mark.parametrize("probe", FINDERS, ids=name)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), far=st.floats(-1e3, 1e3))
def test_a_shift_of_all_states_changes_nothing(probe: ContrastProbe, seed: int, far: float) -> None:
    pairs = clear(seed)
    shift = far * np.random.default_rng(seed).standard_normal(pairs.x_pos.shape[1])
    plain = clone(probe).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    moved_pos, moved_neg = pairs.x_pos + shift, pairs.x_neg + shift
    moved = clone(probe).fit(moved_pos, moved_neg).score(moved_pos, moved_neg)
    np.testing.assert_allclose(moved, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max())


@pytest.mark.parametrize("probe", FINDERS, ids=name)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_texts_changes_nothing(probe: ContrastProbe, seed: int) -> None:
    pairs = clear(seed)
    order = np.random.default_rng(seed).permutation(len(pairs.truth))
    plain = clone(probe).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    mixed = clone(probe).fit(pairs.x_pos[order], pairs.x_neg[order]).score(pairs.x_pos, pairs.x_neg)
    np.testing.assert_allclose(mixed, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max())


@pytest.mark.parametrize("probe", TURNING, ids=name)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_rotation_of_the_states_changes_the_sign_at_most(probe: ContrastProbe, seed: int) -> None:
    pairs = clear(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, 12)))[0]
    plain = clone(probe).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg)
    turned = clone(probe).fit(pairs.x_pos @ turn, pairs.x_neg @ turn)
    scores = turned.score(pairs.x_pos @ turn, pairs.x_neg @ turn)
    assert agree(scores, plain) > 1 - 1e-4
    np.testing.assert_allclose(np.abs(scores), np.abs(plain), rtol=1e-2, atol=1e-2 * np.abs(plain).max())


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_layers_do_not_see_each_other(probe: ContrastProbe) -> None:
    parts = [clear(seed) for seed in (1, 2, 3)]
    pos, neg = (np.stack([getattr(part, half) for part in parts], 1) for half in ("x_pos", "x_neg"))
    together = clone(probe).fit(pos, neg)
    scores = together.score(pos, neg)
    order = [2, 0, 1]
    reordered = clone(probe).fit(pos[:, order], neg[:, order]).score(pos[:, order], neg[:, order])
    np.testing.assert_allclose(reordered, scores[:, order], rtol=1e-3, atol=1e-3)
    for layer, part in enumerate(parts):
        alone = clone(probe).fit(part.x_pos, part.x_neg).score(part.x_pos, part.x_neg)
        assert alone.shape == (60,)
        np.testing.assert_allclose(alone, scores[:, layer], rtol=1e-3, atol=1e-3)


def test_blocks_of_layers_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [planted(40, 8, random_state=seed) for seed in range(5)]
    pos, neg = (np.stack([getattr(part, half) for part in pairs], 1) for half in ("x_pos", "x_neg"))
    whole = CCS(restarts=3).fit(pos, neg)
    monkeypatch.setattr("probes.contrast.CHUNK", 2 * 40 * 8 * 2)
    blocks = CCS(restarts=3).fit(pos, neg)
    np.testing.assert_allclose(blocks.score(pos, neg), whole.score(pos, neg), rtol=1e-3, atol=1e-3)
    assert blocks.objectives_.shape == (5, 3)


def test_the_best_layer_is_the_one_that_splits_texts_in_two() -> None:
    dull, clear_layer = planted(80, 16, signal=0.0, random_state=1), clear(2, n=80, d=16)
    pos, neg = (np.stack([getattr(p, half) for p in (dull, clear_layer, dull)], 1) for half in ("x_pos", "x_neg"))
    for probe in (CRC(), CCS(), KMeansProbe()):
        fitted = probe.fit(pos, neg)
        assert fitted.best_layer_ == 1
        np.testing.assert_array_equal(fitted.score_best(pos, neg), fitted.score(pos, neg)[:, 1])
        alone = fitted.best()
        np.testing.assert_array_equal(alone.score(pos[:, 1], neg[:, 1]), fitted.score(pos, neg)[:, 1])
        assert alone.best_layer_ == 0


@pytest.mark.parametrize("kind", [np.float16, np.float32, torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_and_library(kind: object) -> None:
    pairs = clear()
    halves = [pairs.x_pos, pairs.x_neg]
    if isinstance(kind, torch.dtype):
        given_halves = [torch.from_numpy(half).to(kind) for half in halves]
        exact = [half.double().numpy() for half in given_halves]
    else:
        given_halves = [half.astype(kind) for half in halves]  # type: ignore[arg-type]
        exact = [half.astype(np.float64) for half in given_halves]
    fitted = CRC().fit(*given_halves)
    scores = fitted.score(*given_halves)
    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, CRC().fit(*exact).score(*exact))


def test_the_input_is_left_as_it_was() -> None:
    pairs = clear()
    copies = pairs.x_pos.copy(), pairs.x_neg.copy()
    pairs.x_pos.flags.writeable = False
    CCS(restarts=2).fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos[::-1], pairs.x_neg[::-1])
    np.testing.assert_array_equal(copies, (pairs.x_pos, pairs.x_neg))


def test_the_same_seed_gives_the_same_probe() -> None:
    pairs = planted(50, 80, random_state=5)
    for probe in PROBES:
        first, second = (clone(probe).fit(pairs.x_pos, pairs.x_neg).direction_ for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_fewer_pairs_than_features_and_constant_features(probe: ContrastProbe) -> None:
    pairs = planted(30, 40, signal=4.0, random_state=6)
    pos, neg = (np.concatenate([half, np.full((30, 2), 7.0)], 1) for half in (pairs.x_pos, pairs.x_neg))
    fitted = clone(probe).fit(pos, neg)
    assert np.isfinite(fitted.score(pos, neg)).all()
    plain = clone(probe).fit(pairs.x_pos, pairs.x_neg)
    if not isinstance(probe, RandomProbe | EnsembleProbe | CCS):
        assert agree(fitted.score(pos, neg), plain.score(pairs.x_pos, pairs.x_neg)) > 0.99


def test_two_pairs_are_enough() -> None:
    for probe in PROBES:
        fitted = clone(probe).fit(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.5]]))
        assert np.isfinite(fitted.score(np.ones((1, 2)), np.zeros((1, 2)))).all()


def test_bad_input_is_refused_with_its_place() -> None:
    pos, neg = (np.random.default_rng(seed).standard_normal((6, 3, 4)) for seed in (0, 1))
    probe = CRC()
    with pytest.raises(ValueError, match=r"x_pos has shape \(6, 3, 4\) and x_neg \(5, 3, 4\)"):
        probe.fit(pos, neg[:5])
    with pytest.raises(ValueError, match="n=1"):
        probe.fit(pos[:1], neg[:1])
    with pytest.raises(ValueError, match="empty"):
        probe.fit(pos[:0], neg[:0])
    with pytest.raises(ValueError, match=r"it must be \(n, d\)"):
        probe.fit(pos[:, 0, 0], neg[:, 0, 0])
    for value, word in ((np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")):
        broken = neg.copy()
        broken[4, 2, 1] = value
        with pytest.raises(ValueError, match=f"x_neg: example 4 holds {word} in layer 2"):
            probe.fit(pos, broken)
    with np.errstate(over="ignore"):
        overflown = (pos * 1e5).astype(np.float16)
    with pytest.raises(ValueError, match="float16"):
        probe.fit(overflown, overflown)
    same = np.repeat(pos[:1], 6, 0)
    with pytest.raises(ValueError, match="layer 0: all pairs"):
        probe.fit(same, np.repeat(neg[:1], 6, 0))
    partly = pos.copy(), neg.copy()
    partly[0][:, 1], partly[1][:, 1] = 3.25, 1.5
    with pytest.raises(ValueError, match="layer 1: all pairs"):
        probe.fit(*partly)
    with pytest.raises(ValueError, match="not fitted"):
        CRC().score(pos, neg)
    with pytest.raises(ValueError, match=r"fitted on \(3, 4\)"):
        probe.fit(pos, neg).score(pos[:, :2], neg[:, :2])


def test_finite_values_whose_sum_is_not_are_no_error() -> None:
    large = np.full((4, 3), 1e308)
    pos, _, _ = as_pairs(large, -large)
    assert pos.shape == (4, 1, 1, 3)


def test_texts_that_differ_but_answers_that_do_not() -> None:
    """The states differ from text to text, the differences do not: there is nothing to find, whatever the rounding."""
    pos = np.random.default_rng(0).standard_normal((20, 5)) * 100
    for norm in (None, ClusterNorm()):
        with pytest.raises(ValueError, match="all pairs"):
            CRC(norm=norm).fit(pos.astype(np.float32), (pos.astype(np.float32) + 1.0))


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_prompt_variants_are_averaged(probe: ContrastProbe) -> None:
    variants = [clear(4), clear(4)]
    pos, neg = (np.stack([getattr(v, half) for v in variants], 1)[:, :, None] for half in ("x_pos", "x_neg"))
    # A template that only adds a constant to every state is normalised away, half by half.
    pos, neg = pos + np.array([0.0, 5.0])[:, None, None], neg + np.array([0.0, -3.0])[:, None, None]
    if isinstance(probe, PCAProbe):
        pytest.skip("the answer word stays in its states")
    many = clone(probe).fit(pos, neg)
    one = clone(probe).fit(variants[0].x_pos, variants[0].x_neg)
    scores = many.score(pos, neg)
    assert scores.shape == (60, 1)
    with pytest.raises(ValueError, match="1 prompt variants; the probe was fitted on 2"):
        many.score(pos[:, :1], neg[:, :1])
    if not isinstance(probe.norm, ErasureNorm):
        assert agree(scores[:, 0], one.score(variants[0].x_pos, variants[0].x_neg)) > 0.999


def test_the_score_is_the_mean_over_prompt_variants() -> None:
    variants = [clear(4), planted(60, 12, signal=1.0, answer_word=3.0, common=2.0, random_state=9)]
    pos, neg = (np.stack([getattr(v, half) for v in variants], 1)[:, :, None] for half in ("x_pos", "x_neg"))
    probe = CRC().fit(pos, neg)
    # Each template is normalised by its own means and the one scale: ½ wᵀ(φ(x⁺) − φ(x⁻)).
    centred = ((pos - pos.mean(0)) - (neg - neg.mean(0)))[:, :, 0] / float(probe.norm_.scale_)
    each = centred @ probe.direction_[0].numpy() / 2
    np.testing.assert_allclose(probe.score(pos, neg)[:, 0], each.mean(1) - float(probe.offset_), atol=1e-9)
    assert np.abs(each[:, 0] - each[:, 1]).max() > 0.1


def test_rounding_noise_is_no_direction() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 20, 8)) * 1e-7
    pos, neg = (1 + noise[0]).astype(np.float32), (2 + noise[1]).astype(np.float32)
    with pytest.raises(ValueError, match="all pairs differ in the same way"):
        CRC().fit(pos, neg)


def test_balanced_planted_truth_is_found_nearly_as_well_as_with_labels() -> None:
    """n = 500, d = 256, signal and noise equal: AUROC on 500 further texts."""
    probes: list[ContrastProbe] = [CCS(), CRC(), KMeansProbe(), EnsembleProbe("principal"), CRC(norm=ClusterNorm())]
    auroc: dict[str, list[float]] = {}
    for seed in range(5):
        pairs = planted(1000, 256, random_state=seed)
        lda = LDAProbe().fit_pairs(pairs.x_pos[:500], pairs.x_neg[:500], pairs.truth[:500])
        labelled = lda.score_pairs(pairs.x_pos[500:], pairs.x_neg[500:])
        auroc.setdefault("labels", []).append(roc_auc_score(pairs.truth[500:], labelled))
        for probe in probes:
            fitted = clone(probe).fit(pairs.x_pos[:500], pairs.x_neg[:500])
            # The sign comes from a weak reference, right for 60 % of texts.
            reference = np.where(np.random.default_rng(seed).random(500) < 0.6, 1, -1) * (2 * pairs.truth[:500] - 1)
            scores = fitted.orient(reference).score(pairs.x_pos[500:], pairs.x_neg[500:])
            auroc.setdefault(repr(probe), []).append(roc_auc_score(pairs.truth[500:], scores))
    means = {probe: float(np.mean(values)) for probe, values in auroc.items()}
    assert min(means.values()) > means["labels"] - 0.03, means
