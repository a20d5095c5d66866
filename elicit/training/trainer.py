"""transformers' `Trainer` with our loss: cross-entropy at the tokens that are learnt, weighted, over the whole vocabulary."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from peft import PeftModel
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler
from transformers import Trainer, TrainerControl
from transformers.trainer_pt_utils import get_length_grouped_indices

from elicit.language_models.decoder import sliding_window
from elicit.language_models.engine import FAILURES
from elicit.training.examples import Heads, collate
from elicit.training.packing import Batch, packed_logits, packs, padded_logits, share_of
from elicit.training.trunk import Trunk
from elicit.training.validation import TOGETHER, Validation

# A pack is held in memory for its backward pass, and on a GPU its attention costs the square of its tokens; every further pack
# costs the launch of all kernels.
PACK_TOKENS = {"cpu": 768, "cuda": 4096}
COMPARED = 16  # logits in which a quick way is compared with the plain one: at most so many, or those of two examples
HALF = 1e-4  # the eps of a dtype of half precision is above it

Logits = Callable[[Any, Batch, Sequence[Sequence[int]]], torch.Tensor]


class LengthGrouped(Sampler):  # type: ignore[type-arg]  # a generic class only for type checkers
    """Examples in an order that puts those of like length together.

    Args:
        lengths: of the examples.
        size: of the batches.
        seed: of the order, which is another one in each epoch.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths, self.size, self.seed, self.epoch = list(lengths), size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer as an epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.size, generator=drawn))


