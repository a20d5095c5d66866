"""Training beside TRL's on the same texts, its rates and ranks, and how far it carries."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elicit.domains import Domain, drop_overlap, load_domain
from elicit.errors import DivergedError
from elicit.evaluation import Resampled, bootstrap_weights
from elicit.evaluation.bootstrap import in_words, mean_over_seeds
from elicit.evaluation.metrics import auroc
from elicit.files import write_json
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import TrainingConfig, train
from elicit.training.examples import Heads, mixture, verdict_examples
from elicit.training.verdict_training import History
from experiments.benchmark_engine import extra_memory
from experiments.peers import installed
from experiments.resume import resume

SOURCE = "vader/amazon"
TARGETS = ("vader/tweets", "vader/nyt", "vader/movie")
TIMED = 512  # texts of the comparison with TRL
WORDS = range(15, 41)  # in each of them
TEST = 400
SEEDS = 3
SWEEP = ((3e-4, 16), (1e-3, 16), (2e-3, 16), (4e-3, 16), (1e-3, 4), (1e-3, 64))  # learning rate and rank,
SWEEP_SIZES = ((800, 2.0), (320, 1.0))  # in the training of the defaults and in a short one: texts and epochs


def benchmark_training(model: str, texts: int, parts: Sequence[str], out: Path, say: Callable[[str], None]) -> None:
    """Measure, print and write results.json; the same call continues what was interrupted."""
    path = out / "results.json"
    options = {"model": model, "texts": texts, "threads": torch.get_num_threads()}
    results = resume(path, "training", options)

    def keep(part: str, found: Any) -> None:
        results[part] = found
        write_json(path, results)

    # A peer that was installed since is measured, and ours again beside it.
    peers = {"trl": installed("trl")}
    if "speed" in parts and ("speed" not in results or results.get("peers") != peers):
        results["peers"] = peers
        keep("speed", speed(model, out / "speed", say))
    if "sweep" in parts and "sweep" not in results:
        keep("sweep", sweep(model, out / "sweep", say))
    if "transfer" in parts and "transfer" not in results:
        keep("transfer", transfer(model, texts, out / "transfer", say))


def speed(model: str, out: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Tokens per second, and memory beyond the weights, of one pass over the texts, with the same LoRA, batch and dtype."""
    domain = load_domain("vader/movie")
    domain = domain.take([row for row, text in enumerate(domain.texts) if len(text.split()) in WORDS]).sample(TIMED)
    shutil.rmtree(out, ignore_errors=True)  # what is timed begins anew
    base = VerdictMonitor(LocalModel.load(model))
    heads = Heads()
    examples = verdict_examples(base.model, mixture([domain], TIMED, 1.0)[0], heads, 512)
    sequences = [([*heads[example["head"]], *example["suffix"]], example["targets"][0]) for example in examples]
    tokens = sum(len(ids) + 1 for ids, _ in sequences)
    config = TrainingConfig(texts=TIMED, epochs=1.0)
    rows = []
    ways: dict[str, Callable[[], object]] = {"elicit": lambda: train(base, [domain], out / "elicit", config)}
    if importlib.util.find_spec("trl"):
        from trl import SFTTrainer  # noqa: F401  # not timed

        theirs = LocalModel.load(model)  # weights of its own: TRL puts its adapter into them
        ways["trl"] = lambda: train_with_trl(theirs, sequences, config, out / "trl")
    for who, action in ways.items():
        since = time.perf_counter()
        memory = extra_memory(action)
        seconds = time.perf_counter() - since
        rows.append(
            {"who": who, "tokens": tokens, "tokens_per_second": tokens / seconds, "extra_gigabytes": memory / 1e9}
        )
        say(f"{who:<7} {tokens / seconds:7.0f} tokens/s, {memory / 1e9:.2f} GB beyond the weights")
    return rows


