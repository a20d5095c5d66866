"""Training on the verdict token: the loss against the plain way, resuming, and what training must leave alone."""

import dataclasses
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

import elicit.training.trainer as trainer_module
import elicit.training.watch as watch_module
from elicit.domains import Question, Row, make_domain
from elicit.errors import DomainError, ModelError, RunError
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import TrainingConfig, is_trained, train, train_monitor
from elicit.training.instructions import own_instructions
from tests.training.conftest import CONFIG, domain


def test_training_on_few_shot_sequences_lowers_the_loss_in_them(base, tmp_path: Path) -> None:
    source = domain("film")
    losses = []
    for shots in (0.0, 1.0):
        config = dataclasses.replace(CONFIG, epochs=4.0, shots=shots)
        trained = train_monitor(base, [source], tmp_path / str(shots), config)
        encoded = trained.model.prompt(source.question).encode(source.texts)
        labels = np.array(source.labels, dtype=bool)
        packs = [list(zip(encoded[i : i + 8], labels[i : i + 8].tolist(), strict=True)) for i in range(0, 64, 8)]
        read = np.concatenate(trained.model.packed_log_odds(source.question, packs))
        losses.append(np.logaddexp(0, np.where(labels, -read, read)).mean())
    assert losses[1] < 0.75 * losses[0]


def test_training_learns_saves_a_peft_adapter_and_leaves_the_base_alone(base, make_model, tmp_path: Path) -> None:
    source = domain("film")
    before = base.score(source.unlabelled()).values
    trained = train_monitor(base, [source], tmp_path / "adapter", dataclasses.replace(CONFIG, epochs=6.0))
    after = trained.score(source.unlabelled()).values
    assert roc_auc_score(source.labels, after) > 0.95
    assert roc_auc_score(source.labels, after) > roc_auc_score(source.labels, before)
    np.testing.assert_array_equal(base.score(source.unlabelled()).values, before)
    assert not (tmp_path / "adapter" / "checkpoints").exists()

    prompt = base.model.prompt(source.question)
    ids = torch.tensor([[*prompt.head, *prompt.suffix(prompt.encode(source.texts[:1])[0])]])
    theirs = PeftModel.from_pretrained(make_model("llama"), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits[0, -1]
    assert float(logits[prompt.verdict.flagged] - logits[prompt.verdict.cleared]) == pytest.approx(after[0], abs=1e-3)


@pytest.mark.parametrize("settings", [{}, {"length_grouping": True}, {"first_layer": 1}])
def test_an_interrupted_training_ends_with_the_same_weights(
    settings, base, make_model, make_tokenizer, tmp_path, monkeypatch
) -> None:
    sources = [domain("film"), domain("book", question="Is the book good?")]
    config = dataclasses.replace(CONFIG, **settings)
    train_monitor(base, sources, tmp_path / "whole", config)
    original = watch_module.Watch.on_step_end

    def dies(self, arguments, state, control, **more):
        original(self, arguments, state, control, **more)
        if state.global_step == 16:
            raise KeyboardInterrupt

    other = VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))
    with monkeypatch.context() as patch:
        patch.setattr(watch_module.Watch, "on_step_end", dies)
        with pytest.raises(KeyboardInterrupt):
            train_monitor(other, sources, tmp_path / "again", config)
    assert list((tmp_path / "again" / "checkpoints").glob("checkpoint-*"))
    train_monitor(other, sources, tmp_path / "again", config)
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "again")]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name]), name


KILLED = """
import os, signal, sys
from pathlib import Path
import elicit.training.watch as watch_module
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import train_monitor
from tests.conftest import build_model, build_tokenizer
from tests.training.conftest import CONFIG, domain

whole = watch_module.Watch.on_step_end
def dies(self, arguments, state, control, **more):
    whole(self, arguments, state, control, **more)
    if state.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "die":
    watch_module.Watch.on_step_end = dies
base = VerdictMonitor(LocalModel.from_transformers(build_model("llama"), build_tokenizer()))
train_monitor(base, [domain("film")], Path(sys.argv[1]), CONFIG)
"""


def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    def run(name: str, how: str) -> int:
        command = [sys.executable, "-c", KILLED, str(tmp_path / name), how]
        return subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2]).returncode

    assert run("whole", "live") == 0
    assert run("again", "die") == -9
    held = sorted((tmp_path / "again" / "checkpoints").glob("checkpoint-*"))
    assert held
    assert not is_trained(tmp_path / "again")
    # As if it had been killed while the next checkpoint was written: that one is not whole, and is not continued from.
    shutil.copytree(held[-1], held[-1].with_name("checkpoint-99"))
    (held[-1].with_name("checkpoint-99") / "trainer_state.json").write_text('{"global_')
    assert run("again", "live") == 0
    assert is_trained(tmp_path / "again")
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]


