"""Training on the verdict token: the loss against the plain way, resuming, and what training must leave alone."""

import dataclasses
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional

import elicit.training.trainer as trainer_module
from elicit.domains import Domain, Question, Row, make_domain
from elicit.errors import DomainError, ModelError
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import TrainingConfig, train_monitor
from elicit.training.examples import collate, examples_of
from elicit.training.trainer import packed_logits, packs, padded_logits

CONFIG = TrainingConfig(texts=48, epochs=2.0, batch_size=8, learning_rate=1e-2, rank=4)


def domain(name: str, count: int = 64, question: str = "Is it good?") -> Domain:
    words = ("great fun", "dull mess")
    rows = (Row(str(i), f"{name} {i} was a {words[i % 2]}" + " indeed" * (i % 4), 1 - i % 2) for i in range(count))
    return make_domain(name, Question(question), rows)


@pytest.fixture
def base(make_model, make_tokenizer) -> VerdictMonitor:
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


def test_both_ways_to_the_verdicts_logits_equal_the_plain_forward_pass(base) -> None:
    source = domain("film")
    examples = examples_of(base.model, source, 0, 8, 512, shots=1.0)
    assert [len(example["reads"]) for example in examples] == [1] * 8 + [8]
    batch, head = collate(examples), base.model.prompt(source.question).head
    there = batch["reads"] >= 0
    with base.model.trainable_adapter(4, seed=0) as peft_model:
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        gradients = []
        for way in (packed_logits, padded_logits):
            logits = way(peft_model, head, batch["suffixes"], batch["lengths"], batch["reads"])
            plain = [
                peft_model(input_ids=torch.tensor([[*head, *example["suffix"]]])).logits[0, len(head) + read]
                for example in examples
                for read in example["reads"]
            ]
            torch.testing.assert_close(logits, torch.stack(plain), atol=1e-4, rtol=1e-4)
            peft_model.zero_grad()
            functional.cross_entropy(logits, batch["verdicts"][there]).backward()
            gradients.append([p.grad.clone() for p in peft_model.parameters() if p.requires_grad])
    for packed, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-3)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_packs_hold_every_row_once_in_order_and_keep_within_their_room(lengths: list[int], room: int) -> None:
    parts = [lengths[part] for part in packs(torch.tensor(lengths), room)]
    assert [length for part in parts for length in part] == lengths
    assert all(len(part) == 1 or sum(part) <= room for part in parts)
    assert all(sum(part) + after[0] > room for part, after in pairwise(parts))


@pytest.mark.parametrize("architecture", ["gemma3", "mistral-window", "cohere", "gpt2", "gpt-neox", "opt", "bloom"])
def test_every_architecture_learns_in_packs_or_falls_back_to_padding(
    architecture, make_model, make_tokenizer, tmp_path: Path, monkeypatch
) -> None:
    """Whatever an architecture makes of the packs' mask, the first loss is that of its own forward pass, row by row."""
    base = VerdictMonitor(LocalModel.from_transformers(make_model(architecture), make_tokenizer()))
    source = domain("film")
    seen = []
    original = trainer_module.VerdictTrainer.compute_loss

    def watch(self, model, inputs, *arguments, **named):
        if not seen:
            model.eval()  # no dropout
            with torch.no_grad():
                loss = original(self, model, inputs, *arguments, **named)
                rows = zip(inputs["suffixes"], inputs["lengths"].tolist(), strict=True)
                logits = [
                    model(input_ids=torch.tensor([[*self.heads[0], *row[:length].tolist()]])).logits[0, -1]
                    for row, length in rows
                ]
            seen.append((float(loss), float(functional.cross_entropy(torch.stack(logits), inputs["verdicts"][:, 0]))))
            model.train()
        return original(self, model, inputs, *arguments, **named)

    monkeypatch.setattr(trainer_module.VerdictTrainer, "compute_loss", watch)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train_monitor(base, [source], tmp_path / "adapter", dataclasses.replace(CONFIG, texts=16, epochs=1.0))
    assert seen[0][0] == pytest.approx(seen[0][1], abs=1e-3)
    padded = any("padded batches" in str(warning.message) for warning in told)
    assert padded == (architecture == "bloom")  # its positions are distances in the sequence as it stands


def test_few_shot_sequences_ask_for_each_label_after_the_texts_before_it_and_hold_no_text_twice(base) -> None:
    source = domain("film", 43)  # 43 = 5 sequences of 8, and one of 3
    examples = examples_of(base.model, source, 0, 43, 512, shots=1.0, weights={"7": 0.25})
    alone, together = examples[:43], examples[43:]
    assert sorted(len(example["reads"]) for example in together) == [3, 8, 8, 8, 8, 8]
    prompt = base.model.prompt(source.question)
    for example in together:
        ids = [*example["suffix"], 0]
        for read, verdict in zip(example["reads"], example["verdicts"], strict=True):
            assert ids[read - len(prompt.tail) + 1 : read + 1] == prompt.tail
            if read + 1 < len(example["suffix"]):
                assert ids[read + 1] == verdict
    # Every text with its own verdict, once: what stands in front of a verdict is the suffix of that text alone.
    by_suffix = {tuple(example["suffix"]): example["verdicts"][0] for example in alone}
    found = []
    for example in together:
        start = 0
        for read, verdict in zip(example["reads"], example["verdicts"], strict=True):
            own = tuple(example["suffix"][start : read + 1])
            assert by_suffix[own] == verdict
            found.append(own)
            start = read + 2 + len(prompt.between)
    assert sorted(found) == sorted(by_suffix)
    for part in (alone, together):
        assert sorted(weight for example in part for weight in example["weights"]) == [0.25] + [1.0] * 42
    half = examples_of(base.model, source, 0, 43, 512, shots=0.5)
    assert sum(len(example["reads"]) for example in half[43:]) in (21, 22)
    assert examples_of(base.model, source, 0, 43, 512) == examples_of(base.model, source, 0, 43, 512, shots=0.0) != half


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


def test_an_interrupted_training_ends_with_the_same_weights(
    base, make_model, make_tokenizer, tmp_path, monkeypatch
) -> None:
    sources = [domain("film"), domain("book", question="Is the book good?")]
    train_monitor(base, sources, tmp_path / "whole", CONFIG)
    original = trainer_module.ProgressCallback.on_step_end

    def dies(self, arguments, state, control, **more):
        original(self, arguments, state, control, **more)
        if state.global_step == 16:
            raise KeyboardInterrupt

    other = VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.ProgressCallback, "on_step_end", dies)
        with pytest.raises(KeyboardInterrupt):
            train_monitor(other, sources, tmp_path / "again", CONFIG)
    assert list((tmp_path / "again" / "checkpoints").glob("checkpoint-*"))
    train_monitor(other, sources, tmp_path / "again", CONFIG)
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "again")]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name]), name


def test_training_a_trained_monitor_continues_its_adapter(base, tmp_path: Path) -> None:
    first = train_monitor(base, [domain("film")], tmp_path / "first", CONFIG)
    barely = TrainingConfig(texts=8, epochs=1.0, batch_size=8, learning_rate=1e-9, rank=4)
    second = train_monitor(first, [domain("book")], tmp_path / "second", barely)
    texts = domain("film").unlabelled()
    np.testing.assert_allclose(second.score(texts).values, first.score(texts).values, atol=1e-3)


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
