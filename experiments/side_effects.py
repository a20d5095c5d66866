"""What training on verdicts does besides: does the model still read the question and follow instructions, and does it transfer?

A plan is a training, by the options of `TrainingConfig` in which it differs from verdicts alone; the first plan is what others are
compared with. Every plan is trained on the same texts, once per seed, and asked the same questions.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elicit.domains import Domain
from elicit.evaluation import Resampled, difference, mean_over_seeds
from elicit.evaluation.bootstrap import in_words, undefined
from elicit.evaluation.prompt_change import OTHERS, PromptChange, prompt_change
from elicit.evaluation.retention import Retention, retention
from elicit.monitors import KeywordMonitor, Scores, VerdictMonitor
from elicit.reports.cells import percent, share, signed
from elicit.reports.page import Table
from elicit.training import TrainingConfig
from elicit.training.instructions import own_instructions
from experiments.experiment import Folder, compared, held_out

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Preset:
    """Sizes of an experiment on side effects.

    Attributes:
        source: what is trained on; its test texts are what the questions are about.
        targets: where transfer is measured.
        plans: by name, the options of each training.
        seeds: of training.
        source_texts, epochs: of each training.
        suite_texts: test texts of the source about which every question is asked.
        pairs: held-out instructions.
        test_texts: at most this many of each target.
        model: catalogue name, folder or hub id.
    """

    source: str
    targets: tuple[str, ...]
    plans: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    source_texts: int
    epochs: float
    suite_texts: int
    pairs: int
    test_texts: int
    model: str = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Measured:
    """One plan: means over seeds, with resamples that drew the same for all plans."""

    following: dict[str, Resampled]
    deaf: dict[str, Resampled]
    accuracy: dict[str, Resampled]
    loss_growth: Resampled | None
    pass_rate: Resampled


def measure(preset: Preset, folder: Folder) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per plan for questions and instructions, a row per plan and target for transfer; and warnings."""
    source, targets = folder.domain(preset.source), [folder.domain(name) for name in preset.targets]
    suite = held_out(source, preset.suite_texts)
    tests = [held_out(target, preset.test_texts) for target in targets]
    part, warnings = folder.source(preset.source, targets, preset.source_texts), list[str]()
    rows = [*suite_rows(preset, folder, part, suite, warnings)]
    for test in tests:
        rows += transfer_rows(preset, folder, part, test)
    return rows, list(dict.fromkeys(warnings))