def test_training_a_trained_monitor_continues_its_adapter(base, tmp_path: Path) -> None:
    first = train_monitor(base, [domain("film")], tmp_path / "first", CONFIG)
    barely = TrainingConfig(texts=8, epochs=1.0, batch_size=8, learning_rate=1e-9, rank=4)
    second = train_monitor(first, [domain("book")], tmp_path / "second", barely)
    texts = domain("film").unlabelled()
    np.testing.assert_allclose(second.score(texts).values, first.score(texts).values, atol=1e-3)


def test_accumulated_batches_have_the_losses_of_one_large_batch(base, tmp_path: Path) -> None:
    """Weights differ between batches, with instructions and unequal classes: each step is divided by its own sum."""
    uneven = domain("film").take([*range(0, 64, 2), 1, 3, 5, 7])
    losses = []
    for batch, accumulation in ((12, 1), (4, 3)):
        config = dataclasses.replace(CONFIG, batch_size=batch, accumulation=accumulation, schedule="mixed", epochs=1.0)
        history = train(base, [uneven], tmp_path / str(batch), config).history[0]
        losses.append([row["loss"] for row in history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("schedule", ["mixed", "classification-then-instruction", "instruction-then-classification"])
def test_schedules_learn_verdicts_and_responses(base, tmp_path: Path, schedule, monkeypatch) -> None:
    source = domain("film")
    pairs = [(pair.prompt, pair.response) for pair in own_instructions(12)]
    config = dataclasses.replace(CONFIG, epochs=4.0, schedule=schedule)
    found = train(base, [source], tmp_path / "adapter", config)
    assert found.examples == {"film": 48, "instructions": 16}
    assert len(found.history) == (1 if schedule == "mixed" else 2)
    assert not (tmp_path / "adapter" / "stages").exists()
    before, after = (
        np.mean([values.mean() for values in monitor.model.response_log_likelihoods(pairs)])
        for monitor in (base, found.monitor)
    )
    assert after > before + 0.2
    assert roc_auc_score(source.labels, found.monitor.score(source.unlabelled()).values) > 0.9
    monkeypatch.setattr(trainer_module.VerdictTrainer, "train", None)  # whatever stages it had, it is not trained again
    again = train(base, [source], tmp_path / "adapter", config)
    assert again.history == found.history
    assert again.monitor.model.fingerprint() == found.monitor.model.fingerprint()


def test_a_training_of_one_step_learns(base, tmp_path: Path) -> None:
    found = train(base, [domain("film")], tmp_path / "adapter", dataclasses.replace(CONFIG, epochs=1.0, batch_size=64))
    held = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(found.history[0]) <= 2
    assert all(bool(weight.any()) for name, weight in held.items() if "lora_B" in name)


def test_sources_that_answer_one_question_about_one_text_in_two_ways_are_refused(base, tmp_path: Path) -> None:
    one = domain("film")
    other = make_domain("film2", one.question, [Row("x9", "FILM 3 was a dull mess indeed indeed indeed", 1), *(
        Row(str(i), f"another {i}", i % 2) for i in range(10))])  # fmt: skip
    with pytest.raises(DomainError, match=r"film \(id '3', label 0\) and film2 \(id 'x9', label 1\)"):
        train(base, [one, other], tmp_path / "adapter", CONFIG)


def test_a_loss_that_diverges_stops_and_keeps_the_last_good_checkpoint(base, tmp_path: Path, monkeypatch) -> None:
    original = trainer_module.VerdictTrainer.compute_loss

    def explodes(self, *arguments, **named):
        loss = original(self, *arguments, **named)
        return loss * float("nan") if self.state.global_step >= 9 else loss

    monkeypatch.setattr(trainer_module.VerdictTrainer, "compute_loss", explodes)
    found = train(base, [domain("film")], tmp_path / "adapter", CONFIG)
    assert "training diverged and was stopped" in found.notes[0]
    assert "kept is what it was at step 8" in found.notes[0]
    assert np.isfinite(found.monitor.score(domain("film").unlabelled()).values).all()

    monkeypatch.setattr(trainer_module.VerdictTrainer, "compute_loss", lambda *a, **n: original(*a, **n) * float("nan"))
    with pytest.raises(ModelError, match=r"diverged before its first checkpoint: .*; lower the learning rate"):
        train(base, [domain("film")], tmp_path / "never", CONFIG)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (
            0.1,
            r"AUROC on validation texts of film fell from (0\.[7-9]\d|1\.00) to 0\.[0-6]\d at step 18; kept .* at step 9",
        ),
        (30, "the gradient vanished at a loss of .*little better than chance"),
    ],
)
def test_a_rate_far_too_high_is_seen_though_the_loss_stays_below_its_limit(base, tmp_path: Path, rate, said) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=rate, epochs=8)
    found = train(base, [domain("film")], tmp_path / "adapter", config, validation=[domain("film")])
    assert re.search(said, " ".join(found.notes))
    assert f"kept is what it was at step {found.kept}" in found.notes[0]


