"""What is trained on: texts one by one, and texts packed into few-shot sequences, both as token ids with verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch

from elicit.domains import Domain
from elicit.errors import DomainError
from elicit.language_models.batches import pad_right
from elicit.language_models.local import LONGEST_SHOT, LocalModel
from elicit.language_models.prompts import EncodedText, VerdictPrompt

SHOTS = 8  # texts of one few-shot sequence


class Example(TypedDict):
    """One sequence with k verdicts.

    `suffix` are the token ids after the prompt's head, `reads` (k,) the places before the verdicts, `verdicts` (k,) their token
    ids, `weights` (k,) how much each counts in the loss, and `domain` is the number of the domain, which decides the head.
    """

    suffix: list[int]
    reads: list[int]
    verdicts: list[int]
    weights: list[float]
    domain: int


def examples_of(
    model: LocalModel,
    domain: Domain,
    number: int,
    texts: int,
    text_tokens: int,
    shots: float = 0.0,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Example]:
    """Examples of one domain: every text alone, and a share of them once more in few-shot sequences.

    Args:
        model: whose tokens.
        domain: has labels.
        number: which of the domains it is.
        texts: at most this many, half of them flagged as far as there are enough.
        text_tokens: longer texts lose their middle.
        shots: share of the texts that stand in few-shot sequences too, where each is asked after the labelled ones before it.
        weights: by text id, how much a text counts in the loss; 1 for those not named.
        seed: of the texts that meet in a sequence.

    Raises:
        DomainError: the domain lacks labels or a class, or all its texts are empty.
    """
    chosen = domain.require_labels().balanced_sample(texts)
    prompt = model.prompt(domain.question)
    encoded = prompt.encode(chosen.texts, text_tokens)
    rows = [row for row, text in enumerate(encoded) if text.reason is None]
    if not rows:
        raise DomainError(f"{domain.name}: no text can be read by the model's tokenizer")
    short = prompt.encode(chosen.texts, LONGEST_SHOT)
    mixed = np.random.default_rng(seed).permutation(rows)[: round(shots * len(rows))].tolist()
    room = model.context_length - len(prompt.head)
    sequences = [[row] for row in rows] + list(_sequences(mixed, short, prompt, room))
    out = []
    for sequence in sequences:
        pack = [((encoded if len(sequence) == 1 else short)[row], bool(chosen.labels[row])) for row in sequence]
        suffix, reads = prompt.sequence(pack)
        out.append(
            Example(
                suffix=suffix,
                reads=reads,
                verdicts=[prompt.verdict.flagged if flagged else prompt.verdict.cleared for _, flagged in pack],
                weights=[float((weights or {}).get(chosen.ids[row], 1.0)) for row in sequence],
                domain=number,
            )
        )
    return out


def collate(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Tensors of b examples with at most k verdicts each; where one has fewer, its `reads` end in −1."""
    most = max(len(example["reads"]) for example in examples)

    def filled(values: Sequence[float], rest: int) -> list[float]:
        return [*values, *[rest] * (most - len(values))]

    return {
        "suffixes": pad_right([example["suffix"] for example in examples]),
        "lengths": torch.tensor([len(example["suffix"]) for example in examples]),
        "reads": torch.tensor([filled(example["reads"], -1) for example in examples]),
        "verdicts": torch.tensor([filled(example["verdicts"], 0) for example in examples]),
        "weights": torch.tensor([filled(example["weights"], 0) for example in examples], dtype=torch.float32),
        "domains": torch.tensor([example["domain"] for example in examples]),
    }


def _sequences(
    rows: Sequence[int], texts: Sequence[EncodedText], prompt: VerdictPrompt, room: int
) -> Iterator[list[int]]:
    """The rows in sequences of at most `SHOTS` that fit into the room; a text that would stand alone is left out."""
    held: list[int] = []
    for row in rows:
        if len(held) == SHOTS or len(prompt.sequence([(texts[r], True) for r in [*held, row]])[0]) > room:
            if len(held) > 1:
                yield held
            held = []
        held.append(row)
    if len(held) > 1:
        yield held
