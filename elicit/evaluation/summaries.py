"""Summaries: how close they come to references, and whether a monitor that reads them finds what it finds in the texts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import spearmanr

from elicit.evaluation.agreement import difference, paired_aurocs
from elicit.evaluation.bootstrap import REPLICATES, resampled_means, undefined
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
    """What a monitor finds in n texts and in summaries of them.

    Attributes:
        of_texts, of_summaries: scores of the same texts in the same order; what has no summary is unscored.
        labels, groups: (n,) of the texts.
    """

    of_texts: Scores
    of_summaries: Scores
    labels: Sequence[int | None]
    groups: Sequence[Hashable | None] | None = None

    def to_json(self, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
        """AUROCs and their paired difference, and how often both verdicts are the same, on the texts that have both scores.

        A verdict is whether a score lies above the threshold that calibration without labels finds among the scores of its kind.
        """
        both = self.of_texts.scored & self.of_summaries.scored
        found: dict[str, Any] = {
            "n": int(both.sum()),
            "coverage": float(both.mean()) if len(both) else 0.0,
            "unscored": self.of_summaries.unscored(),
        }
        pair = {"text": self.of_texts, "summary": self.of_summaries}
        try:
            aurocs, _ = paired_aurocs(pair, self.labels, self.groups, replicates, seed)
        except ValueError as error:
            reason = undefined(str(error))
            found |= dict.fromkeys(("auroc_text", "auroc_summary", "auroc_difference"), reason)
        else:
            found |= {f"auroc_{kind}": figure.to_json() for kind, figure in aurocs.items()}
            found["auroc_difference"] = difference(aurocs["summary"], aurocs["text"])
        read = [part.values[both] for part in pair.values()]
        verdicts = [fit_calibration(values).flagged(values) for values in read]
        found["same_verdict"] = resampled_means(verdicts[0] == verdicts[1], seed, replicates).to_json()
        ranked = float(spearmanr(*read).statistic) if both.sum() > 2 and all(np.ptp(part) for part in read) else np.nan
        found["rank_correlation"] = ranked if np.isfinite(ranked) else None
        return found