def test_a_training_that_ends_at_chance_says_so(base, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e-7)
    (note,) = train(base, [domain("film")], tmp_path / "adapter", config, validation=[domain("film")]).notes
    assert "on the sources' own validation texts is little better than chance" in note


def test_a_checkpoint_that_cannot_be_written_is_said_and_the_training_continues_later(
    base, tmp_path: Path, monkeypatch
) -> None:
    train_monitor(base, [domain("film")], tmp_path / "whole", CONFIG)
    original = trainer_module.VerdictTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == 4:
            raise OSError(28, "No space left on device")
        return original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.VerdictTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(RunError, match=r"cannot write to .*No space left.*make room"):
            train_monitor(base, [domain("film")], tmp_path / "again", CONFIG)
    train_monitor(base, [domain("film")], tmp_path / "again", CONFIG)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]


def test_validation_sees_label_noise_and_patience_keeps_the_best(base, tmp_path: Path) -> None:
    source = domain("film", 96)
    train_part, validation = source.take(range(64)), source.take(range(64, 96))
    noise = np.random.default_rng(0).random(64) < 0.4
    noisy = dataclasses.replace(
        train_part, labels=tuple(label ^ int(turn) for label, turn in zip(train_part.labels, noise, strict=True))
    )
    config = dataclasses.replace(CONFIG, texts=64, epochs=6.0)
    last = []
    for part in (train_part, noisy):
        found = train(base, [part], tmp_path / str(len(last)), config, validation=[validation])
        last.append([row for row in found.history[0] if "eval_loss" in row][-1])
    assert last[0]["eval_auroc"] > 0.95
    assert last[0]["eval_loss"] < 0.35 < last[1]["eval_loss"]

    # A validation whose labels are the opposite: it only gets worse, and the first of its checkpoints stays.
    opposite = dataclasses.replace(validation, labels=tuple(1 - label for label in validation.labels))
    found = train(base, [train_part], tmp_path / "p", dataclasses.replace(config, patience=1), validation=[opposite])
    aurocs = [row["eval_auroc"] for row in found.history[0] if "eval_auroc" in row]
    assert len(aurocs) < 5
    assert "stopped early" in found.notes[0]
    kept = roc_auc_score(opposite.labels, found.monitor.score(opposite.unlabelled()).values)
    assert kept == pytest.approx(max(aurocs), abs=0.02)
    with pytest.raises(DomainError, match="stopping early needs validation texts"):
        train(base, [train_part], tmp_path / "q", dataclasses.replace(config, patience=1))


def test_a_training_killed_at_an_early_stop_keeps_what_one_that_was_not_keeps(
    base, tmp_path: Path, monkeypatch
) -> None:
    """Between its last checkpoint and its end: going on from there would train to other weights."""
    aurocs = {2: 0.9, 4: 0.8, 6: 0.95, 8: 0.96, 10: 0.97, 12: 0.98}
    evaluate, finish = trainer_module.VerdictTrainer.evaluate, trainer_module.VerdictTrainer._finalize_training

    def scripted(self, *arguments, **named):
        monkeypatch.setattr(trainer_module, "aurocs", lambda *_: {0: aurocs[self.state.global_step]})
        return evaluate(self, *arguments, **named)

    def killed(*_, **__) -> None:
        raise KeyboardInterrupt

    def trained(name: str):
        config = dataclasses.replace(CONFIG, patience=1)
        return train(
            base, [domain("film")], tmp_path / name, config, validation=[domain("film", 96).take(range(64, 96))]
        )

    monkeypatch.setattr(trainer_module.VerdictTrainer, "evaluate", scripted)
    whole = trained("whole")
    monkeypatch.setattr(trainer_module.VerdictTrainer, "_finalize_training", killed)
    with pytest.raises(KeyboardInterrupt):
        trained("killed")
    monkeypatch.setattr(trainer_module.VerdictTrainer, "_finalize_training", finish)
    again = trained("killed")
    assert (whole.kept, again.kept) == (2, 2)
    assert again.notes == whole.notes == ("stopped early, after 4 of 12 steps",)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]


