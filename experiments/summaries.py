"""How good are summaries by untrained and trained models, and does the verdict survive when the monitor reads them?

References that experts wrote say how good a summary is: ROUGE of what a model writes, and how likely it finds what the expert
wrote. Texts of a labelled domain say what a summary keeps of what the question is about: monitors score the texts, and then
summaries of them by the untrained and by the trained model.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elicit.domains import Domain
from elicit.domains.reference_summaries import ReferenceSummary, load_reference_summaries
from elicit.evaluation import Resampled, difference, mean_over_seeds
from elicit.evaluation.bootstrap import in_words, resampled_means, undefined
from elicit.evaluation.summaries import INSTRUCTION, ROUGE, Survival, copied, reference_losses, rouge, survival_figures
from elicit.language_models.generation import Generation
from elicit.monitors import KeywordMonitor, Monitor, VerdictMonitor
from elicit.reports.cells import share, signed
from elicit.reports.charts import Interval, intervals
from elicit.reports.drawing import Drawing
from elicit.reports.page import Section, Table
from elicit.training import TrainingConfig
from experiments.experiment import Findings, Folder, held_out

UNTRAINED, TRAINED, LEAD = "untrained", "trained", "first sentence"
MODELS = (UNTRAINED, TRAINED)
FIGURES = (*ROUGE, "loss")
TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "loss": "loss on references"}


@dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
        source: what the trained model was trained on.
        target: labelled texts, of which some need a summary.
        seeds: of training.
        source_texts, epochs: of training.
        test_texts: at most this many of the target.
        references: pairs of text and expert's summary.
        tokens: of a summary.
        model: catalogue name, folder or hub id.
    """

    source: str
    target: str
    seeds: tuple[int, ...]
    source_texts: int
    epochs: float
    test_texts: int
    references: int
    tokens: int
    model: str = "smollm2-135m-instruct"


PRESETS = {
    "smoke": Preset("vader/amazon", "vader/movie", (0,), 16, 1.0, 12, 4, 8),
    "default": Preset("pyrit/objective", "pyrit/harm", (0, 1, 2), 160, 3.0, 100, 60, 48),
    "full": Preset("pyrit/objective", "pyrit/harm", (0, 1, 2, 3, 4), 2000, 2.0, 500, 250, 96),
}


def run_summaries(preset: Preset, folder: Folder) -> Findings:
    """Quality against references, and survival of the verdict."""
    target = folder.domain(preset.target)
    source = folder.source(preset.source, [target], preset.source_texts)
    test, pairs = held_out(target, preset.test_texts), load_reference_summaries(preset.references)
    work = _Work(preset, folder, source)
    rows = work.quality(pairs) + work.survival(test)
    return Findings(rows, summary(rows), sections(rows), MEASURED)


