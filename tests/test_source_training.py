"""`elicit train`: a monitor, its figures and a model card in one folder, which belongs to one training."""

import json
from dataclasses import replace

import numpy as np
import pytest

import elicit.source_training
from elicit.errors import DomainError, RunError
from elicit.monitors import load_monitor
from elicit.source_training import train_sources
from elicit.training import TrainingConfig
from tests.runs.conftest import model_folder, rows_about, write_domain  # noqa: F401  # a fixture

CONFIG = TrainingConfig(texts=48, epochs=2.0, batch_size=8, learning_rate=1e-2, rank=4)


@pytest.fixture
def source(tmp_path):
    return str(write_domain(tmp_path, "phones", rows_about("phone", 160)))


def test_training_leaves_a_monitor_figures_and_a_card(model_folder, source, tmp_path) -> None:  # noqa: F811
    out = tmp_path / "monitor"
    config = replace(CONFIG, schedule="mixed", wordings=1.0)
    report = train_sources(str(model_folder), [source], out, config, dtype="float32", device="cpu")
    assert json.loads((out / "training.json").read_text()) == json.loads(json.dumps(report))
    held_out = report["held_out"]["phones"]
    assert held_out["n"] == 40
    assert held_out["auroc"]["low"] <= held_out["auroc"]["value"] <= held_out["auroc"]["high"]
    losses = [row["eval_loss"] for row in report["history"][0] if "eval_loss" in row]
    assert len(losses) >= 5
    card = (out / "README.md").read_text()
    assert f"| phones | 40 | {held_out['auroc']['value']:.3f} [" in card
    assert "| phones | 96 |" in card  # each text is asked about twice
    assert "| instructions | 32 |" in card
    assert "| schedule | mixed |" in card
    assert np.isfinite(load_monitor(out, dtype="float32", device="cpu").score(["love it"]).values).all()
    with pytest.raises(RunError, match="holds a trained monitor already"):
        train_sources(str(model_folder), [source], out, config)


def test_a_folder_belongs_to_one_training(model_folder, source, tmp_path, monkeypatch) -> None:  # noqa: F811
    out = tmp_path / "monitor"
    with monkeypatch.context() as patch:
        patch.setattr(elicit.source_training, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_sources(str(model_folder), [source], out, CONFIG, dtype="float32", device="cpu")
    begun = out / "adapter" / "checkpoints" / "checkpoint-1"
    begun.mkdir(parents=True)
    with pytest.raises(RunError, match="another training, with another seed"):
        train_sources(str(model_folder), [source], out, CONFIG, seed=1)
    with pytest.raises(RunError, match="another training, with another config"):
        train_sources(str(model_folder), [source], out, replace(CONFIG, learning_rate=1e-4))
    # As after a training that diverged before there was anything to keep: a corrected command may have the folder.
    begun.rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(elicit.source_training, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_sources(str(model_folder), [source], out, replace(CONFIG, learning_rate=1e-4))
    # What is written last says that all is there.
    with monkeypatch.context() as patch:
        patch.setattr(elicit.source_training, "card", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_sources(str(model_folder), [source], out, CONFIG, dtype="float32", device="cpu")
    train_sources(str(model_folder), [source], out, CONFIG, dtype="float32", device="cpu")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and holds no training"):
        train_sources(str(model_folder), [source], tmp_path / "other", CONFIG)


def test_bad_sources_are_refused_before_a_model_is_loaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(elicit.source_training.LocalModel, "load", lambda *_: pytest.fail("no model yet"))
    one_class = write_domain(tmp_path, "flat", [row | {"label": 1} for row in rows_about("phone", 40)])
    with pytest.raises(DomainError, match="flat: every label is 1"):
        train_sources("model", [str(one_class)], tmp_path / "out", CONFIG)
    few = write_domain(tmp_path, "few", rows_about("phone", 14))
    with pytest.raises(DomainError, match=r"calibration splits of .*few\.toml hold too few of both"):
        train_sources("model", [str(few)], tmp_path / "out3", replace(CONFIG, patience=1))
    with pytest.raises(RunError, match="learning_rate is inf; it must be a finite number"):
        replace(CONFIG, learning_rate=float("inf"))
    six = write_domain(tmp_path, "six", rows_about("phone", 6))
    with pytest.raises(DomainError, match="six: 6 different texts"):
        train_sources("model", [str(six)], tmp_path / "out2", CONFIG)