def test_all_weights_can_be_trained_into_a_model_of_their_own(make_model, make_tokenizer, tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    base = VerdictMonitor(LocalModel.load(str(tmp_path / "base"), "float32", "cpu"))
    source = domain("film")
    before = base.score(source.unlabelled()).values
    found = train(base, [source], tmp_path / "full", dataclasses.replace(CONFIG, full=True, epochs=4.0))
    assert found.monitor.model.adapter is None
    assert roc_auc_score(source.labels, found.monitor.score(source.unlabelled()).values) > 0.95
    np.testing.assert_array_equal(base.score(source.unlabelled()).values, before)
    adapted = train_monitor(base, [source], tmp_path / "adapter", CONFIG)
    with pytest.raises(ModelError, match="starts from a model, not from an adapter"):
        train(adapted, [source], tmp_path / "other", dataclasses.replace(CONFIG, full=True))


def test_all_weights_of_the_upper_layers_can_be_trained_in_two_stages(
    make_model, make_tokenizer, tmp_path: Path
) -> None:
    make_model("llama").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    base = VerdictMonitor(LocalModel.load(str(tmp_path / "base"), "float32", "cpu"))
    config = dataclasses.replace(CONFIG, full=True, first_layer=1, schedule="classification-then-instruction")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = train(base, [domain("film")], tmp_path / "full", config)
    assert not [warning for warning in told if "trained without" in str(warning.message)]
    before, after = (dict(model.transformers_model.named_parameters()) for model in (base.model, found.monitor.model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split("layers.")[1].split(".")[0] for name in changed} == {"1", "2"}


def test_a_loss_that_diverges_between_two_logs_is_seen_before_it_is_kept(base, tmp_path: Path, monkeypatch) -> None:
    original = trainer_module.VerdictTrainer.compute_loss

    def explodes(self, *arguments, **named):
        loss = original(self, *arguments, **named)
        return loss * float("nan") if self.state.global_step >= 11 else loss  # the last of 12 steps

    monkeypatch.setattr(trainer_module.VerdictTrainer, "compute_loss", explodes)
    other = train_monitor(
        base, [domain("book")], tmp_path / "other", CONFIG
    )  # a second adapter beside the one that learns
    assert other.model.adapter
    found = train(base, [domain("film")], tmp_path / "adapter", CONFIG)
    assert "training diverged and was stopped" in found.notes[0]
    assert np.isfinite(found.monitor.score(domain("film").unlabelled()).values).all()
    again = train(base, [domain("film")], tmp_path / "adapter", CONFIG)
    assert again.notes == found.notes
    assert again.history == found.history


def test_a_training_that_starts_from_a_trained_monitor_goes_on_where_it_was_killed(
    base, tmp_path: Path, monkeypatch
) -> None:
    """Beside another adapter, the one that learns is what a checkpoint holds and gives back."""
    first = train_monitor(base, [domain("film")], tmp_path / "first", CONFIG)
    whole = train_monitor(first, [domain("book")], tmp_path / "whole", CONFIG)
    original = trainer_module.VerdictTrainer.compute_loss

    def dies(self, *arguments, **named):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.VerdictTrainer, "compute_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            train_monitor(first, [domain("book")], tmp_path / "again", CONFIG)
    (checkpoint,) = (tmp_path / "again" / "checkpoints").glob("checkpoint-*")
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not [path for path in checkpoint.iterdir() if path.is_dir()]
    assert not list(checkpoint.glob("*.bin"))
    again = train_monitor(first, [domain("book")], tmp_path / "again", CONFIG)
    assert again.model.fingerprint() == whole.model.fingerprint()


def test_gradient_checkpointing_and_length_grouping_learn_too(base, tmp_path: Path) -> None:
    source = domain("film")
    config = dataclasses.replace(CONFIG, gradient_checkpointing=True, length_grouping=True, epochs=6.0)
    trained = train_monitor(base, [source], tmp_path / "adapter", config)
    assert roc_auc_score(source.labels, trained.score(source.unlabelled()).values) > 0.9
    layers = base.model.transformers_model.modules()  # another training may not have asked for it
    assert {layer.gradient_checkpointing for layer in layers if hasattr(layer, "gradient_checkpointing")} == {False}


def test_an_architecture_that_peft_cannot_adapt_is_a_clear_error(make_model, make_tokenizer, tmp_path: Path) -> None:
    base = VerdictMonitor(LocalModel.from_transformers(make_model("mamba"), make_tokenizer()))
    with pytest.raises(ModelError, match="MambaForCausalLM cannot carry a LoRA adapter"):
        train_monitor(base, [domain("film")], tmp_path / "adapter", CONFIG)


def test_a_source_that_cannot_be_trained_on_is_named(base, tmp_path: Path) -> None:
    one_class = domain("film").take(range(0, 64, 2))
    with pytest.raises(DomainError, match="film: every label is 1"):
        train_monitor(base, [one_class], tmp_path / "adapter", CONFIG)
    empty = make_domain("blank", Question("Is it good?"), (Row(str(i), " ", i % 2) for i in range(10)))
    with pytest.raises(DomainError, match="blank: no text can be read"):
        train_monitor(base, [empty], tmp_path / "adapter", CONFIG)