def train_with_trl(
    local: LocalModel, sequences: Sequence[tuple[list[int], int]], config: TrainingConfig, out: Path
) -> None:
    """TRL's `SFTTrainer` on the same token ids, with its loss on the completion alone."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"input_ids": [*ids, verdict], "labels": [-100] * len(ids) + [verdict]} for ids, verdict in sequences]
    arguments = SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        gradient_checkpointing=False,
        bf16=local.transformers_model.dtype == torch.bfloat16,
        use_cpu=local.transformers_model.device.type == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = local.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    lora = LoraConfig(r=config.rank, lora_alpha=2 * config.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=local.transformers_model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.train()


def sweep(model: str, out: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Validation figures on the source's calibration split, by learning rate and rank; no target has a part in it."""
    source = load_domain(SOURCE)
    base = VerdictMonitor(LocalModel.load(model))
    rows = []
    for texts, epochs in SWEEP_SIZES:
        for rate, rank in SWEEP:
            config = TrainingConfig(texts=texts, epochs=epochs, learning_rate=rate, rank=rank)
            folder = out / f"{texts}-{epochs:g}-{rate}-{rank}"
            row = {"texts": texts, "epochs": epochs, "learning_rate": rate, "rank": rank}
            try:
                found = train(base, [source.train], folder, config, validation=[source.calibration])
            except DivergedError as error:  # before there was anything to keep
                rows.append(row | {"auroc": None, "loss": None, "notes": [str(error)]})
            else:
                rows.append(row | last_validation(found.history[0], found.kept) | {"notes": list(found.notes)})
            figures = ", ".join(
                f"{name} {'–' if (v := rows[-1][name]) is None else f'{v:.3f}'}" for name in ("auroc", "loss")
            )
            say(f"{texts} texts, epochs {epochs:g}, learning rate {rate:g}, rank {rank}: validation {figures}")
    return rows


def last_validation(history: History, kept: int) -> dict[str, float | None]:
    """AUROC and loss at the last validation of the weights that were kept, or of those before them."""
    last: dict[str, float] = {}
    for row in history:
        if "eval_loss" in row and row["step"] <= kept:
            last = row
    return {"auroc": last.get("eval_auroc"), "loss": last.get("eval_loss")}


def transfer(model: str, texts: int, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of each training with the defaults, and AUROC on held-out texts of the source and of targets, over seeds."""
    shutil.rmtree(out, ignore_errors=True)  # what is timed begins anew
    source, targets = load_domain(SOURCE), [load_domain(name) for name in TARGETS]
    part = drop_overlap(source.train, targets)
    base = VerdictMonitor(LocalModel.load(model))
    seconds: list[float] = []
    by_seed: dict[str, list[Resampled]] = {domain.name: [] for domain in (source, *targets)}
    for seed in range(SEEDS):
        since = time.perf_counter()
        trained = train(base, [part], out / str(seed), TrainingConfig(texts=texts), seed)
        seconds.append(time.perf_counter() - since)
        say(f"seed {seed}: {texts} texts, 2 epochs: {seconds[-1]:.0f} s")
        for domain in (source, *targets):
            by_seed[domain.name].append(auroc_on(trained.monitor, domain))
    found = {name: mean_over_seeds(figures).to_json() for name, figures in by_seed.items()}
    for name, figure in found.items():
        say(f"{name:<14} AUROC {in_words(figure)}, {SEEDS} seeds")
    return {
        "texts": texts,
        "seeds": SEEDS,
        "seconds": seconds,
        "in_a_target_too": len(source.train) - len(part),  # texts that were not trained on
        "auroc": found,
    }


def auroc_on(monitor: VerdictMonitor, domain: Domain) -> Resampled:
    """AUROC on held-out texts, with resamples that draw whole groups."""
    test = domain.test.sample(TEST)
    labels = test.label_array()
    test = test.take(np.flatnonzero(np.isfinite(labels)))
    labels = test.label_array()
    weights = np.concatenate([np.ones((1, len(test)), np.float32), bootstrap_weights(labels, test.groups)])
    figures = auroc(monitor.score(test.unlabelled()).values, labels, weights)
    return Resampled(float(figures[0]), figures[1:])
