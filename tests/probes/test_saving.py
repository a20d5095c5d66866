"""What is saved scores as it did, to the last bit, and what is broken is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import probes
from probes import CCS, CRC, VINC, ClassNorm, ClusterNorm, ContrastProbe, ErasureNorm, SupervisedProbe, load_probe
from probes.testing import planted

CONTRAST = [kind for kind in vars(probes).values() if isinstance(kind, type) and issubclass(kind, ContrastProbe)]
SUPERVISED = [kind for kind in vars(probes).values() if isinstance(kind, type) and issubclass(kind, SupervisedProbe)]
WHOLE = [*(kind() for kind in CONTRAST if kind is not ContrastProbe), CCS(restarts=2, norm=ClusterNorm(clusters=3))]
WHOLE += [VINC(variance=0.5, norm=ErasureNorm()), CRC(norm=ClassNorm(scale=False))]


@pytest.mark.parametrize("probe", WHOLE, ids=repr)
@pytest.mark.parametrize("layers", [1, 2])
def test_contrast_probes_come_back_exactly(probe: ContrastProbe, layers: int, tmp_path: Path) -> None:
    pairs = [planted(30, 6, random_state=seed) for seed in range(layers)]
    pos, neg = (np.stack([getattr(part, half) for part in pairs], 1) for half in ("x_pos", "x_neg"))
    probe.fit(pos, neg).orient(np.arange(30.0))
    probe.save(tmp_path / "a" / "probe")
    held = load_probe(tmp_path / "a" / "probe")
    assert type(held) is type(probe)
    assert repr(held) == repr(probe)
    np.testing.assert_array_equal(held.score(pos, neg), probe.score(pos, neg))
    for name in probe.state_names:
        assert torch.equal(getattr(held, name), getattr(probe, name))
    assert held.best_layer_ == probe.best_layer_
    assert held.sign_confidence_ == probe.sign_confidence_
    # A loaded probe can be cut down and saved again, and the same probe gives the same bytes.
    held.best().save(tmp_path / "b")
    probe.best().save(tmp_path / "c")
    for file in ("probe.json", "probe.safetensors"):
        assert (tmp_path / "b" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["probe.json", "probe.safetensors"]


@pytest.mark.parametrize("kind", [kind for kind in SUPERVISED if kind is not SupervisedProbe])
def test_supervised_probes_come_back_exactly(kind: type[SupervisedProbe], tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3, 5))
    labels = np.where(x[:, 1, 0] > 0, "flagged", "cleared")
    probe = kind().fit(x, labels)
    probe.save(tmp_path)
    held = load_probe(str(tmp_path))
    np.testing.assert_array_equal(held.score(x), probe.score(x))
    np.testing.assert_array_equal(held.predict(x), probe.predict(x))
    assert held.best_layer_ == probe.best_layer_


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no probe"):
        load_probe(tmp_path)
    pairs = planted(10, 4)
    CRC().fit(pairs.x_pos, pairs.x_neg).save(tmp_path)
    held = json.loads((tmp_path / "probe.json").read_text())
    for change, word in (
        ({"kind": "os"}, "unknown"),
        ({"schema": 99}, "schema 99"),
        ({"parameters": {"x": 1}}, "no probe"),
    ):
        (tmp_path / "probe.json").write_text(json.dumps(held | change))
        with pytest.raises(ValueError, match=word):
            load_probe(tmp_path)
    (tmp_path / "probe.json").write_text(json.dumps(held))
    (tmp_path / "probe.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="holds no probe"):
        load_probe(tmp_path)


def test_unfitted_probes_are_not_saved(tmp_path: Path) -> None:
    for probe in (CRC(), probes.LDAProbe()):
        with pytest.raises(ValueError, match="not fitted"):
            probe.save(tmp_path)


def test_every_public_name_is_there_and_nothing_of_elicit_is_imported() -> None:
    for name in probes.__all__:
        assert hasattr(probes, name)
    for file in Path(probes.__file__).parent.glob("*.py"):
        assert "elicit" not in [
            line.split()[1].split(".")[0]
            for line in file.read_text().splitlines()
            if line.startswith(("import ", "from "))
        ]
