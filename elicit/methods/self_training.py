"""Self-training: a monitor fine-tuned on labels that a label-free search is sure of (Yarowsky, 1995; Lee, 2013).

In each round a teacher labels the target's texts from the present monitor, and a new LoRA monitor is trained on those labels of
which the teacher is sure, each weighted by how sure. Training starts from the same monitor in every round, so that what one round
got wrong is not inherited. Rounds end when the labels hardly change any more. No label that somebody gave plays a part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from elicit.domains import Row, UnlabelledDomain, make_domain
from elicit.domains.domain import FEWEST_ROWS
from elicit.domains.rules import pairs_of, repair
from elicit.errors import DomainError
from elicit.language_models.language_model import local_model
from elicit.methods.alarms import DRIFT, degenerate, low_mass, one_group
from elicit.methods.cost import START, Pass, Sizes
from elicit.methods.evidence import prior_log_odds
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.methods.state_consistency import cost_of_mass, state_consistency
from elicit.methods.states import PROBE_TEXTS
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.monitor import Monitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import TrainingConfig, train

ROUNDS = 3
FEWEST = 8  # scored texts that labels can be taken from
STILL = 0.02  # share of labels that may change in a round that is the last

Teacher = Callable[[VerdictMonitor, UnlabelledDomain, int], Elicited]


def _cost(sizes: Sizes) -> Iterator[Pass]:
    """As if the teacher were sure of all labels, and the last round were needed."""
    pool, model = sizes.train.at_most(PROBE_TEXTS), START
    yield pool.states()
    yield cost_of_mass(pool)
    for number in range(1, ROUNDS + 1):
        model = f"self-training, round {number}"
        yield pool.trained(TrainingConfig().long_enough(pool.count), model, at_most=True)
        yield pool.states(model, at_most=True)
        yield replace(cost_of_mass(pool, model), at_most=True)
    for texts in sizes.scored:
        yield texts.verdicts(model)


@label_free(
    "self-training",
    "fine-tuned on the labels of which state-consistency is sure, round by round until they stand still",
    _cost,
    "training",
)
def self_training(
    monitor: VerdictMonitor, target: UnlabelledDomain, seed: int, teacher: Teacher = state_consistency
) -> Elicited:
    """A LoRA monitor trained on a teacher's labels.

    Args:
        monitor: untrained, or trained on source domains.
        target: texts without labels.
        seed: of teacher and training.
        teacher: a label-free method; where it gives no labels, they are what its monitor's calibrated scores say.
    """
    local_model(monitor.model, "self-training trains it")  # before a teacher has asked a server anything
    student, changes = monitor, list[float]()
    before: Labelling | None = None
    first: Labelling | None = None
    warnings = list[str]()
    while True:
        found = teacher(student, target, seed)
        labelling, said = found.labelling, list(found.warnings)
        if labelling is None:
            labelling, of_scores = labels_from_scores(found.monitor, target.sample(PROBE_TEXTS))
            said += of_scores
        first = first or labelling
        # Of every round: a student repeats what its teacher got wrong, so that the next labels agree with it.
        warnings += [warning for warning in said if warning not in warnings]
        if before is not None:
            changes.append(_changed(before, labelling))
        sure = labelling.labels[~labelling.unsure]
        done = bool(changes) and (changes[-1] <= STILL or len(changes) == ROUNDS)
        if done or min(sure.sum(), (~sure).sum()) < FEWEST_ROWS // 2:
            break
        (student, notes), before = _train(monitor, target, labelling, seed), labelling
        warnings += [note for note in notes if note not in warnings]
    details = {
        "texts": len(labelling.labels),
        "sure": len(sure),
        "flagged_share": round(float(labelling.labels.mean()), 4),
        "labels_changed_per_round": [round(change, 4) for change in changes],
        "labels_changed_since_the_first": round(_changed(first, labelling), 4),
    }
    if before is None:
        warnings.append(
            f"the teacher is sure of {int(sure.sum())} flagged and {int((~sure).sum())} cleared texts: not trained"
        )
    elif changes[-1] > STILL:
        warnings.append(f"{changes[-1]:.0%} of the labels still changed in the last round")
    if (drift := _changed(first, labelling)) > DRIFT:
        warnings.append(f"{drift:.0%} of the labels left those of the first round: it may have found another feature")
    return Elicited(student, details, tuple(warnings), labelling)


def labels_from_scores(monitor: Monitor, texts: UnlabelledDomain) -> tuple[Labelling, list[str]]:
    """Labels that a monitor's calibrated scores give texts, as far as the domain's rules allow them, and what is doubtful in them.

    Raises:
        DomainError: hardly any text can be scored.
    """
    scores = monitor.score(texts)
    if scores.scored.sum() < FEWEST:
        raise DomainError(
            f"{texts.name}: {scores.scored.sum()} texts can be scored; labels from scores need at least {FEWEST}"
        )
    read, used = scores.values[scores.scored], texts.take(np.flatnonzero(scores.scored))
    calibration = fit_calibration(read)
    odds = prior_log_odds(calibration, read)
    labelling = Labelling(used.ids, repair(odds, pairs_of(texts.rules, used.groups)), odds)
    mass = np.full(len(scores), np.nan) if scores.verdict_mass is None else scores.verdict_mass
    return labelling, [*degenerate(labelling.labels), *one_group(calibration), *low_mass(mass)]


def _changed(before: Labelling, now: Labelling) -> float:
    """Share of the texts labelled both times whose label is another one."""
    held = dict(zip(before.ids, before.labels, strict=True))
    return float(np.mean([held[i] != label for i, label in zip(now.ids, now.labels, strict=True) if i in held]))


def _train(
    monitor: VerdictMonitor, target: UnlabelledDomain, labelling: Labelling, seed: int
) -> tuple[VerdictMonitor, tuple[str, ...]]:
    """The monitor trained on the sure labels, and what is to be noted of the training.

    The same training is not done twice, and an interrupted one continues.
    """
    texts = dict(zip(target.ids, target.texts, strict=True))
    confidence = labelling.confidence
    sure = np.flatnonzero(~labelling.unsure)
    rows = [Row(labelling.ids[row], texts[labelling.ids[row]], int(labelling.labels[row])) for row in sure]
    weights = {labelling.ids[row]: float(2 * confidence[row] - 1) for row in sure}
    config = TrainingConfig(texts=len(rows)).long_enough(len(rows))
    asked = [
        monitor.model.fingerprint(),
        vars(target.question),
        [vars(row) for row in rows],
        weights,
        config.to_json(),
        seed,
    ]
    folder = monitor.model.kept_in / "adapters" / hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    found = make_domain(target.name, target.question, rows)
    trained = train(monitor, [found], folder, config, seed, weights=weights)
    return VerdictMonitor(trained.monitor.model, target.question), trained.notes
