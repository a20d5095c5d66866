"""What each normalisation takes out, and that it is taken out of new texts with what was stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes import CRC, ClassNorm, ClusterNorm, ErasureNorm, Normalisation, SharedNorm
from probes.testing import found, planted, random_word

NORMS: list[Normalisation] = [ClassNorm(), ClassNorm(scale=False), SharedNorm(), ClusterNorm(), ErasureNorm()]


def test_class_norm_by_hand() -> None:
    # Means (1, 2) and (0, 4); what is left is ±1, ±1 and ±2, 0: mean square (1+1+4+0)/4 = 1.5.
    pos, neg = np.array([[0.0, 1], [2, 3]]), np.array([[-2.0, 4], [2, 4]])
    norm = ClassNorm().fit(pos, neg)
    assert float(norm.scale_[0]) == pytest.approx(np.sqrt(1.5))
    left = norm.transform(pos, neg)
    np.testing.assert_allclose(left[0] * np.sqrt(1.5), [[-1, -1], [1, 1]])
    np.testing.assert_allclose(left[1] * np.sqrt(1.5), [[-2, 0], [2, 0]])
    # A new text is judged by the stored statistics, alone as in company.
    np.testing.assert_allclose(norm.transform(pos[:1] + 1, neg[:1])[0] * np.sqrt(1.5), [[0, 0]], atol=1e-12)


def test_shared_norm_leaves_the_answer_word_in() -> None:
    pairs = planted(100, 5, answer_word=2.0)
    pos, neg = SharedNorm().fit(pairs.x_pos, pairs.x_neg).transform(pairs.x_pos, pairs.x_neg)
    np.testing.assert_allclose(pos.mean(0) + neg.mean(0), 0, atol=1e-9)
    assert np.abs(pos.mean(0)).max() > 0.5


@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_shapes_batches_and_layers(norm: Normalisation) -> None:
    random = np.random.default_rng(0)
    pos, neg = random.standard_normal((2, 40, 3, 2, 6))
    whole = norm.fit(pos, neg).transform(pos, neg)
    assert whole[0].shape == whole[1].shape == pos.shape
    for i in (0, 7):
        alone = norm.transform(pos[i : i + 1], neg[i : i + 1])
        assert np.array_equal(alone[0][0], whole[0][i])
        assert np.array_equal(alone[1][0], whole[1][i])
    second = norm.fit(pos[:, :, 1:], neg[:, :, 1:]).transform(pos[:, :, 1:], neg[:, :, 1:])
    np.testing.assert_allclose(second[0], whole[0][:, :, 1:], atol=1e-9)


def test_templates_have_means_of_their_own() -> None:
    pos, neg = np.random.default_rng(0).standard_normal((2, 30, 2, 1, 4))
    shift = np.array([10.0, -5.0])[:, None, None]
    plain = ClassNorm().fit(pos, neg).transform(pos, neg)
    moved = ClassNorm().fit(pos + shift, neg).transform(pos + shift, neg)
    np.testing.assert_allclose(moved[0], plain[0], atol=1e-9)


def test_cluster_norm_takes_each_clusters_class_means_out() -> None:
    random = np.random.default_rng(0)
    group = np.arange(60) % 2
    place = np.array([[20.0, 0, 0], [-20, 0, 0]])[group]
    answer = np.array([[0.0, 3, 0], [0, -1, 2]])[group]
    pos = place + answer + random.standard_normal((60, 3))
    neg = place - answer + random.standard_normal((60, 3))
    norm = ClusterNorm(clusters=2).fit(pos, neg)
    left = norm.transform(pos, neg)
    for k in (0, 1):
        np.testing.assert_allclose(left[0][group == k].mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(left[1][group == k].mean(0), 0, atol=1e-9)
    # A new text of the first cluster, exactly at its positive mean, has nothing left.
    at_mean = pos[group == 0].mean(0, keepdims=True), neg[group == 0].mean(0, keepdims=True)
    np.testing.assert_allclose(norm.transform(*at_mean)[0], 0, atol=1e-9)


def test_cluster_norm_does_not_trust_small_clusters() -> None:
    random = np.random.default_rng(0)
    pos, neg = random.standard_normal((2, 50, 3))
    pos[0] += 100
    neg[0] += 100
    norm = ClusterNorm(clusters=2, smallest=5).fit(pos, neg)
    plain = ClassNorm(scale=False).fit(pos, neg)
    means = [norm.mean_pos_[0, k, 0].numpy() for k in (0, 1)]
    assert any(np.allclose(mean, plain.mean_pos_[0, 0].numpy()) for mean in means)
    assert not all(np.allclose(mean, plain.mean_pos_[0, 0].numpy()) for mean in means)


def test_cluster_norm_undoes_a_random_word() -> None:
    pairs = random_word(400, 64, signal=1.5, random_state=1)
    plain = found(CRC().fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg), pairs)
    clustered = CRC(norm=ClusterNorm()).fit(pairs.x_pos, pairs.x_neg)
    undone = found(clustered.score(pairs.x_pos, pairs.x_neg), pairs)
    assert plain["distractor"] > 0.95 > 0.6 > plain["truth"]
    assert undone["truth"] > 0.9 > 0.6 > undone["distractor"]


def test_more_clusters_than_pairs() -> None:
    pos, neg = np.random.default_rng(0).standard_normal((2, 3, 4))
    left = ClusterNorm(clusters=5).fit(pos, neg).transform(pos, neg)
    assert np.isfinite(left[0]).all()


def test_erasure_norm_leaves_no_mean_difference_and_does_not_see_the_half() -> None:
    pairs = planted(60, 8, answer_word=2.0)
    norm = ErasureNorm().fit(pairs.x_pos, pairs.x_neg)
    pos, neg = norm.transform(pairs.x_pos, pairs.x_neg)
    np.testing.assert_allclose(pos.mean(0) - neg.mean(0), 0, atol=1e-9)
    # Other than for ClassNorm, a state is mapped the same whichever half it stands in.
    swapped = norm.transform(pairs.x_neg, pairs.x_pos)
    np.testing.assert_array_equal(swapped[1], pos)


@pytest.mark.parametrize("variants", [1, 3])
def test_products_that_erasure_has_on_the_way_are_those_of_its_rows(variants: int) -> None:
    random = np.random.default_rng(variants)
    pos, neg = torch.from_numpy(
        random.standard_normal((2, 6, variants, 50)) + 3 * random.standard_normal((2, 1, 1, 50))
    )
    norm = ErasureNorm()
    norm.set_state([norm.fit_layer(pos, neg)])
    products = norm.take_products()
    rows = torch.cat([half[:, :, 0].flatten(0, 1) for half in norm.apply(pos[:, :, None], neg[:, :, None])])
    assert products is not None
    np.testing.assert_allclose(products, rows @ rows.T, atol=1e-4 * float((rows @ rows.T).max()))
    assert norm.take_products() is None  # given away
    norm.fit_layer(pos[..., :4], neg[..., :4])  # more rows than features
    assert norm.take_products() is None
    assert ClassNorm().take_products() is None


@pytest.mark.parametrize(("distance", "given"), [(1.0, True), (300.0, False)])
def test_products_are_not_given_where_nearly_all_is_erased(distance: float, given: bool) -> None:
    """They would be differences of float32 numbers ten thousand times as large."""
    random = np.random.default_rng(0)
    pos, neg = torch.from_numpy(random.standard_normal((2, 40, 1, 200)))
    word = torch.from_numpy(random.standard_normal(200))
    norm = ErasureNorm()
    norm.fit_layer(pos + distance * word, neg - distance * word)
    assert (norm.take_products() is not None) == given


def test_one_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="n=1"):
        ClassNorm().fit(np.ones((1, 3)), np.ones((1, 3)))
