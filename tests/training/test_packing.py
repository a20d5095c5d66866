"""Every way to the logits of a batch against the plain forward pass: in packs, padded, from cached lower layers."""

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional

import elicit.training.trainer as trainer_module
from elicit.errors import ModelError
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import train, train_monitor
from elicit.training.examples import Heads, collate, instruction_examples
from elicit.training.instructions import own_instructions
from elicit.training.packing import packed_logits, packs, padded_logits, share_of
from elicit.training.trunk import Trunk
from tests.training.conftest import CONFIG, domain, examples_of, numbered


@pytest.mark.parametrize("first_layer", [0, 1, 2])
def test_all_ways_to_the_logits_equal_the_plain_forward_pass(base, first_layer: int) -> None:
    """Verdicts alone, in few-shot sequences, in other wordings, and responses to instructions, all in one batch."""
    source, heads = domain("film"), Heads()
    examples = examples_of(base.model, source, 8, heads, shots=1.0)
    assert [len(example["reads"]) for example in examples] == [1] * 8 + [8]
    examples += examples_of(base.model, source, 8, heads, wordings=1.0)
    examples += instruction_examples(base.model, own_instructions(3), heads)
    assert len(heads) > 3
    examples = numbered(examples)
    batch = collate(examples)
    there = batch["reads"] >= 0
    with base.model.trainable_adapter(4, seed=0, first_layer=first_layer) as peft_model:
        names = [name for name, parameter in peft_model.named_parameters() if parameter.requires_grad]
        assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == set(range(first_layer, 3))
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        plain = torch.stack(
            [
                peft_model(input_ids=torch.tensor([[*heads[example["head"]], *example["suffix"]]])).logits[
                    0, len(heads[example["head"]]) + read
                ]
                for example in examples
                for read in example["reads"]
            ]
        )
        ways = [packed_logits, padded_logits]
        if first_layer:
            trunk = Trunk(peft_model, first_layer, examples, 200, None)
            ways += [trunk.logits] * 2  # the second time from what is kept
        gradients = []
        for way in ways:
            logits = way(peft_model, batch, heads)
            torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)
            peft_model.zero_grad()
            functional.cross_entropy(logits, batch["targets"][there]).backward()
            gradients.append([p.grad.clone() for p in peft_model.parameters() if p.requires_grad])
    for other in gradients[1:]:
        for packed, found in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(packed, found, atol=1e-5, rtol=1e-3)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=30), st.integers(1, 100))
def test_packs_hold_every_row_once_and_keep_within_their_room(rows: list[tuple[int, int]], room: int) -> None:
    heads = [[0] * 7, [0] * 20, []]
    lengths, numbers = (torch.tensor(column) for column in zip(*rows, strict=True))
    batch = {"lengths": lengths, "heads": numbers, "numbers": torch.arange(len(rows))}
    parts = list(packs(batch, heads, room))
    assert sorted(torch.cat([part["numbers"] for part in parts]).tolist()) == list(range(len(rows)))
    for part in parts:
        shared = sum(len(heads[number]) for number in set(part["heads"].tolist()))
        assert len(part["lengths"]) == 1 or int(part["lengths"].sum()) + shared <= room
        for name in batch:
            assert torch.equal(part[name], batch[name][part["numbers"]])


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
            seen.append((float(loss), float(functional.cross_entropy(torch.stack(logits), inputs["targets"][:, 0]))))
            model.train()
        return original(self, model, inputs, *arguments, **named)

    monkeypatch.setattr(trainer_module.VerdictTrainer, "compute_loss", watch)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train_monitor(base, [source], tmp_path / "adapter", dataclasses.replace(CONFIG, texts=16, epochs=1.0))
    assert seen[0][0] == pytest.approx(seen[0][1], abs=1e-3)
    padded = any("without packed sequences" in str(warning.message) for warning in told)
    assert padded == (architecture == "bloom")  # its positions are distances in the sequence as it stands