def suite_rows(
    preset: Preset, folder: Folder, part: Domain, suite: Domain, warnings: list[str]
) -> list[dict[str, Any]]:
    """Question-following and retention of every plan, beside the untrained model and the first plan."""
    runs = {UNTRAINED: [suites(preset, folder, part, suite, UNTRAINED, 0)]}
    runs |= {plan: [suites(preset, folder, part, suite, plan, seed) for seed in preset.seeds] for plan in preset.plans}
    before = runs[UNTRAINED][0][1]
    found = {
        plan: Measured(
            {kind: mean_over_seeds([changed.following(kind) for changed, _ in held]) for kind in OTHERS},
            {kind: mean_over_seeds([changed.deaf(kind) for changed, _ in held]) for kind in OTHERS},
            {
                kind: mean_over_seeds([changed.accuracy(kind) for changed, _ in held])
                for kind in dict.fromkeys(asked.kind for asked in held[0][0].asked)
            },
            None
            if plan == UNTRAINED
            else mean_over_seeds([kept.loss_growth(before) for _, kept in held], (-np.inf, np.inf)),
            mean_over_seeds([kept.pass_rate() for _, kept in held]),
        )
        for plan, held in runs.items()
    }
    untrained = found[UNTRAINED]
    following = {kind: {plan: measured.following[kind] for plan, measured in found.items()} for kind in OTHERS}
    growth = {plan: measured.loss_growth for plan, measured in found.items() if measured.loss_growth}
    answered = runs[UNTRAINED][0][0]
    rows: list[dict[str, Any]] = [
        {
            "kind": "question",
            "asked": each.kind,
            "question": vars(each.question),
            "differing": answered.differing(number),
        }
        for number, each in enumerate(answered.asked)
    ]
    for plan, measured in found.items():
        changed = runs[plan][0][0]
        warnings += [f"not asked: {skipped}" for skipped in changed.skipped]
        rows.append(
            {
                "kind": "suite",
                "plan": plan,
                "options": dict(preset.plans.get(plan, {})),
                "seeds": len(runs[plan]),
                "n": len(suite),
                "coverage": statistics.mean(_coverage(changed) for changed, _ in runs[plan]),
                "following": {kind: figure.to_json() for kind, figure in measured.following.items()},
                "following_by_seed": {
                    kind: [changed.following(kind).to_json()["value"] for changed, _ in runs[plan]] for kind in OTHERS
                },
                "following_versus_deaf": {
                    kind: difference(figure, measured.deaf[kind]) for kind, figure in measured.following.items()
                },
                "following_versus_twin": {kind: _twin(plan, preset.plans, following[kind]) for kind in OTHERS},
                "accuracy": {kind: figure.to_json() for kind, figure in measured.accuracy.items()},
                "instructions": preset.pairs,
                "loss_growth": undefined("it is what the loss is compared with")
                if measured.loss_growth is None
                else measured.loss_growth.to_json(),
                "pass_rate": measured.pass_rate.to_json(),
                "pass_rate_versus_untrained": _against(measured.pass_rate, untrained.pass_rate, measured is untrained),
                "loss_growth_versus_twin": _twin(plan, preset.plans, growth, low_is_good=True),
            }
        )
    return [
        *rows,
        *(
            row
            for kind in OTHERS
            for row in dilution_row(f"following of {kind} questions", preset.plans, following[kind], _sizes(rows[-1]))
        ),
        *dilution_row(
            "growth of the loss on instructions",
            preset.plans,
            growth,
            _sizes(rows[-1]) | {"n": preset.pairs},
            low_is_good=True,
        ),
    ]


def transfer_rows(preset: Preset, folder: Folder, part: Domain, test: Domain) -> list[dict[str, Any]]:
    """AUROC of every plan on a target, beside the first plan, the untrained model and keywords from the same labels."""
    scores: dict[str, Scores] = {
        UNTRAINED: folder.scores(test, UNTRAINED, lambda: folder.untrained(preset.model)),
        "keyword": folder.scores(test, "keyword", lambda: KeywordMonitor.fit_domains([part])),
    }
    for plan in preset.plans:
        for seed in preset.seeds:
            name = _name(plan, seed)
            scores[name] = folder.scores(test, name, lambda: trained(preset, folder, part, plan, seed))  # noqa: B023
    figures, n = compared(test, scores)
    means = {UNTRAINED: figures[UNTRAINED]}
    means |= {plan: mean_over_seeds([figures[_name(plan, seed)] for seed in preset.seeds]) for plan in preset.plans}
    first = means[next(iter(preset.plans))]
    rows: list[dict[str, Any]] = [
        {
            "kind": "transfer",
            "plan": plan,
            "target": test.name,
            "seeds": 1 if plan == UNTRAINED else len(preset.seeds),
            "n": n,
            "coverage": scores[UNTRAINED].coverage
            if plan == UNTRAINED
            else statistics.mean(scores[_name(plan, seed)].coverage for seed in preset.seeds),
            "auroc": found.to_json(),
            "versus_first": _against(found, first, found is first),
            "versus_twin": _twin(plan, preset.plans, means),
            "keyword_auroc": figures["keyword"].to_json(),
            "versus_keyword": difference(found, figures["keyword"]),
        }
        for plan, found in means.items()
    ]
    return [*rows, *dilution_row(f"AUROC on {test.name}", preset.plans, means, _sizes(rows[-1]))]


