"""What is trained on, as token ids: texts with their verdicts, alone or in few-shot sequences, and instructions with responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypedDict

import numpy as np
import torch

from elicit.domains import Domain, Question
from elicit.errors import DomainError
from elicit.language_models.batches import pad_right
from elicit.language_models.language_model import LONGEST_SHOT
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import ConversationPrompt, EncodedText, VerdictPrompt
from elicit.training.instructions import Instruction
from elicit.training.questions import inverted_questions, second_questions

SHOTS = 8  # texts of one few-shot sequence
LONGEST_RESPONSE = 256  # tokens of a response that are learnt from
Loss = Literal["example", "token"]
Texts = Mapping[int, EncodedText] | Sequence[EncodedText]  # by row
Answers = Mapping[int, bool] | Sequence[bool]


class Example(TypedDict):
    """One sequence with k tokens that are learnt.

    Attributes:
        number: which of all examples it is; below 0 for those that are only looked at.
        head: number of the token ids that it begins with, in `Heads`.
        suffix: token ids that follow.
        reads: (k,) places of the suffix after which a token is predicted.
        targets: (k,) those tokens.
        weights: (k,) how much each counts in the loss.
        count: what all of them would count together if nothing were weighed: 1 per text, and per response or token of one.
        where: what it was made of, for messages.
    """

    number: int
    head: int
    suffix: list[int]
    reads: list[int]
    targets: list[int]
    weights: list[float]
    count: float
    where: str


class Heads(list[list[int]]):
    """Token ids that sequences begin with, each once, so that a pack of sequences holds them once."""

    def number(self, head: Sequence[int]) -> int:
        """Where this beginning stands, after adding it if need be."""
        held = list(head)
        if held not in self:
            self.append(held)
        return self.index(held)


def mixture(domains: Sequence[Domain], texts: int, temperature: float) -> list[Domain]:
    """The labelled texts of each domain that are trained on, half of them flagged as far as there are enough.

    Args:
        domains: with labels.
        texts: at most this many different texts of each.
        temperature: shares of the domains are proportional to (number of texts)^(1/temperature): 1 leaves them as they are, a
            high one makes all domains alike, and texts of small domains then come up more than once.

    Raises:
        DomainError: a domain lacks labels or a class.
    """
    chosen = [domain.require_labels().balanced_sample(texts) for domain in domains]
    sizes = np.array([len(part) for part in chosen], dtype=np.float64)
    shares = (sizes / sizes.max()) ** (1 / temperature)
    counts = np.maximum(1, np.rint(shares / shares.sum() * sizes.sum())).astype(int)
    return [part.take(np.arange(count) % len(part)) for part, count in zip(chosen, counts, strict=True)]


def verdict_examples(
    model: LocalModel,
    domain: Domain,
    heads: Heads,
    text_tokens: int,
    inverted: float = 0.0,
    wordings: float = 0.0,
    shots: float = 0.0,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    weight: float = 1.0,
) -> list[Example]:
    """Examples of one domain: every text alone, and a share of them once more in few-shot sequences.

    Args:
        model: whose tokens.
        domain: what `mixture` chose; every row has a label.
        heads: receives the beginnings of the prompts.
        text_tokens: longer texts lose their middle.
        inverted: share of the texts whose question is inverted, and their verdict with it.
        wordings: share of the texts that are asked about once more, in another wording, inverted, or about something else in it.
        shots: share of the texts that stand in few-shot sequences too, where each is asked after the labelled ones before it.
        weights: by text id, how much a text counts in the loss; 1 for those not named. Besides, both classes count equally.
        seed: of wordings, and of the texts that meet in a sequence.
        weight: how much all of them count.

    Raises:
        DomainError: all the domain's texts are empty, or a row's verdict is not exactly one token at its end.
    """
    prompt = model.prompt(domain.question)
    encoded = prompt.encode(domain.texts, text_tokens)
    rows = [row for row, text in enumerate(encoded) if text.reason is None]
    if not rows:
        raise DomainError(f"{domain.name}: no text can be read by the model's tokenizer")
    labels = [bool(label) for label in domain.labels]
    balance = {
        flagged: len(rows) / 2 / max(1, sum(labels[row] == flagged for row in rows)) for flagged in (True, False)
    }
    counts = [
        weight * balance[labels[row]] * float((weights or {}).get(domain.ids[row], 1.0)) for row in range(len(domain))
    ]

    def example(pack: Sequence[int], texts: Texts, question: Question, right: Answers) -> Example:
        asked = model.prompt(question)
        suffix, reads = asked.sequence([(texts[row], right[row]) for row in pack])
        found = Example(
            number=-1,
            head=heads.number(asked.head),
            suffix=suffix,
            reads=reads,
            targets=[asked.verdict.flagged if right[row] else asked.verdict.cleared for row in pack],
            weights=[counts[row] for row in pack],
            count=float(len(pack)),
            where=f"{domain.name}, row {domain.ids[pack[0]]!r}",
        )
        prove(found, len(pack), asked)
        return found

    def other(row: int, question: Question, flagged: bool, text: EncodedText) -> Example:
        return example([row], {row: text}, question, {row: flagged})

    turned = inverted_questions(domain, rows, inverted, seed)
    out = []
    for row in rows:
        if row in turned:
            (text,) = model.prompt(turned[row]).encode([domain.texts[row]], text_tokens)
            out.append(other(row, turned[row], not labels[row], text))
        else:
            out.append(example([row], encoded, domain.question, labels))
    second = second_questions(domain, seed)
    again = np.random.default_rng([seed, 2]).permutation(rows)[: round(wordings * len(rows))].tolist()
    for row in again:
        question, flagged = second[row]
        # A longer question leaves less room, and what it asks about may have stood in the middle of a text that was cut.
        (text,) = model.prompt(question).encode([domain.texts[row]], text_tokens)
        if not text.truncated:
            out.append(other(row, question, flagged, text))
    short = prompt.encode(domain.texts, LONGEST_SHOT)
    first = {domain.ids[row]: row for row in reversed(rows)}
    once = [row for row in rows if first[domain.ids[row]] == row]  # a text never stands behind its own verdict
    mixed = np.random.default_rng(seed).permutation(once)[: round(shots * len(once))].tolist()
    packs = _sequences(mixed, short, prompt, model.context_length - len(prompt.head))
    return out + [example(pack, short, domain.question, labels) for pack in packs]


def instruction_examples(
    model: LocalModel, pairs: Sequence[Instruction], heads: Heads, loss: Loss = "example"
) -> list[Example]:
    """Examples of instructions: every token of the response is learnt, the one that ends it too.

    Args:
        model: whose tokens and chat format.
        pairs: instructions and responses; those that do not fit into the context are left out.
        heads: receives the beginning of the prompts.
        loss: "example" lets a response count as much as one verdict, however long it is; "token" lets each token do so.

    Raises:
        DomainError: no pair fits.
    """
    prompt = ConversationPrompt(model.tokenizer, model.context_length, LONGEST_RESPONSE)
    out = []
    for number, (text, response) in enumerate(
        zip(prompt.encode([pair.prompt for pair in pairs]), prompt.responses([p.response for p in pairs]), strict=True)
    ):
        if text.reason is not None or text.truncated:
            continue
        first = len(text.ids) + len(prompt.tail) - 1
        out.append(
            Example(
                number=-1,
                head=heads.number(prompt.head),
                suffix=[*prompt.suffix(text), *response[:-1]],
                reads=list(range(first, first + len(response))),
                targets=response,
                weights=[1.0 / len(response) if loss == "example" else 1.0] * len(response),
                count=1.0 if loss == "example" else float(len(response)),
                where=f"instruction {number}",
            )
        )
    if not out:
        raise DomainError("no instruction fits into the model's context; give shorter ones")
    return out


def numbered(examples: Sequence[Example]) -> list[Example]:
    """The examples of one stage with their numbers, and with weights that together are as much as their counts.

    The loss of a step is divided by the counts in it. Divided by the weights in it, a batch of one source or class, alone or with
    few others, would weigh as much as any other batch, whatever its source or class is to count. Those that count nothing go.

    Raises:
        DomainError: all weights are 0.
    """
    examples = [example for example in examples if any(example["weights"])]
    weights = sum(sum(example["weights"]) for example in examples)
    if not weights > 0:
        raise DomainError(
            "all examples have a weight of 0, so that there is nothing to learn; give one a greater weight"
        )
    scale = sum(example["count"] for example in examples) / weights
    return [
        Example(**{**example, "number": number, "weights": [scale * weight for weight in example["weights"]]})
        for number, example in enumerate(examples)
    ]


def prove(example: Example, count: int, prompt: VerdictPrompt) -> None:
    """One verdict token per text, each right after its prompt, the last one right after the sequence, and nothing else is learnt.

    Raises:
        DomainError: that is not so. The message names the row.
    """
    tail, words = prompt.tail, {prompt.verdict.flagged, prompt.verdict.cleared}
    ids = example["suffix"]
    right = (
        len(example["reads"]) == len(example["targets"]) == len(example["weights"]) == count
        and example["reads"][-1] == len(ids) - 1
        and all(ids[read + 1 - len(tail) : read + 1] == tail for read in example["reads"])
        and words.issuperset(example["targets"])
        and all(
            ids[read + 1] == target for read, target in zip(example["reads"][:-1], example["targets"], strict=False)
        )
    )
    if not right:
        raise DomainError(
            f"{example['where']}: its verdict is not exactly one token right after its prompt, so that training would learn "
            "something else; leave the row out, or name other verdict words"
        )


def collate(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Tensors of b examples with at most k learnt tokens each; where one has fewer, its `reads` end in −1."""
    most = max(len(example["reads"]) for example in examples)

    def filled(values: Sequence[float], rest: int) -> list[float]:
        return [*values, *[rest] * (most - len(values))]

    return {
        "suffixes": pad_right([example["suffix"] for example in examples]),
        "lengths": torch.tensor([len(example["suffix"]) for example in examples]),
        "reads": torch.tensor([filled(example["reads"], -1) for example in examples]),
        "targets": torch.tensor([filled(example["targets"], 0) for example in examples]),
        "weights": torch.tensor([filled(example["weights"], 0) for example in examples], dtype=torch.float32),
        "counts": torch.tensor([example["count"] for example in examples], dtype=torch.float32),
        "heads": torch.tensor([example["head"] for example in examples]),
        "numbers": torch.tensor([example["number"] for example in examples]),
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