def test_shares_of_a_batch_have_its_loss_together(base) -> None:
    """Two processes halve the batch's tokens; of three rows, a fourth process has one that counts nothing."""
    heads = Heads()
    batch = collate(numbered(examples_of(base.model, domain("film"), 12, heads)))
    whole = (batch["weights"].sum(), batch["lengths"].sum(), len(batch["lengths"]))
    halves = [share_of(batch, number, 2) for number in range(2)]
    assert sum(half["weights"].sum() for half in halves) == whole[0]
    assert abs(int(halves[0]["lengths"].sum() - halves[1]["lengths"].sum())) <= int(batch["lengths"].max())
    assert sorted([*halves[0]["numbers"].tolist(), *halves[1]["numbers"].tolist()]) == list(range(whole[2]))
    few = {name: values[:3] for name, values in batch.items()}
    shares = [share_of(few, number, 4) for number in range(4)]
    assert [len(share["lengths"]) for share in shares] == [1, 1, 1, 1]
    assert shares[3]["weights"].sum() == 0
    assert sum(share["weights"].sum() for share in shares) == few["weights"].sum()


def test_upper_layers_alone_learn_and_the_lower_ones_run_once(base, tmp_path: Path, monkeypatch) -> None:
    runs = []
    original = Trunk._run_lower
    monkeypatch.setattr(Trunk, "_run_lower", lambda self, pack: runs.append(len(pack.ids)) or original(self, pack))
    source = domain("film")
    found = train(base, [source], tmp_path / "upper", dataclasses.replace(CONFIG, first_layer=1, epochs=6.0))
    once = sum(runs)
    assert roc_auc_score(source.labels, found.monitor.score(source.unlabelled()).values) > 0.9
    names = load_file(tmp_path / "upper" / "adapter_model.safetensors")
    assert {name.split("layers.")[1].split(".")[0] for name in names} == {"1", "2"}
    runs.clear()
    train(base, [source], tmp_path / "shorter", dataclasses.replace(CONFIG, first_layer=1, epochs=1.0))
    assert sum(runs) == once  # more epochs, no more lower layers
    with pytest.raises(ModelError, match="the first layer that learns must be from 0 to 2, not 3"):
        train(base, [source], tmp_path / "none", dataclasses.replace(CONFIG, first_layer=3))


def test_cached_lower_layers_of_sequences_that_begin_with_nothing(make_model, make_tokenizer) -> None:
    """A conversation without template and first token has no beginning to share."""
    model = LocalModel.from_transformers(make_model("llama"), make_tokenizer(None))
    heads = Heads()
    examples = numbered(instruction_examples(model, own_instructions(3), heads))
    assert list(heads) == [[]]
    batch = collate(examples)
    with model.trainable_adapter(4, seed=0, first_layer=1) as learner, torch.no_grad():
        found = Trunk(learner, 1, examples, 768, None).logits(learner, batch, heads)
        torch.testing.assert_close(found, padded_logits(learner, batch, heads), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["gemma3", "qwen2-window"])
def test_cached_lower_layers_agree_whatever_the_layers_are(architecture, make_model, make_tokenizer) -> None:
    """Layers of Gemma 3 differ by their place: those that are left out must keep theirs."""
    model = LocalModel.from_transformers(make_model(architecture, sliding_window=512), make_tokenizer())
    heads = Heads()
    examples = numbered(examples_of(model, domain("film"), 8, heads))
    batch = collate(examples)
    with model.trainable_adapter(4, seed=0, first_layer=2) as learner, torch.no_grad():
        found = Trunk(learner, 2, examples, 768, None).logits(learner, batch, heads)
        torch.testing.assert_close(found, padded_logits(learner, batch, heads), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "bloom"])
def test_half_precision_tells_rounding_from_rows_that_leak(
    architecture, make_model, make_tokenizer, tmp_path: Path
) -> None:
    """In bfloat16 packs differ from padded rows by rounding, and those of an architecture that ignores their mask by more."""
    make_model(architecture).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    base = VerdictMonitor(LocalModel.load(str(tmp_path / "base"), "bfloat16", "cpu"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(base, [domain("film")], tmp_path / "full", dataclasses.replace(CONFIG, texts=16, epochs=1.0, full=True))
    padded = any("without packed sequences" in str(warning.message) for warning in told)
    assert padded == (architecture == "bloom")