def suites(
    preset: Preset, folder: Folder, part: Domain, suite: Domain, plan: str, seed: int
) -> tuple[PromptChange, Retention]:
    """Both suites on one model, from disk where they were run before."""

    def work() -> dict[str, Any]:
        monitor = folder.untrained(preset.model) if plan == UNTRAINED else trained(preset, folder, part, plan, seed)
        pairs = own_instructions(preset.pairs, held_out=True)
        return {
            "prompt_change": prompt_change(monitor.model, suite).held(),
            "retention": retention(monitor.model, pairs).held(),
        }

    held = folder.part(work, what="suites", plan=plan, seed=seed)
    return PromptChange.from_held(held["prompt_change"]), Retention.from_held(held["retention"])


def trained(preset: Preset, folder: Folder, part: Domain, plan: str, seed: int) -> VerdictMonitor:
    """The monitor of a plan."""
    config = TrainingConfig(texts=preset.source_texts, epochs=preset.epochs, **preset.plans[plan])
    judges = folder.judges(preset.source)
    return folder.trained(_name(plan, seed), folder.untrained(preset.model), [part], config, seed, judges)


def tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Questions and instructions by plan, and transfer by plan and target."""
    suite = [row for row in rows if row["kind"] == "suite"]
    return [
        Table(
            "Questions and instructions: means over seeds, 95 % intervals over texts or templates, and seeds",
            (
                "Plan",
                "Inverted question",
                "Above not hearing it",
                "Unrelated questions",
                "Above not hearing them",
                "Loss on instructions",
                "Instructions right",
                "Above untrained",
                "Coverage",
            ),
            [
                (
                    row["plan"],
                    *(
                        cell
                        for kind in OTHERS
                        for cell in (row["following"][kind], signed(row["following_versus_deaf"][kind]))
                    ),
                    percent(row["loss_growth"], signed=True),
                    row["pass_rate"],
                    signed(row["pass_rate_versus_untrained"]),
                    share(row["coverage"]),
                )
                for row in suite
            ],
        ),
        Table(
            "What was asked",
            ("Kind", "Question", "Words", "Texts to flag that the trained one clears", "Texts to clear that it flags"),
            [
                (
                    row["asked"],
                    row["question"]["text"],
                    f"{row['question']['flagged']}, {row['question']['cleared']}",
                    *row["differing"],
                )
                for row in rows
                if row["kind"] == "question"
            ],
        ),
        Table(
            "Right answers by kind of question",
            ("Plan", *suite[0]["accuracy"]),
            [(row["plan"], *row["accuracy"].values()) for row in suite],
        ),
        Table(
            "Transfer: means over seeds, 95 % intervals over texts and seeds",
            (
                "Plan",
                "Target",
                "AUROC",
                "Above the first plan",
                "Keywords, same labels",
                "Above keywords",
                "Texts",
                "Coverage",
            ),
            [
                (
                    row["plan"],
                    row["target"],
                    row["auroc"],
                    signed(row["versus_first"]),
                    row["keyword_auroc"],
                    signed(row["versus_keyword"]),
                    row["n"],
                    share(row["coverage"]),
                )
                for row in rows
                if row["kind"] == "transfer"
            ],
        ),
    ]


def sentences(rows: Sequence[Mapping[str, Any]], first: str) -> list[str]:
    """What each plan changed against the first one, as far as the paired intervals say."""
    found = []
    for row in (row for row in rows if row["kind"] == "suite"):
        plan, growth = row["plan"], row["loss_growth"]
        heard = ", ".join(
            f"{asked} {'are' if kind == 'unrelated' else 'is'} {hearing(row['following'][kind])}"
            for kind, asked in zip(OTHERS, ("the inverted question", "unrelated questions"), strict=True)
        )
        if plan == UNTRAINED:
            found.append(f"The untrained model: {heard}.")
            continue
        said = f"{plan}: {heard}, loss on instructions {in_words(growth, '.0%', '+')}"
        for transfer in (other for other in rows if other["kind"] == "transfer" and other["plan"] == plan):
            auroc = transfer["auroc"]
            reading = "" if plan == first else f" ({transfer['versus_first']['reading']})"
            said += f", AUROC {in_words(auroc)} on {transfer['target']}{reading}"
        found.append(f"{said}.")
    return found


def hearing(following: Mapping[str, Any]) -> str:
    """Whether a question is answered, as far as the interval of question-following tells."""
    if following["value"] is None:
        return "not to be told apart from the trained one here"
    said = "not settled to be answered"
    if following["low"] > 0.5:
        said = "answered"
    elif following["high"] < 0.5:
        said = "not answered"
    return f"{said} ({in_words(following, '.2f')})"


def _against(found: Resampled, other: Resampled, same: bool) -> dict[str, Any]:
    return undefined("it is what others are compared with") if same else difference(found, other)


def _twin_of(plan: str, plans: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The plan that is the same but for its loss, the mean over examples, of a plan that is trained on the mean over tokens."""
    options = dict(plans.get(plan, {}))
    if options.get("loss") != "token":
        return None
    return next((name for name, held in plans.items() if dict(held) == options | {"loss": "example"}), None)


