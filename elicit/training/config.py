"""What a training is asked for: sizes, rates, schedule, and which weights learn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from elicit.domains import Domain
from elicit.errors import DomainError, RunError
from elicit.training.examples import Loss
from elicit.training.instructions import OWN

Schedule = Literal["classification", "mixed", "classification-then-instruction", "instruction-then-classification"]

EXAMPLES, MOST_EPOCHS = 800, 10.0  # of few labels: so many examples, but no text more often than that


@dataclass(frozen=True)
class TrainingConfig:
    """How a monitor is trained.

    Attributes:
        texts: at most this many texts of each domain, half of them flagged as far as there are enough.
        epochs: passes over the examples.
        batch_size: examples per batch, of which several processes take a share each.
        learning_rate: peak rate; it warms up over 6 % of the steps and falls to 0 along a cosine.
        rank: rank of the LoRA matrices; their scale alpha is twice the rank.
        target_modules: names of the linear layers that get them, such as "q_proj"; all linear layers where none is named.
        source_weights: by domain name, how much a text of that source counts in the loss; 1 for those not named.
        text_tokens: longer texts lose their middle in training.
        shots: share of the texts that are learnt from in few-shot sequences too, besides each on its own.
        schedule: verdicts alone, mixed with instructions, or one after the other in stages of their own.
        instructions: where instructions come from; see `load_instructions`.
        instruction_share: share of the examples that are instructions, where the schedule has any.
        loss: "example" lets an instruction count as much as one verdict; "token" lets each token of its response do so.
        temperature: of the mixture of domains; see `mixture`.
        inverted: share of the texts whose question is inverted, and their verdict with it; a half leaves no verdict to learn
            without the question.
        wordings: share of the texts that are asked about once more, in another wording, inverted, or about something else.
        first_layer: layers below this one stay as they are, and what they make of an example is computed once.
        full: train all weights (of the layers that learn) instead of a LoRA adapter; that takes a lower rate, 2e-5 say.
        accumulation: batches per optimiser step.
        gradient_checkpointing: compute activations again in the backward pass, which takes less memory and more time.
        length_grouping: batches of examples of like length, which saves padding where a model takes no packs.
        patience: stop after so many validations without a better AUROC, and keep the best; 0 trains to the end.
    """

    texts: int = 800
    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 16
    target_modules: tuple[str, ...] = ()
    source_weights: Mapping[str, float] = field(default_factory=dict)
    text_tokens: int = 512
    shots: float = 0.0
    schedule: Schedule = "classification"
    instructions: str = OWN
    instruction_share: float = 0.25
    loss: Loss = "example"
    temperature: float = 1.0
    inverted: float = 0.0
    wordings: float = 0.0
    first_layer: int = 0
    full: bool = False
    accumulation: int = 1
    gradient_checkpointing: bool = False
    length_grouping: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RunError(f"{name} is {value}; it must be a finite number")

    def to_json(self) -> dict[str, Any]:
        """All values, by which a training is known again; an option that came later is among them only where it is used."""
        held: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not self.inverted:
            del held["inverted"]
        return held

    def long_enough(self, labels: int) -> TrainingConfig:
        """For so many labels alone: few are learnt more often, since a monitor that is hardly trained shows nothing of them."""
        return replace(self, epochs=max(self.epochs, min(MOST_EPOCHS, EXAMPLES / max(1, labels))))

    def steps(self, examples: int) -> int:
        """Steps of one stage over so many examples."""
        return max(1, round(examples * self.epochs / (self.batch_size * self.accumulation)))


def check_source_weights(config: TrainingConfig, domains: Sequence[Domain]) -> None:
    """Refuse a weight for a source that is not there.

    Raises:
        DomainError: there is one, or one below 0.
    """
    names = [domain.name for domain in domains]
    for name, weight in config.source_weights.items():
        if name not in names or not 0 <= weight < float("inf"):
            raise DomainError(
                f"a weight of {weight} for {name!r}: name one of {', '.join(names)}, and a weight of 0 or more"
            )