class VerdictTrainer(Trainer):  # type: ignore[misc]
    """transformers' `Trainer` with our loss.

    Args:
        heads: what the examples' sequences begin with.
        validation: on which `evaluate` measures loss and AUROC.
        first_layer: layers below this one are frozen, and what they make of an example is computed once.
    """

    def __init__(
        self,
        *arguments: Any,
        heads: Heads,
        validation: Validation,
        first_layer: int = 0,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self.heads, self.validation = heads, validation
        self.room = PACK_TOKENS.get(self.args.device.type, 4096)
        # Of products, whatever the dtype of the weights is: those that learn are float32 where the model is to be bfloat16.
        self.half = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
        self.trunk = Trunk(self.model, first_layer, self.train_dataset, self.room, self.half) if first_layer else None
        # The loss is divided by all counts of an optimiser step, over devices and accumulated batches, and says so.
        self.model_accepts_loss_kwargs = True
        self._seen = torch.zeros(2, device=self.args.device)  # since the last log: weighted losses, and their weights
        self._ways: dict[str, bool] = {}  # by name: whether a quick way was found to give the plain way's logits

    def get_train_dataloader(self) -> Any:
        """The batches of one process, in every process: `get_batch_samples` takes this one's share of each."""
        loader = super().get_train_dataloader()
        if self.accelerator.num_processes > 1:
            # Otherwise whole batches would be dealt out, and examples repeated until all processes have as many.
            loader.batch_sampler.num_processes, loader.batch_sampler.process_index = 1, 0
            loader.batch_sampler.even_batches = False
        return loader

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Batch], torch.Tensor]:
        """The batches of an optimiser step, of each the share of this process, and the sum of all their counts."""
        batches, count = super().get_batch_samples(*arguments)
        accelerator = self.accelerator
        return [share_of(batch, accelerator.process_index, accelerator.num_processes) for batch in batches], count

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """What all that is learnt in one optimiser step counts."""
        return torch.stack([batch["counts"].sum() for batch in batch_samples]).sum().to(device)

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward for one pack after the other: the activations of one alone take up memory."""
        batch = self._prepare_inputs(inputs)
        whole = (
            num_items_in_batch is None
            or self.accelerator.num_processes > 1  # a backward pass ends in an exchange, of which all must have as many
            or self._way(model, batch) is padded_logits
        )
        parts = [batch] if whole else packs(batch, self.heads, self.room)
        return torch.stack(
            [super(VerdictTrainer, self).training_step(model, part, num_items_in_batch) for part in parts]
        ).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Weighted mean cross-entropy of the tokens that are learnt."""
        total = torch.zeros((), device=inputs["weights"].device)
        for logits, part in self._logits(model, inputs):
            there = part["reads"] >= 0
            losses = functional.cross_entropy(logits.float(), part["targets"][there], reduction="none")
            total = total + (part["weights"][there] * losses).sum()
        self._seen += torch.stack([total.detach(), inputs["weights"].sum()]).to(self._seen)
        if num_items_in_batch is None:
            loss = total / inputs["counts"].sum()
        else:
            # Gradients are averaged over devices afterwards.
            loss = total * self.accelerator.num_processes / num_items_in_batch
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        """The loss that is logged is a mean; that of a step is divided by counts, and grows with the weights that are in it."""
        if "loss" in logs:
            total, weights = self.accelerator.reduce(self._seen.clone(), "sum").tolist()
            logs = logs | {"loss": total / weights if weights else 0.0}
            self._seen.zero_()
        super().log(logs, *arguments, **named)

    def _logits(self, model: Any, batch: Batch) -> Iterator[tuple[torch.Tensor, Batch]]:
        """Pairs of logits and the part of the batch that they are of."""
        way = self._way(model, batch)
        if way is padded_logits:
            yield padded_logits(model, batch, self.heads), batch
            return
        for part in packs(batch, self.heads, self.room):
            yield way(model, part, self.heads), part

    def _way(self, model: Any, batch: Batch) -> Logits:
        """The quickest way to the logits that this model understands."""
        if model is not self.model and not isinstance(model, DistributedDataParallel):
            return padded_logits  # a wrapper that may want the same forward passes in each process
        window = sliding_window(self.model)
        longest = int(batch["lengths"].max()) + max(map(len, self.heads))
        if window is not None and longest > window:
            return padded_logits  # a mask of our own would undo the window
        trunk = self.trunk if int(batch["numbers"].min()) >= 0 else None
        if trunk is not None and self._agrees("cached lower layers", batch, trunk.logits):
            return trunk.logits
        return packed_logits if self._agrees("packed sequences", batch, packed_logits) else padded_logits

    def _agrees(self, name: str, batch: Batch, way: Logits) -> bool:
        """Whether a way gives the logits of padded rows; an architecture with state, say, carries it from row to row."""
        if name in self._ways:
            return self._ways[name]
        model = self.model
        read = (batch["reads"] >= 0).sum(1).cumsum(0)
        rows = max(2, int((read <= COMPARED).sum()))
        few = {key: values[:rows] for key, values in batch.items()}
        precision = torch.finfo(self.half or model.dtype).eps
        training = model.training
        model.eval()  # dropout would make them differ
        with torch.no_grad():
            right = padded_logits(model, few, self.heads).float()
            try:
                wrong = (way(model, few, self.heads).float() - right).norm(dim=-1) / right.norm(dim=-1)
            except FAILURES as error:
                reason, difference = f"{type(error).__name__}: {error}", float("inf")
            else:
                row = torch.nonzero(few["reads"] >= 0)[:, 0]
                # Half precision rounds single logits of a response, and single rows where an adapter is far from its start, as far
                # off as others are by what leaks into them; but what leaks does so into nearly all.
                by_row = [wrong[row == each].median() for each in torch.unique(row)]
                difference = float(wrong.max() if precision < HALF else torch.stack(by_row).mean())
                reason = f"logits differ by {difference:.3g} of their norm"
        model.train(training)
        self._ways[name] = difference <= max(1e-3, 8 * precision)
        if not self._ways[name]:
            kind = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
            warnings.warn(f"{kind} is trained without {name} ({reason})", RuntimeWarning, stacklevel=2)
        return self._ways[name]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Batches of like length in an order that depends on seed and epoch alone, so that a resumed training goes on in it."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGrouped(self.train_dataset["length"], size, self.args.seed)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Of several adapters keep the one that learns: with others beside it, it is not always the one that is read back."""
        if not isinstance(self.model, PeftModel):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = output_dir or self.args.output_dir
            self.model.save_pretrained(folder, selected_adapters=["default"], state_dict=state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.trunk is not None:
            self.trunk.freeze()  # PEFT lets all layers of an adapter learn when it reads one

    @torch.no_grad()
    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Mean loss, and AUROC of the verdicts' log-odds, on the validation examples; of several sources each one's too."""
        self.model.eval()
        labels, losses, odds, asked = list[bool](), list[float](), list[float](), list[int]()
        share = self.validation.examples[self.accelerator.process_index :: self.accelerator.num_processes]
        for start in range(0, len(share), TOGETHER):
            batch = self._prepare_inputs(collate(share[start : start + TOGETHER]))
            for logits, part in self._logits(self.model, batch):
                values, targets = logits.float(), part["targets"][:, 0]
                losses += functional.cross_entropy(values, targets, reduction="none").tolist()
                for row, head in zip(values, part["heads"].tolist(), strict=True):
                    odds.append(
                        float(row[self.validation.verdicts[head].flagged] - row[self.validation.verdicts[head].cleared])
                    )
                asked += (-1 - part["numbers"]).tolist()
                words = zip(targets.tolist(), part["heads"].tolist(), strict=True)
                labels += [token == self.validation.verdicts[head].flagged for token, head in words]
        self.model.train()
        labels, losses, odds = gather_object(labels), gather_object(losses), gather_object(odds)
        asked = gather_object(asked)
        found = aurocs(labels, odds, asked)
        metrics = {
            f"{metric_key_prefix}_loss": float(np.mean(losses)),
            f"{metric_key_prefix}_auroc": float(np.mean(list(found.values()))) if found else float("nan"),
        }
        if len(self.validation.sources) > 1:
            metrics |= {
                f"{metric_key_prefix}_auroc: {self.validation.sources[at]}": auroc for at, auroc in found.items()
            }
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def aurocs(labels: Sequence[bool], odds: Sequence[float], sources: Sequence[int]) -> dict[int, float]:
    """By source, the AUROC of its log-odds: those of two questions cannot be compared with each other.

    Args:
        labels, odds, sources: (n,) of each text its label, the log-odds of its verdict and the number of its source.

    Returns:
        NaN for a source whose odds are not all finite; nothing for one without both labels.
    """
    found = {}
    for source in sorted(set(sources)):
        rows = [row for row, number in enumerate(sources) if number == source]
        if not np.isfinite([odds[row] for row in rows]).all():
            found[source] = float("nan")
        elif len({labels[row] for row in rows}) == 2:
            found[source] = float(roc_auc_score([labels[row] for row in rows], [odds[row] for row in rows]))
    return found