@dataclass(frozen=True)
class _Work:
    preset: Preset
    folder: Folder
    source: Domain

    def model(self, name: str, seed: int) -> VerdictMonitor:
        start = self.folder.untrained(self.preset.model)
        if name == UNTRAINED:
            return start
        config = TrainingConfig(texts=self.preset.source_texts, epochs=self.preset.epochs)
        judges = self.folder.judges(self.preset.source)
        return self.folder.trained(f"trained-{seed}", start, [self.source], config, seed, judges)

    def seeds(self, name: str) -> tuple[int, ...]:
        # The likeliest summary of the untrained model is the same whatever the seed.
        return self.preset.seeds[:1] if name == UNTRAINED else self.preset.seeds

    def written(self, name: str, seed: int, what: str, texts: Sequence[str]) -> list[Generation]:
        """Summaries by one model, from disk where an earlier call left them."""

        def write() -> list[dict[str, Any]]:
            model = self.model(name, seed).model
            found = model.generate(INSTRUCTION, texts, self.preset.tokens, description=f"summaries of {what}")
            return [{"text": answer.text, "finished": answer.finished, "reason": answer.reason} for answer in found]

        held = self.folder.part(write, summaries_of=what, by=name, seed=seed)
        # A model that ends at once has written nothing that could be read.
        return [
            Generation(
                each["text"], (), each["finished"], each["reason"] or (None if each["text"] else "it wrote nothing")
            )
            for each in held
        ]

    def quality(self, pairs: Sequence[ReferenceSummary]) -> list[dict[str, Any]]:
        """One row per model, and one for the text's first sentence."""
        texts, references = [pair.text for pair in pairs], [pair.summary for pair in pairs]
        lead = rouge([Generation(text.partition(" . ")[0]) for text in texts], references)
        values: dict[str, list[dict[str, np.ndarray]]] = {LEAD: [lead]}
        shares: dict[str, list[np.ndarray]] = {LEAD: [np.ones(len(pairs))]}
        for name in MODELS:
            values[name], shares[name] = [], []
            for seed in self.seeds(name):
                answers = self.written(name, seed, "abstracts", texts)
                losses = self.folder.part(
                    lambda: list(reference_losses(self.model(name, seed).model, texts, references)),  # noqa: B023
                    references_by=name,
                    seed=seed,
                )
                values[name].append(rouge(answers, references) | {"loss": np.array(losses)})
                shares[name].append(copied(answers, texts))
        rows = []
        for name, held in values.items():
            written = [np.isfinite(part["rouge1"]) for part in held]
            row: dict[str, Any] = {"kind": "quality", "model": name, "seeds": len(held)}
            row |= {"n": min(int(part.sum()) for part in written), "coverage": float(np.mean(written))}
            for key in FIGURES:
                row[key] = _means(held, key).to_json() if key in held[0] else undefined("it is no model")
                if name == TRAINED:
                    row[f"{key}_gain"] = _gain(held, values[UNTRAINED][0], key)
            row["copied"] = _defined_mean(shares[name])
            rows.append(row)
        return rows

    def survival(self, test: Domain) -> list[dict[str, Any]]:
        """One row per reader and writer: what the reader finds in the texts and in summaries of them."""
        rows = []
        for reader in (*MODELS, "keywords"):
            for writer in MODELS:
                pairs = [(seed, seed if writer == TRAINED else self.preset.seeds[0]) for seed in self.preset.seeds]
                if reader != TRAINED and writer != TRAINED:
                    pairs = pairs[:1]
                found = [self._survival(test, reader, mine, writer, other) for mine, other in pairs]
                rows.append(
                    {
                        "kind": "survival",
                        "reader": reader,
                        "writer": writer,
                        "seeds": len(found),
                        **survival_figures(found),
                    }
                )
        return rows

    def _survival(self, test: Domain, reader: str, seed: int, writer: str, other: int) -> Survival:
        answers = self.written(writer, other, test.name, test.texts)
        # An empty text is an unscored one.
        summaries = replace(test, texts=tuple(answer.text if answer.reason is None else "" for answer in answers))

        def load() -> Monitor:
            if reader == "keywords":
                return KeywordMonitor.fit_domains([self.source])
            return VerdictMonitor(self.model(reader, seed).model, test.question)

        name = f"{reader}-{seed if reader == TRAINED else 0}"
        of_texts = self.folder.scores(test, name, load)
        of_summaries = self.folder.scores(summaries, f"{name}-reads-{writer}-{other}", load)
        return Survival(of_texts, of_summaries, test.labels, test.groups)


def _means(held: Sequence[Mapping[str, np.ndarray]], key: str) -> Resampled:
    """Mean over texts and seeds of one figure, each resample drawing the same texts for all seeds."""
    known = np.all([np.isfinite(part[key]) for part in held], axis=0)
    return mean_over_seeds([resampled_means(part[key][known]) for part in held], (0.0, np.inf))


def _defined_mean(values: Sequence[np.ndarray]) -> float | None:
    """Mean over seeds of the mean over what is not NaN; None where nothing is."""
    means = [float(part[np.isfinite(part)].mean()) for part in values if np.isfinite(part).any()]
    return statistics.mean(means) if means else None