def _twin(
    plan: str, plans: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Resampled], low_is_good: bool = False
) -> dict[str, Any]:
    """Difference from the plan that is the same but for its loss: that of the mean over tokens less that over examples."""
    twin = _twin_of(plan, plans)
    if twin is None:
        return undefined("it has no twin that is trained on the mean over examples")
    return _reading(difference(figures[plan], figures[twin]), low_is_good)


def dilution_row(
    what: str,
    plans: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Resampled],
    sizes: Mapping[str, Any],
    low_is_good: bool = False,
) -> list[dict[str, Any]]:
    """A row: the same difference of one figure in the mean over all plans that have a twin; no row where none has one.

    Texts and seeds are drawn alike for all plans, so that the mean of their resamples is a resample of their mean.
    """
    pairs = {plan: twin for plan in plans if (twin := _twin_of(plan, plans))}
    if not pairs:
        return []
    tokens, examples = (_mean([figures[plan] for plan in side]) for side in (pairs.keys(), pairs.values()))
    found = _reading(difference(tokens, examples), low_is_good)
    return [{"kind": "dilution", "figure": what, "plans": len(pairs), **sizes, "difference": found}]


def _sizes(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("seeds", "n", "coverage")}


def _mean(figures: Sequence[Resampled]) -> Resampled:
    replicates = np.mean([figure.replicates for figure in figures], axis=0)
    return Resampled(statistics.fmean(figure.value for figure in figures), replicates, figures[0].bounds)


def _reading(found: dict[str, Any], low_is_good: bool) -> dict[str, Any]:
    turned = {"better": "worse", "worse": "better"} if low_is_good else {}
    return found | {"reading": turned.get(found["reading"], found["reading"])}


def _coverage(changed: PromptChange) -> float:
    return float(np.isfinite(changed.odds).mean())


def _name(plan: str, seed: int) -> str:
    return f"{plan.replace(', ', '-').replace(' ', '-')}-{seed}"


MEASURED = (
    "Question-following is the AUROC of log-odds for the question asked, on the texts for which it and the trained question have "
    "different right answers: above 0.5 the question asked is answered, below 0.5 texts are ranked the other way, as by the "
    "trained one, and a leaning to one word does not count. Beside it stands how far that lies above what the log-odds under the "
    "trained question have there, which a model that does not hear the question gives. The wordings asked here were never trained "
    "on.",
    "Loss on instructions is the mean negative log-likelihood of held-out responses, as growth over the untrained model’s; right "
    "answers are those that a program can check.",
    "All trainings see the same texts. Every figure is a mean over seeds; intervals draw texts, or templates of "
    "instructions, and seeds, the same for all plans, so that differences are paired.",
)
