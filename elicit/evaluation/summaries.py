"""Summaries: how close they come to references, and whether a monitor that reads them finds what it finds in the texts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer

from elicit.evaluation.agreement import difference, paired_aurocs
from elicit.evaluation.bootstrap import Resampled, bootstrap_weights, mean_over_seeds, undefined, weighted_mean
from elicit.language_models.generation import Generation
from elicit.language_models.local import LocalModel
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.scores import Scores

Floats = NDArray[np.float64]
INSTRUCTION = "Summarise the text in at most three short sentences."
ROUGE = ("rouge1", "rouge2", "rougeL")


def rouge(summaries: Sequence[Generation], references: Sequence[str]) -> dict[str, Floats]:
    """(n,) F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (Lin, 2004) with stemmed words; NaN where there is no summary."""
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = {kind: np.full(len(summaries), np.nan) for kind in ROUGE}
    for row, (summary, reference) in enumerate(zip(summaries, references, strict=True)):
        if summary.reason is None:
            for kind, score in scorer.score(reference, summary.text).items():
                found[kind][row] = score.fmeasure
    return found


def copied(summaries: Sequence[Generation], texts: Sequence[str]) -> Floats:
    """(n,) share of a summary's pairs of neighbouring words that stand in its text; NaN where there is no summary."""
    scorer = RougeScorer(["rouge2"], use_stemmer=True)
    return np.array(
        [
            np.nan if summary.reason is not None else scorer.score(text, summary.text)["rouge2"].precision
            for summary, text in zip(summaries, texts, strict=True)
        ],
        dtype=np.float64,
    )


def reference_losses(model: LocalModel, texts: Sequence[str], references: Sequence[str]) -> Floats:
    """(n,) mean negative log-likelihood of each reference's tokens, in nats, after the instruction and its text."""
    pairs = [(f"{INSTRUCTION}\n\nText:\n{text}", held) for text, held in zip(texts, references, strict=True)]
    return np.array([-values.mean() for values in model.response_log_likelihoods(pairs)])


@dataclass(frozen=True)
class Survival:
    """What a monitor finds in n texts and in summaries of them; figures are on the texts that have both scores.

    Attributes:
        of_texts, of_summaries: scores of the same texts in the same order; what has no summary is unscored.
        labels, groups: (n,) of the texts.
    """

    of_texts: Scores
    of_summaries: Scores
    labels: Sequence[int | None]
    groups: Sequence[Hashable | None] | None = None

    @property
    def both(self) -> NDArray[np.bool_]:
        """(n,) True where the text and its summary were scored."""
        return self.of_texts.scored & self.of_summaries.scored

    def same_verdict(self) -> Resampled:
        """How often both verdicts are the same.

        A verdict is whether a score lies above the threshold that calibration without labels finds among the scores of its kind.
        """
        both = self.both
        read = [np.where(both, scores.values, np.nan) for scores in (self.of_texts, self.of_summaries)]
        of_text, of_summary = (fit_calibration(values).flagged(values) for values in read)
        # Of all texts, whichever have both scores: so other seeds and writers are measured under the same draws.
        strata = [int(label == 1) for label in self.labels]
        drawn = bootstrap_weights(strata, self.groups)
        weights = np.concatenate([np.ones((1, len(strata)), np.float32), drawn])
        return weighted_mean(np.where(both, of_text == of_summary, np.nan), weights)

    def aurocs(self) -> tuple[Resampled, Resampled]:
        """AUROC on texts and on summaries, paired.

        Raises:
            ValueError: texts of one class alone have both scores.
        """
        scores = {"text": self.of_texts, "summary": self.of_summaries}
        figures, _ = paired_aurocs(scores, self.labels, self.groups)
        return figures["text"], figures["summary"]


def survival_figures(found: Sequence[Survival]) -> dict[str, Any]:
    """Means over seeds for JSON: AUROC on texts and on summaries, the paired difference, and how often verdicts are the same."""
    row: dict[str, Any] = {
        "n": min(int(each.both.sum()) for each in found),
        "coverage": float(np.mean([each.both.mean() for each in found])),
        "unscored": found[0].of_summaries.unscored(),
        "same_verdict": mean_over_seeds([each.same_verdict() for each in found]).to_json(),
    }
    try:
        pairs = [each.aurocs() for each in found]
    except ValueError as error:
        return row | dict.fromkeys(("auroc_text", "auroc_summary", "auroc_difference"), undefined(str(error)))
    text, short = (mean_over_seeds([pair[at] for pair in pairs]) for at in (0, 1))
    return row | {
        "auroc_text": text.to_json(),
        "auroc_summary": short.to_json(),
        "auroc_difference": difference(short, text),
    }
