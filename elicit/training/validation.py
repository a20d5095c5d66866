"""Labelled texts of the sources that a training is looked at on, and never learns from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from elicit.domains import Domain, drop_overlap
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import Verdict
from elicit.training.examples import Example, Heads, verdict_examples

MOST = 200  # texts of each source
CHECKS = 5  # validations, and checkpoints, of one stage
TOGETHER = 64  # texts per forward pass
ENOUGH = 20  # of each class, whose AUROC can be told from chance: its standard error there is 0.09


def check_interval(steps: int) -> int:
    """Steps of a stage from one validation, and one checkpoint, to the next."""
    return max(1, steps // CHECKS)


def validation_parts(sources: Sequence[Domain], texts: int = MOST) -> list[Domain]:
    """Texts of the sources' calibration splits, at most so many of each, that no source learns from.

    There are none of a source whose split lacks a class.
    """
    parts = []
    for source in sources:
        with suppress(DomainError):
            parts.append(unlearnt(source.calibration, source, sources).require_labels().balanced_sample(texts))
    return parts


def unlearnt(part: Domain, of: Domain, sources: Sequence[Domain]) -> Domain:
    """A split of one of the sources without the texts that stand in another's training split."""
    return drop_overlap(part, [source.train for source in sources if source is not of])


@dataclass(frozen=True)
class Validation:
    """Examples of one verdict each.

    Attributes:
        examples: the `number` of each is −1 less the place of its domain among the sources.
        verdicts: by number of a question's beginning, its verdict words.
        sources: names of the domains.
    """

    examples: Sequence[Example]
    verdicts: dict[int, Verdict]
    sources: Sequence[str]

    @classmethod
    def of(cls, model: LocalModel, domains: Sequence[Domain], heads: Heads, text_tokens: int) -> Validation:
        """At most `MOST` texts of each domain; `heads` receives the beginnings, and longer texts lose their middle."""
        examples, verdicts = list[Example](), dict[int, Verdict]()
        for at, domain in enumerate(domains):
            prompt = model.prompt(domain.question)
            verdicts[heads.number(prompt.head)] = prompt.verdict
            found = verdict_examples(model, domain.require_labels().balanced_sample(MOST), heads, text_tokens)
            examples += [Example(**{**example, "number": -1 - at}) for example in found]
        return cls(examples, verdicts, [domain.name for domain in domains])

    def is_flagged(self, example: Example) -> bool:
        """The example's label."""
        return example["targets"][0] == self.verdicts[example["head"]].flagged

    def rarer_class(self) -> dict[str, int]:
        """By source, examples of its rarer verdict: so many an AUROC rests on."""
        labels: dict[str, list[bool]] = {name: [] for name in self.sources}
        for example in self.examples:
            labels[self.sources[-1 - example["number"]]].append(self.is_flagged(example))
        return {name: min(sum(held), len(held) - sum(held)) for name, held in labels.items()}
