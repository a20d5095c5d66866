"""Single-token classification training: LoRA on a causal language model, with the loss on the verdict token alone.

The optimiser, schedule, checkpoints, trackers and distribution are those of transformers' `Trainer`; the adapter is a standard
PEFT adapter. What is ours is the loss: cross-entropy over the whole vocabulary at the one position where the verdict stands.
On one device a batch is one sequence without padding, in which the prompt's common beginning stands once, with its gradient.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from elicit.domains import Domain
from elicit.monitors.verdict import VerdictMonitor
from elicit.progress import progress
from elicit.training.examples import collate, examples_of


@dataclass(frozen=True)
class TrainingConfig:
    """How a monitor is trained.

    Attributes:
        texts: at most this many texts of each domain, half of them flagged as far as there are enough.
        epochs: passes over the texts.
        batch_size: texts per optimiser step and device.
        learning_rate: peak rate; it warms up over 6 % of the steps and falls linearly to 0.
        rank: rank of the LoRA matrices on all linear layers; their scale alpha is twice the rank.
        text_tokens: longer texts lose their middle in training.
        shots: share of the texts that are learnt from in few-shot sequences too, besides each on its own.
    """

    texts: int = 800
    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 16
    text_tokens: int = 512
    shots: float = 0.0


def train_monitor(
    base: VerdictMonitor,
    domains: Sequence[Domain],
    folder: Path,
    config: TrainingConfig | None = None,
    seed: int = 0,
    report_to: str = "none",
    weights: Mapping[str, float] | None = None,
) -> VerdictMonitor:
    """Train a LoRA adapter on labelled domains and give back the monitor that uses it.

    An interrupted training continues from its last checkpoint in `folder` when it is started again.

    Args:
        base: the monitor to start from; training continues a copy of its adapter if it has one.
        domains: labelled domains, each with its own question.
        folder: where the adapter goes, as PEFT writes it.
        config: sizes and rates.
        seed: of the adapter's first weights and the order of the texts.
        report_to: a tracker that transformers knows ("wandb", "tensorboard", …), or "none".
        weights: by text id, how much a text counts in the loss; 1 for those not named.

    Raises:
        DomainError: a domain lacks labels or a class, or all its texts are empty.
    """
    # Imported here: transformers' trainer takes seconds to import, and listing methods does not need it.
    from datasets import Dataset
    from peft.helpers import disable_input_dtype_casting
    from transformers import PrinterCallback, TrainingArguments

    from elicit.training.trainer import ProgressCallback, VerdictTrainer

    config = config or TrainingConfig()
    model = base.model
    examples = [
        example
        for i, domain in enumerate(domains)
        for example in examples_of(model, domain, i, config.texts, config.text_tokens, config.shots, weights, seed)
    ]
    prompts = [model.prompt(domain.question) for domain in domains]
    # Under autocast the adapter's float32 weights are cast for each product, where PEFT alone would cast all activations.
    half = model.transformers_model.dtype == torch.bfloat16
    with (
        model.trainable_adapter(config.rank, seed) as peft_model,
        disable_input_dtype_casting(peft_model, active=half),
        _attention_with_a_quick_gradient(model.transformers_model),
    ):
        checkpoints = folder / "checkpoints"
        steps = max(1, round(len(examples) * config.epochs / config.batch_size))
        arguments = TrainingArguments(
            output_dir=str(checkpoints),
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=max(1, round(0.06 * steps)),
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=10,
            save_strategy="steps",
            save_steps=max(10, steps // 5),
            save_total_limit=1,
            seed=seed,
            report_to=report_to,
            remove_unused_columns=False,
            dataloader_pin_memory=model.transformers_model.device.type == "cuda",
            disable_tqdm=True,
            use_cpu=model.transformers_model.device.type == "cpu",
            bf16=half,
        )
        with progress(steps, "training " + ", ".join(domain.name for domain in domains), "step") as step:
            trainer = VerdictTrainer(
                model=peft_model,
                args=arguments,
                train_dataset=Dataset.from_list(examples),
                data_collator=collate,
                callbacks=[ProgressCallback(step)],
                heads=[prompt.head for prompt in prompts],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
        if trainer.is_world_process_zero():
            peft_model.save_pretrained(str(folder), selected_adapters=["default"])
            shutil.rmtree(checkpoints, ignore_errors=True)
    return VerdictMonitor(model.with_adapter(folder), base.question)


@contextmanager
def _attention_with_a_quick_gradient(model: Any) -> Iterator[None]:
    """On a CPU the gradient of fused attention under a mask takes twice the time of plain matrix products."""
    before = model.config._attn_implementation
    if model.device.type != "cpu" or before != "sdpa":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _last_checkpoint(folder: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return get_last_checkpoint(str(folder)) if folder.is_dir() else None
