"""Single-token classification training, and instruction following before, after or beside it.

The optimiser, schedule, checkpoints, trackers and distribution are those of transformers' `Trainer`; the adapter is a standard
PEFT adapter. What is ours is the loss: cross-entropy over the whole vocabulary at the one position where a verdict stands, and, in
instruction examples, at every token of the response, which together count as one verdict does.
On one device a batch is one sequence without padding, in which the prompt's common beginning stands once, with its gradient.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from elicit.domains import Domain
from elicit.errors import DivergedError, DomainError, ModelError, RunError
from elicit.files import read_json, write_json
from elicit.language_models.language_model import local_model
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import sort_adapter_config
from elicit.memory import give_back_memory
from elicit.monitors.verdict import VerdictMonitor
from elicit.processes import check_joined, together
from elicit.progress import progress
from elicit.training.checkpoints import last_checkpoint, refuse_others_files
from elicit.training.config import TrainingConfig, check_source_weights
from elicit.training.contradictions import check_contradictions
from elicit.training.examples import Example, Heads, collate, instruction_examples, mixture, numbered, verdict_examples
from elicit.training.instructions import load_instructions
from elicit.training.packed_attention import by_sequence
from elicit.training.trackers import check_tracker, logs_in
from elicit.training.validation import Validation, check_interval

HISTORY = "training_history.json"  # the last file of a training: with it the folder is complete
WRITER = ("PytorchStreamWriter", "inline_container")
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
}  # what `accelerate launch` says of them
History = list[dict[str, float]]  # of a stage, figures by step


@dataclass(frozen=True)
class Training:
    """What a training left behind.

    Attributes:
        monitor: the trained monitor.
        examples: how many of each kind were learnt from, by domain name or "instructions".
        history: by stage, loss and validation figures by step.
        notes: what to know, such as a stop before the end.
        kept: the optimiser step of the last stage whose weights were kept.
    """

    monitor: VerdictMonitor
    examples: dict[str, int] = field(default_factory=dict)
    history: list[History] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    kept: int = 0


def train_monitor(
    base: VerdictMonitor,
    domains: Sequence[Domain],
    folder: Path,
    config: TrainingConfig | None = None,
    seed: int = 0,
    validation: Sequence[Domain] = (),
    report_to: str = "none",
    weights: Mapping[str, float] | None = None,
) -> VerdictMonitor:
    """As `train`: the trained monitor alone. What was noted is logged, and `training_notes` reads it."""
    trained = train(base, domains, folder, config, seed, validation, report_to, weights)
    for note in trained.notes:
        logging.getLogger(__name__).warning("%s", note)
    return trained.monitor


def train(
    base: VerdictMonitor,
    domains: Sequence[Domain],
    folder: Path,
    config: TrainingConfig | None = None,
    seed: int = 0,
    validation: Sequence[Domain] = (),
    report_to: str = "none",
    weights: Mapping[str, float] | None = None,
) -> Training:
    """Train a LoRA adapter, or all weights, on labelled domains.

    An interrupted training continues from its last checkpoint in `folder` when it is started again.

    Args:
        base: the monitor to start from; training continues a copy of its adapter if it has one.
        domains: labelled domains, each with its own question.
        folder: where the adapter goes, as PEFT writes it, or the model, as transformers writes it.
        config: sizes and rates.
        seed: of the adapter's first weights, of wordings and of the order of the examples.
        validation: labelled texts of the sources (never of a target), on which loss and AUROC are measured on the way.
        report_to: a tracker that transformers knows ("wandb", "tensorboard", "mlflow", "trackio", …), or "none".
        weights: by text id, how much a text counts in the loss; 1 for those not named. Ids are those of one domain: with several,
            there is `TrainingConfig.source_weights`.

    Raises:
        DomainError: a domain lacks labels or a class, all its texts are empty, or two domains contradict each other.
        ModelError: the model cannot be trained, or the loss diverged before there was anything to keep.
        RunError: a checkpoint could not be written, or a launcher started processes in a way that this cannot use.
    """
    check_joined()
    if any(os.environ.get(name, "").lower() == value for name, value in SHARDED.items()):
        raise RunError(
            "FSDP and ZeRO-3 leave a part of the weights in each process, and a monitor needs them whole; start one process, which "
            "spreads a model over all GPUs of its machine, or several without sharding"
        )
    check_tracker(report_to)
    if weights and len(domains) > 1:
        raise DomainError("weights name texts by id, which two domains can share; give several domains source_weights")
    asked = (base, domains, folder, config or TrainingConfig(), seed, validation, report_to, dict(weights or {}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    with FileLock(folder / ".lock"):  # of several programs that want the same, one trains, and the others find it done
        trained = together(_train, *asked)
    give_back_memory()
    return trained


def _train(
    base: VerdictMonitor,
    domains: Sequence[Domain],
    folder: Path,
    config: TrainingConfig,
    seed: int,
    validation: Sequence[Domain],
    report_to: str,
    weights: Mapping[str, float],
) -> Training:
    if config.patience and not validation:
        raise DomainError("stopping early needs validation texts of the sources; give some, or set patience to 0")
    check_source_weights(config, domains)
    chosen = mixture(domains, config.texts, config.temperature)
    check_contradictions(domains)
    model = start = local_model(base.model, "training needs weights")
    if not 0 <= config.first_layer < model.layers:
        raise ModelError(f"the first layer that learns must be from 0 to {model.layers - 1}, not {config.first_layer}")
    if config.full:
        if model.adapter is not None:
            raise ModelError("training all weights starts from a model, not from an adapter; name the model itself")
        # In float32, and of their own: a step is smaller than bfloat16 can tell, and other monitors keep their weights.
        model = _trained(start, Path(start.name), "float32")
    heads = Heads()
    by_source = {
        domain.name: verdict_examples(
            model,
            domain,
            heads,
            config.text_tokens,
            config.inverted,
            config.wordings,
            config.shots,
            weights,
            seed,
            config.source_weights.get(domain.name, 1.0),
        )
        for domain in chosen
    }
    verdicts = [example for examples in by_source.values() for example in examples]
    looked_at = Validation.of(model, validation, heads, config.text_tokens)
    instructions = _instructions(model, config, len(verdicts), heads, seed)
    counts = {name: len(examples) for name, examples in by_source.items()}
    if instructions:
        counts["instructions"] = len(instructions)
    named = ", ".join(domain.name for domain in domains)
    classification, following = (named, verdicts, True), ("instructions", instructions, False)
    stages = {
        "classification": [classification],
        "mixed": [(f"{named}, instructions", [*verdicts, *instructions], True)],
        "classification-then-instruction": [classification, following],
        "instruction-then-classification": [following, classification],
    }[config.schedule]
    plan: list[_Stage] = []
    for number, (name, examples, learns_verdicts) in enumerate(stages, start=1):
        place = folder if number == len(stages) else folder / "stages" / str(number)
        before = plan[-1].asked if plan else model.fingerprint()
        plan.append(
            _Stage(
                before,
                start.transformers_model.dtype,
                examples,
                heads,
                looked_at,
                learns_verdicts,
                learns_verdicts or any(stage.learns_verdicts for stage in plan),
                config,
                seed,
                report_to,
                place,
                name,
                folder / "logs" / str(number),
            )
        )
    history, notes, current = list[History](), list[str](), model
    # What the last stage left stands for those before it, whose weights are gone.
    for stage in plan[-1:] if is_trained(folder) else plan:
        history, notes = stage.run(current, history, notes)
        last = stage is plan[-1]
        current = (
            _trained(start, stage.folder, "float32" if not last else "")
            if config.full
            else model.with_adapter(stage.folder)
        )
    shutil.rmtree(folder / "stages", ignore_errors=True)
    kept = int(read_json(folder / HISTORY).get("kept", 0))
    return Training(VerdictMonitor(current, base.question), counts, history, tuple(notes), kept)


def training_notes(folder: Path) -> list[str]:
    """What the training that wrote to this folder noted; nothing where none came to its end."""
    return list(read_json(folder / HISTORY)["notes"]) if is_trained(folder) else []


def is_trained(folder: Path) -> bool:
    """Whether a training that writes to this folder came to its end."""
    return (folder / HISTORY).is_file()


class _Stage:
    """One call of the `Trainer`: examples, and a folder for what comes out.

    Attributes:
        asked: hash of all that decides what comes out, that of the stage before it or of the model included.
    """

    def __init__(
        self,
        before: str,
        dtype: torch.dtype,
        examples: Sequence[Example],
        heads: Heads,
        validation: Validation,
        learns_verdicts: bool,
        knows_verdicts: bool,
        config: TrainingConfig,
        seed: int,
        report_to: str,
        folder: Path,
        name: str,
        logs: Path,
    ) -> None:
        self.name, self.logs, self.dtype = name, logs, dtype  # of the products; trainable weights are float32
        self.heads, self.validation, self.learns_verdicts = heads, validation, learns_verdicts
        self.examples = numbered(examples)
        self.config, self.seed, self.report_to, self.folder = config, seed, report_to, folder
        self.stops_early = bool(config.patience) and learns_verdicts
        self.judges = validation.rarer_class() if knows_verdicts else {}
        seen = [before, self.examples, list(heads), list(validation.examples), config.to_json(), seed]
        self.asked = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def run(
        self, model: LocalModel, history: Sequence[History], notes: Sequence[str]
    ) -> tuple[list[History], list[str]]:
        """Train, unless that was done already; history and notes of the stages up to this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not is_trained(self.folder):
            refuse_others_files(self.folder)
            try:
                self._train(model, history, notes)
            except (OSError, SafetensorError, RuntimeError) as error:
                # torch.save says that a disk is full in a RuntimeError of its own.
                if isinstance(error, RuntimeError) and not any(word in str(error) for word in WRITER):
                    raise
                raise RunError(
                    f"cannot write to {self.folder}: {error}; make room, or choose another folder, and run the same command "
                    "again: it continues from the last whole checkpoint"
                ) from error
        held = read_json(self.folder / HISTORY)
        if held["asked"] != self.asked:
            raise RunError(f"{self.folder} holds another training; choose another folder")
        return held["history"], held["notes"]

    def _train(self, model: LocalModel, history: Sequence[History], notes: Sequence[str]) -> None:
        from peft.helpers import disable_input_dtype_casting

        config, checkpoints, notes = self.config, self.folder / "checkpoints", list(notes)
        # Under autocast the adapter's float32 weights are cast for each product, where PEFT alone would cast all activations.
        half = self.dtype == torch.bfloat16
        steps = config.steps(len(self.examples))
        with (
            _learning(model, config, self.seed) as learner,
            disable_input_dtype_casting(learner, active=half and not config.full),
            by_sequence(model.transformers_model),
            _as_it_was(model.transformers_model),
            progress(steps, f"training {self.name}", "step") as step,
            logs_in(self.logs),
            warnings.catch_warnings(),
        ):
            # Names that Trainer itself still uses between two versions.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing.* is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated", FutureWarning)
            trainer, watch = self._trainer(model, learner, steps, step)
            if trainer.is_world_process_zero():
                mark = checkpoints / "asked"
                if not mark.is_file() or mark.read_text(encoding="utf-8") != self.asked:
                    for old in [*checkpoints.glob("checkpoint-*")]:  # of another training
                        shutil.rmtree(old, ignore_errors=True)
                    checkpoints.mkdir(exist_ok=True)
                    mark.write_text(self.asked, encoding="utf-8")
            trainer.accelerator.wait_for_everyone()
            trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
            # Raised by all processes, of which only one writes.
            if watch.diverged and last_checkpoint(checkpoints) is None:
                raise DivergedError(
                    f"training diverged before its first checkpoint: {watch.diverged}; lower the learning rate"
                )
            if self.stops_early and not watch.diverged and trainer.state.global_step < trainer.state.max_steps:
                notes.append(f"stopped early, after {trainer.state.global_step} of {trainer.state.max_steps} steps")
            if trainer.is_world_process_zero():
                ended = trainer.state.best_global_step if self.stops_early else trainer.state.global_step
                kept, said = self._keep(model, learner, watch.diverged, checkpoints, ended)
                notes += [*said, *filter(None, [watch.weakness(kept)])]
                write_json(
                    self.folder / HISTORY,
                    {"asked": self.asked, "history": [*history, watch.history], "notes": notes, "kept": kept},
                )
                shutil.rmtree(checkpoints, ignore_errors=True)
            trainer.accelerator.wait_for_everyone()

    def _trainer(self, model: LocalModel, learner: Any, steps: int, step: Any) -> tuple[Any, Any]:
        # Imported here: transformers' trainer takes seconds to import, and listing methods does not need it.
        from datasets import Dataset
        from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

        from elicit.training.trainer import VerdictTrainer
        from elicit.training.watch import Watch

        config, validated = self.config, bool(self.validation.examples)
        device = model.transformers_model.device.type
        every = check_interval(steps)
        arguments = TrainingArguments(
            output_dir=str(self.folder / "checkpoints"),
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.accumulation,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            # The first of them has a rate of 0: a training of one step must have none.
            warmup_steps=round(0.06 * steps),
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=min(10, every),
            logging_first_step=True,  # what later losses are compared with: nothing was learnt before it
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=1,
            eval_strategy="steps" if validated else "no",
            eval_steps=every,
            load_best_model_at_end=self.stops_early,
            metric_for_best_model="eval_auroc" if validated else None,
            greater_is_better=True if validated else None,
            train_sampling_strategy="group_by_length" if config.length_grouping else "random",
            length_column_name="length",
            seed=self.seed,
            report_to=self.report_to,
            remove_unused_columns=False,
            dataloader_pin_memory=device == "cuda",
            ddp_broadcast_buffers=False,  # nothing in a frozen model's buffers changes
            disable_tqdm=True,
            use_cpu=device == "cpu",
            bf16=self.dtype == torch.bfloat16,
            fp16=self.dtype == torch.float16,
            restore_callback_states_from_checkpoint=self.stops_early,
            **({"gradient_checkpointing": True} if config.gradient_checkpointing else {}),
        )
        arguments._n_gpu = min(
            1, arguments.n_gpu
        )  # several devices work in several processes, never through DataParallel
        watch = Watch(step, step.say, self.judges, self.learns_verdicts)
        # Among instructions alone, the verdicts' AUROC moves by chance.
        patience = [EarlyStoppingCallback(config.patience)] if self.stops_early else []
        trainer = VerdictTrainer(
            model=learner,
            args=arguments,
            train_dataset=Dataset.from_list([{**e, "length": len(e["suffix"])} for e in self.examples]),
            eval_dataset=Dataset.from_list(list(self.validation.examples)) if validated else None,
            data_collator=collate,
            callbacks=[watch, *patience],
            heads=self.heads,
            validation=self.validation,
            first_layer=config.first_layer,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer, watch

    def _keep(
        self, model: LocalModel, learner: Any, diverged: str | None, checkpoints: Path, step: int
    ) -> tuple[int, list[str]]:
        """Write what was learnt to the folder: the last weights, or those of the last good checkpoint; its step, and notes."""
        notes = []
        if diverged is None:
            named = {} if self.config.full else {"selected_adapters": ["default"]}
            learner.save_pretrained(str(self.folder), **named)
        else:
            last = last_checkpoint(checkpoints)
            assert last is not None
            for file in Path(last).glob("*adapter_*" if not self.config.full else "*model*"):
                if file.is_file():
                    shutil.copy2(file, self.folder / file.name)
            shutil.copy2(Path(last) / ("config.json" if self.config.full else "adapter_config.json"), self.folder)
            step = int(Path(last).name.removeprefix("checkpoint-"))
            notes.append(f"training diverged and was stopped: {diverged}; kept is what it was at step {step}")
        if not self.config.full:
            sort_adapter_config(self.folder)
            # PEFT's is an empty form; what is to be said stands with the monitor.
            (self.folder / "README.md").unlink(missing_ok=True)
        else:
            model.tokenizer.save_pretrained(str(self.folder))
        return step, notes


def _instructions(model: LocalModel, config: TrainingConfig, verdicts: int, heads: Heads, seed: int) -> list[Example]:
    """As many instructions as make up their share of the examples; few different ones come up more than once."""
    if config.schedule == "classification":
        return []
    count = max(1, round(verdicts * config.instruction_share / (1 - config.instruction_share)))
    pairs = load_instructions(config.instructions, seed, count)
    examples = instruction_examples(model, pairs, heads, config.loss)
    return [examples[i % len(examples)] for i in range(count)]


@contextmanager
def _learning(model: LocalModel, config: TrainingConfig, seed: int) -> Iterator[Any]:
    """The model in training mode: with a new adapter, or with all weights of the layers that learn."""
    if not config.full:
        with model.trainable_adapter(config.rank, seed, config.first_layer, config.target_modules) as learner:
            yield learner
        return
    learner = model.transformers_model
    torch.manual_seed(seed)
    learner.requires_grad_(not config.first_layer)
    for layer in list(model.engine.layers)[config.first_layer :]:
        layer.requires_grad_(True)
    learner.train()
    try:
        yield learner
    finally:
        learner.eval().requires_grad_(False)


def _trained(base: LocalModel, folder: Path, dtype: str = "") -> LocalModel:
    """Weights of a folder or model on the device of another, in its dtype unless another one is named."""
    dtype = dtype or str(base.transformers_model.dtype).removeprefix("torch.")
    return LocalModel.load(str(folder), dtype, base.device, base.max_text_tokens)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """`Trainer` turns `use_cache` off and checkpointing on and leaves them so; with the one off this would be another model."""
    before = model.config.use_cache
    try:
        yield
    finally:
        model.config.use_cache = before
        for module in model.modules():  # the model's own methods for it change their names from version to version
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
