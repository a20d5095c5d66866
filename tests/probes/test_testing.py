"""The data makers plant what they say, and the distractors do to probes what Farquhar et al. report."""

from __future__ import annotations

import numpy as np
import pytest

from probes import CCS, CRC, ClusterNorm, EnsembleProbe
from probes.testing import found, negation, opinion, planted, random_word


def test_planted_signal_noise_and_balance() -> None:
    pairs = planted(4000, 8, signal=2.0, balance=0.25, common=3.0, random_state=0)
    assert pairs.truth.mean() == 0.25
    along = (pairs.x_pos - pairs.x_neg) @ pairs.direction
    # The difference carries twice the signal, ±2, and the noise of both states.
    assert along[pairs.truth == 1].mean() - along[pairs.truth == 0].mean() == pytest.approx(8, abs=0.15)
    assert along[pairs.truth == 1].std() == pytest.approx(np.sqrt(2), abs=0.1)
    across = (pairs.x_pos + pairs.x_neg) / 2
    assert across.std(0).mean() == pytest.approx(np.sqrt(9 + 0.5), abs=0.1)
    assert abs(pairs.direction @ pairs.distraction) < 1e-12


def test_seeds() -> None:
    assert np.array_equal(planted(random_state=1).x_pos, planted(random_state=1).x_pos)
    assert not np.array_equal(planted(random_state=1).x_pos, planted(random_state=2).x_pos)


@pytest.mark.parametrize("maker", [random_word, opinion, negation])
def test_probes_find_the_distractor(maker: object) -> None:
    pairs = maker(300, 64, random_state=0)  # type: ignore[operator]
    assert abs(np.corrcoef(pairs.truth, pairs.distractor)[0, 1]) < 0.2
    for probe in (CCS(restarts=3), CRC()):
        figures = found(probe.fit(pairs.x_pos, pairs.x_neg).score(pairs.x_pos, pairs.x_neg), pairs)
        assert figures["distractor"] > 0.95
        assert figures["truth"] < 0.65


def test_cluster_norm_helps_against_an_opinion_but_not_against_negation() -> None:
    probe = CRC(norm=ClusterNorm())
    stated, negated = opinion(400, 64, signal=1.5, random_state=0), negation(400, 64, signal=1.5, random_state=0)
    assert found(probe.fit(stated.x_pos, stated.x_neg).score(stated.x_pos, stated.x_neg), stated)["truth"] > 0.9
    # Within a cluster of negated texts the bare statement and the truth are one feature with two signs.
    assert found(probe.fit(negated.x_pos, negated.x_neg).score(negated.x_pos, negated.x_neg), negated)["truth"] < 0.65


def test_opinion_agreement() -> None:
    pairs = opinion(1000, 8, agreement=0.9, random_state=0)
    assert (pairs.truth == pairs.distractor).mean() == pytest.approx(0.9)


def test_found_is_blind_to_the_sign() -> None:
    pairs = planted(100, 4, random_state=0)
    scores = 2.0 * pairs.truth - 1
    assert found(scores, pairs)["truth"] == found(-scores, pairs)["truth"] == 1


def test_consensus_weights_follow_the_members_accuracy() -> None:
    pairs = planted(600, 20, signal=2.0, common=0.5, random_state=0)
    probe = EnsembleProbe("principal", size=12).fit(pairs.x_pos, pairs.x_neg)
    assert probe.weights_.shape == (1, 12)
    assert found(probe.score(pairs.x_pos, pairs.x_neg), pairs)["truth"] > 0.95
    noise = planted(600, 20, signal=0.0, random_state=0)
    assert float(EnsembleProbe("principal", 12).fit(noise.x_pos, noise.x_neg).consensus_) < float(probe.consensus_)
    with pytest.raises(ValueError, match="members is 'many'"):
        EnsembleProbe("many").fit(noise.x_pos, noise.x_neg)