def _gain(held: Sequence[Mapping[str, np.ndarray]], before: Mapping[str, np.ndarray], key: str) -> dict[str, Any]:
    known = np.all([np.isfinite(part[key]) for part in (*held, before)], axis=0)
    after = mean_over_seeds([resampled_means(part[key][known]) for part in held], (0.0, np.inf))
    found = difference(after, resampled_means(before[key][known]))
    if key == "loss" and "reading" in found:  # the smaller, the better
        found["reading"] = {"better": "worse", "worse": "better"}.get(found["reading"], found["reading"])
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What training did to summaries, and what summaries do to verdicts."""
    quality = {row["model"]: row for row in rows if row["kind"] == "quality"}
    trained, before = quality[TRAINED], quality[UNTRAINED]
    higher, lower = {"better": "higher", "worse": "lower"}, {"better": "lower", "worse": "higher"}
    loss, overlap = trained["loss_gain"], trained["rougeL_gain"]
    sentences = [
        f"ROUGE-L against experts’ summaries is {_number(before['rougeL'])} for the untrained model, "
        f"{_number(trained['rougeL'])} after training on verdicts ({_said(overlap, higher)}), and "
        f"{_number(quality[LEAD]['rougeL'])} for the first sentence of the text.",
        f"The loss on experts’ summaries is {_number(before['loss'])} nats a token before training and "
        f"{_number(trained['loss'])} after it ({_said(loss, lower)}).",
    ]
    for row in rows:
        if row["kind"] == "survival" and row["reader"] == TRAINED:
            lost = row["auroc_difference"]
            what = f"{in_words(lost, '.3f', '+')}, from {_number(row['auroc_text'])} on the texts"
            same = row["same_verdict"]["value"]
            sentences.append(
                f"The trained monitor gives a summary by the {row['writer']} model the same verdict as its text in "
                f"{'an undefined share' if same is None else f'{same:.0%}'} of the cases; AUROC changes by {what}."
            )
    return sentences


def _number(entry: Mapping[str, Any]) -> str:
    return "undefined" if entry["value"] is None else f"{entry['value']:.3f}"


def _said(entry: Mapping[str, Any], words: Mapping[str, str]) -> str:
    if entry["value"] is None:
        return "the difference is undefined"
    return words.get(entry["reading"], entry["reading"])


def sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Quality, and survival of the verdict."""
    quality = [row for row in rows if row["kind"] == "quality"]
    survival = [row for row in rows if row["kind"] == "survival"]
    rouges = {TITLES[key]: [Interval.of(row["model"], row[key]) for row in quality] for key in ROUGE}
    read = {
        f"read by {reader}": [
            Interval.of("the text itself", own[0]["auroc_text"]),
            *(Interval.of(f"summary, {row['writer']}", row["auroc_summary"]) for row in own),
        ]
        for reader in (*MODELS, "keywords")
        if (own := [row for row in survival if row["reader"] == reader])
    }
    drawings = [
        Drawing(
            "rouge",
            "intervals",
            "ROUGE against experts’ summaries, by model, with intervals; the figures are in the table.",
            intervals(rouges, "F-measure"),
        ),
        Drawing(
            "survival",
            "intervals",
            "AUROC on texts and on summaries of them, by the monitor that reads; the figures are in the table.",
            intervals(read, "AUROC", references={"chance": 0.5}),
        ),
    ]
    table = Table(
        "Summaries of abstracts against those of experts",
        ("Summary by", *TITLES.values(), "ROUGE-L gain", "Loss growth", "Copied", "Texts", "Coverage"),
        [
            (
                row["model"],
                *(row[key] for key in FIGURES),
                *(signed(row[f"{key}_gain"]) if f"{key}_gain" in row else None for key in ("rougeL", "loss")),
                None if row["copied"] is None else share(row["copied"]),
                row["n"],
                share(row["coverage"]),
            )
            for row in quality
        ],
    )
    kept = Table(
        "The same monitor reads the texts, and summaries of them",
        ("Reader", "Summary by", "AUROC, text", "AUROC, summary", "Difference", "Same verdict", "Texts", "Coverage"),
        [
            (
                row["reader"],
                row["writer"],
                row["auroc_text"],
                row["auroc_summary"],
                signed(row["auroc_difference"]),
                row["same_verdict"],
                row["n"],
                share(row["coverage"]),
            )
            for row in survival
        ],
    )
    return [
        Section("Quality", drawings=drawings[:1], tables=[table]),
        Section("Does the verdict survive?", drawings=drawings[1:], tables=[kept]),
    ]


MEASURED = (
    "Summaries take the likeliest token at each step, under one instruction for all models.",
    "Quality is measured on abstracts of papers and summaries that experts wrote of them: F-measures of ROUGE with stemmed words, "
    "and the mean negative log-likelihood of the expert’s tokens. Copied is the share of a summary’s pairs of neighbouring "
    "words that stand in its text.",
    "Differences between models are paired: the same texts in each draw. Survival draws test texts and seeds.",
    "A verdict is whether a score lies above the threshold that calibration without labels finds among texts, or among summaries.",
    "A text of which nothing was written stays unscored, and is left out of both sides of the comparison.",
)
