"""The sweep: a row for every rate and rank, whatever became of the training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elicit.errors import DivergedError
from experiments import benchmark_training
from experiments.benchmark_training import last_validation, sweep


def test_the_figures_are_those_of_the_weights_that_were_kept() -> None:
    history = [
        {"step": 1.0, "loss": 0.7},
        {"step": 10.0, "eval_loss": 0.4, "eval_auroc": 0.9},
        {"step": 12.0, "loss": 0.3},
        {"step": 20.0, "eval_loss": 3.0, "eval_auroc": 0.5},
    ]
    assert last_validation(history, 10) == last_validation(history, 19) == {"auroc": 0.9, "loss": 0.4}
    assert last_validation(history, 20) == {"auroc": 0.5, "loss": 3.0}
    assert last_validation(history, 9) == {"auroc": None, "loss": None}


def test_a_training_that_diverges_is_a_row_without_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*arguments: Any, **_: Any) -> Any:
        if arguments[3].learning_rate > 1e-3:
            raise DivergedError("the gradient is not finite at step 1")
        return SimpleNamespace(history=[[{"step": 5.0, "eval_loss": 0.4}]], kept=5, notes=())

    monkeypatch.setattr(benchmark_training, "train", train)
    monkeypatch.setattr(benchmark_training, "LocalModel", SimpleNamespace(load=lambda _: None))
    monkeypatch.setattr(benchmark_training, "SWEEP_SIZES", ((8, 1.0),))
    said: list[str] = []
    rows = sweep("m", tmp_path, said.append)
    assert [row["loss"] for row in rows] == [0.4, 0.4, None, None, 0.4, 0.4]
    assert rows[2]["notes"] == ["the gradient is not finite at step 1"]
    assert "validation auroc –, loss 0.400" in said[0]
