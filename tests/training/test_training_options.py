"""What a training can be asked for: weights of sources, layers that learn, trackers, and figures that can be compared."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from elicit.errors import DomainError, ModelError, RunError
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import train, train_monitor
from elicit.training.examples import Heads, mixture, verdict_examples
from elicit.training.trackers import check_tracker, logs_in
from elicit.training.trainer import mean_auroc
from tests.training.test_verdict_training import CONFIG, domain


@pytest.fixture
def base(make_model, make_tokenizer) -> VerdictMonitor:
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


def test_texts_of_a_source_count_as_much_as_its_weight_says(base, tmp_path: Path) -> None:
    chosen = mixture([domain("film")], 8, 1.0)[0]
    plain, weighed = (verdict_examples(base.model, chosen, Heads(), 512, weight=weight) for weight in (1.0, 2.5))
    assert [example["weights"] for example in weighed] == [
        [2.5 * one] for example in plain for one in example["weights"]
    ]
    config = dataclasses.replace(CONFIG, source_weights={"films": 2.0})
    with pytest.raises(DomainError, match=r"a weight of 2.0 for 'films': name one of film, book"):
        train_monitor(base, [domain("film"), domain("book", question="Is the book good?")], tmp_path / "a", config)


def test_weights_by_id_are_refused_where_two_sources_could_share_ids(base, tmp_path: Path) -> None:
    sources = [domain("film"), domain("book", question="Is the book good?")]
    with pytest.raises(DomainError, match="give several domains source_weights"):
        train_monitor(base, sources, tmp_path / "a", CONFIG, weights={"3": 0.0})


def test_only_the_named_layers_learn(base, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, target_modules=("q_proj", "v_proj"), epochs=0.5)
    train_monitor(base, [domain("film")], tmp_path / "a", config)
    names = {name.split(".")[-3] for name in load_file(tmp_path / "a" / "adapter_model.safetensors")}
    assert names == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match=r"has no linear layer 'query'; it has .*q_proj"):
        train_monitor(base, [domain("film")], tmp_path / "b", dataclasses.replace(CONFIG, target_modules=("query",)))


def test_the_first_loss_that_is_kept_is_that_of_the_untrained_model(base, tmp_path: Path) -> None:
    found = train(base, [domain("film")], tmp_path / "a", CONFIG)
    assert found.history[0][0]["step"] == 1


def test_an_unknown_tracker_is_refused_with_those_that_there_are(base, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no tracker 'tensorbord'; it has .*tensorboard.*wandb"):
        train(base, [domain("film")], tmp_path / "a", CONFIG, report_to="tensorbord")
    assert not (tmp_path / "a").exists()
    with pytest.raises(RunError, match="the tracker neptune is not installed"):
        check_tracker("neptune")


def test_logs_outlive_the_checkpoints_beside_which_they_would_be_written(tmp_path: Path, monkeypatch) -> None:
    name = "TENSORBOARD_LOGGING_DIR"
    monkeypatch.delenv(name, raising=False)
    with logs_in(tmp_path / "logs"):
        assert os.environ[name] == str(tmp_path / "logs")
    assert name not in os.environ
    monkeypatch.setenv(name, "mine")
    with logs_in(tmp_path / "logs"):
        assert os.environ[name] == "mine"


def test_log_odds_of_two_questions_are_not_ranked_among_each_other() -> None:
    labels = [True, False, True, False, True]
    odds = [5.0, 1.0, -4.0, -10.0, 9.0]  # each question is answered without a fault, one of them lower throughout
    assert mean_auroc(labels, odds, [0, 0, 1, 1, 2]) == 1.0
    assert mean_auroc([True, False], [1.0, 2.0], [0, 1]) != mean_auroc([True, False], [1.0, 2.0], [0, 0]) == 0.0
