"""Consistency search with mutual predictability measured in hidden states.

Wen et al. (2025, arXiv 2506.10139) look for the labelling in which every label is predictable from the others, given the model.
They ask the model in its context window, one long prompt per label. Here the predictor is ridge regression on the monitor's own
hidden states, for which the predictions of all n labels, each from the other n − 1, are closed form: with the centred kernel K,
the hat matrix of a regression with an intercept, H = 11ᵀ/n + K(K + λI)⁻¹, and the labels y,

    ŷ = (Hy − diag(H) y) / (1 − diag(H)),                             (leave-one-out; Allen, 1974)

so a sweep over all labels costs one n × n product and no pass through the model. f_i, the distance of ŷ_i from the mean of the
other labels, depends on text i's state and never on its own label, so it is evidence beside the verdict, and is weighed as a second
rater would be (naive Bayes): with p_i = σ(π_i) the calibrated probability of text i's own verdict, m₁ and m₀ the means of f, as
predicted from the verdicts, weighted by p and 1 − p, and s² its variance around them, each sweep gives

    log-odds_i = π_i + (m₁ − m₀)/s² · (f_i − (m₁ + m₀)/2),        y_i = 2σ(log-odds_i) − 1.

Where states predict nothing, m₁ = m₀ and the verdict stays what it was. The best of many layers and penalties predicts something
of any few labels; so the same search is made for verdicts that are shuffled among the texts, and where these are predicted as well,
the states are not used. What f is worth is measured once, before any label rests on the states, and kept: measured anew in each
sweep, as EM would, f seems the surer the more the labels repeat what it said. On the three domains on which methods are tuned that
ended below the verdicts alone in mean AUROC, and this above them.
Without the prior, the fixed points of y → f are the leading eigenvectors of K (the top principal component, as in CRC, when λ is
large), which may be any salient feature; the prior is what ties the search to the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elicit.domains import UnlabelledDomain
from elicit.domains.rules import pairs_of, repair
from elicit.language_models.language_model import MASS_SAMPLE, local_model
from elicit.methods.alarms import degenerate, drifted, label_entropy, left_out, low_mass, one_group
from elicit.methods.cost import START, Pass, Sizes, Texts
from elicit.methods.evidence import Evidence, prior_log_odds
from elicit.methods.pool import different
from elicit.methods.registry import Elicited, Labelling, label_free
from elicit.methods.states import PROBE_TEXTS, cost_of_states, states_and_verdicts, upper_layers
from elicit.monitors.blend import BlendMonitor
from elicit.monitors.calibration import fit_calibration
from elicit.monitors.probe import prompt_states
from elicit.monitors.verdict import VerdictMonitor

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PENALTIES = tuple(float(10**power) for power in np.arange(-2.0, 3.1, 0.5))  # of kernels with mean diagonal 1
LAYERS = 3  # the best-predicting layers, whose predictions are averaged
SWEEPS = 500
SHUFFLES = 199
CHANCE = 0.05  # of shuffled verdicts that may be predicted as well
FEWEST = 8


def cost_of_mass(pool: Texts, model: str = START) -> Pass:
    """What the look at the verdict mass reads."""
    return pool.at_most(MASS_SAMPLE).verdicts(model)


def _cost(sizes: Sizes) -> Iterator[Pass]:
    yield cost_of_mass(sizes.train)
    yield from cost_of_states(sizes)


@label_free(
    "state-consistency",
    "labels that hidden states predict from each other, in closed form, with the monitor's verdicts as prior evidence",
    _cost,
    "hidden states",
)
def state_consistency(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    """A blend of the monitor's verdict with a ridge read-out of its hidden states. Deterministic: the seed plays no part."""
    model = local_model(monitor.model, "state-consistency needs hidden states")
    # Of two equal texts one would predict the other's label, whatever the label is.
    texts = target.take(different(target.texts)).sample(PROBE_TEXTS)
    layers = upper_layers(model.layers)
    states, usable = states_and_verdicts(model, texts, FEWEST)
    assert states.log_odds is not None
    calibration = fit_calibration(states.log_odds[usable])
    prior = prior_log_odds(calibration, states.log_odds[usable])
    features = prompt_states(states)[usable].astype(np.float64)
    found = search(features, prior)
    weights, bias = found.read_out(features)
    chosen = tuple(layers[layer] for layer in found.layers)
    blend = BlendMonitor(model, target.question, chosen, weights, calibration.slope, calibration.intercept + bias)
    used = texts.take(np.flatnonzero(usable))
    labels = repair(found.log_odds, pairs_of(target.rules, used.groups))
    labelling = Labelling(used.ids, labels, found.log_odds)
    details = found.details(prior, labels) | {"layers": list(chosen), "unsure": int(labelling.unsure.sum())}
    # States are read without what else the model would say; whether the question is answered is seen on a part of the texts.
    answered = model.log_odds(target.question, used.texts[:MASS_SAMPLE], description=f"verdict mass {target.name}")
    if np.isfinite(answered.verdict_mass).any():
        details["verdict_mass"] = round(float(np.nanmean(answered.verdict_mass)), 4)
    warnings = (
        *found.warnings(prior, labels),
        *one_group(calibration),
        *low_mass(answered.verdict_mass),
        *left_out(len(labels), target.texts),
    )
    return Elicited(blend, details, warnings, labelling)


@dataclass(frozen=True)
class Search:
    """Where the search ended.

    Attributes:
        log_odds: (n,) of each text's label: prior plus evidence of the states.
        labels: (n,) soft labels in (−1, 1) on which the read-out rests.
        predictability: 1 − squared error ÷ that of the mean of the other labels; 0 = the states predict nothing.
        chance: share of shuffled verdicts that the best layer predicts as well (a permutation test's p).
        evidence: what the states' prediction of a label says about it.
        layers: positions of the layers that are used.
        penalties: λ of each of them.
        sweeps: updates until nothing moved.
    """

    log_odds: Floats
    labels: Floats
    predictability: float
    chance: float
    evidence: Evidence
    layers: tuple[int, ...]
    penalties: tuple[float, ...]
    sweeps: int

    def read_out(self, features: Floats) -> tuple[Floats, float]:
        """Weights (l, d) and bias that give new texts the states' evidence, from the mean over layers of the ridge predictions."""
        share = self.evidence.gain / len(self.layers)
        weights, bias = [], -self.evidence.gain * self.evidence.middle
        for layer, penalty in zip(self.layers, self.penalties, strict=True):
            centred, mean, scale = _centred(features[:, layer])
            dual = np.linalg.solve(
                centred @ centred.T + penalty * np.eye(len(centred)), self.labels - self.labels.mean()
            )
            weight = share * (centred.T @ dual) / scale
            weights.append(weight)
            bias -= float(weight @ mean)
        return np.stack(weights), bias

    def details(self, prior: Floats, labels: Bools) -> dict[str, object]:
        """Figures about the search and the (n,) labels that obey the rules; none involves a label that somebody gave."""
        return {
            "texts": len(prior),
            "predictability": round(self.predictability, 4),
            "predicted_by_chance": round(self.chance, 4),
            "drift": round(float(np.mean(labels != (prior > 0))), 4),
            "flagged_share": round(float(labels.mean()), 4),
            "mean_label_entropy_bits": label_entropy(self.log_odds),
            "sweeps": self.sweeps,
        }

    def warnings(self, prior: Floats, labels: Bools) -> tuple[str, ...]:
        """Alarms: what makes the labelling doubtful."""
        alarms, drift = degenerate(labels), float(np.mean(labels != (prior > 0)))
        if self.chance > CHANCE:
            alarms.append(
                f"the hidden states predict {self.chance:.0%} of shuffled verdicts as well as the verdicts: they are not used"
            )
        alarms += drifted(drift)
        if self.sweeps >= SWEEPS:
            alarms.append(f"the labels still moved after {SWEEPS} sweeps")
        return tuple(alarms)


def search(features: Floats, prior: Floats) -> Search:
    """Labels of n texts that their states predict from each other, starting from prior log-odds.

    Layers and penalties are those whose leave-one-out predictions fit the prior's soft labels best, by squared error, and so by the
    Gaussian log-likelihood with its best variance; they are then kept.

    Args:
        features: (n, l, d) hidden states.
        prior: (n,) log-odds of each text on its own.
    """
    labels = np.tanh(prior / 2)
    rng = np.random.default_rng(0)
    shuffled = np.stack([labels, *(rng.permutation(labels) for _ in range(SHUFFLES))], axis=1)
    spectra = [_spectrum(features[:, layer]) for layer in range(features.shape[1])]
    errors = np.stack([_errors(spectrum, shuffled) for spectrum in spectra])
    best = errors.min(axis=(0, 1))  # of the verdicts, then of each shuffle
    chance = float(np.mean(best <= best[0]))
    order = [int(layer) for layer in np.argsort(errors[:, :, 0].min(1), kind="stable")[:LAYERS]]
    penalties = [PENALTIES[errors[layer, :, 0].argmin()] for layer in order]
    hats = [_hat(spectra[layer], penalty) for layer, penalty in zip(order, penalties, strict=True)]
    from_others = labels - _mean_of_others(labels)
    predicted = _predict(hats, labels)
    residual = float(np.mean((from_others - predicted) ** 2))
    spread = float(np.mean(from_others**2))
    predictability = max(0.0, 1 - residual / spread) if spread > 1e-12 else 0.0  # verdicts that are all alike
    evidence = Evidence.of(predicted, labels) if predictability > 0 and chance <= CHANCE else Evidence(0.0, 0.0)
    sweeps, moved = 0, np.inf
    while evidence.gain > 0 and moved > 1e-4 and sweeps < SWEEPS:
        sweeps += 1
        # Half steps: labels that are updated all at once can otherwise swing between two states for ever.
        new = 0.5 * labels + 0.5 * np.tanh((prior + evidence.log_odds(predicted)) / 2)
        moved = float(np.abs(new - labels).max())
        labels = new
        predicted = _predict(hats, labels)
    return Search(
        log_odds=prior + evidence.log_odds(predicted),
        labels=labels,
        predictability=predictability,
        chance=chance,
        evidence=evidence,
        layers=tuple(order),
        penalties=tuple(penalties),
        sweeps=sweeps,
    )


def leave_one_out(hat: Floats, labels: Floats) -> Floats:
    """(n,) prediction of each label by the ridge regression on all others, from the (n, n) hat matrix."""
    own = np.diag(hat)
    return np.asarray((hat @ labels - own * labels) / np.maximum(1 - own, 1e-9))


def _predict(hats: list[Floats], labels: Floats) -> Floats:
    """(n,) mean over layers of the leave-one-out predictions, as distances from the mean of the other labels."""
    return np.asarray(np.mean([leave_one_out(hat, labels) for hat in hats], axis=0) - _mean_of_others(labels))


def _mean_of_others(labels: Floats) -> Floats:
    """(n,) for each label, what would be predicted without states."""
    return np.asarray((labels.sum() - labels) / (len(labels) - 1))


def _centred(states: Floats) -> tuple[Floats, Floats, float]:
    """States with mean 0 and mean squared length 1, their mean, and the length by which they were divided."""
    mean = states.mean(0)
    centred = states - mean
    scale = float(np.sqrt((centred**2).sum(1).mean())) or 1.0
    return centred / scale, mean, scale


def _spectrum(states: Floats) -> tuple[Floats, Floats]:
    """Eigenvectors (n, n) and eigenvalues (n,) of the centred kernel."""
    centred, _, _ = _centred(states)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return vectors, np.maximum(values, 0.0)


def _hat(spectrum: tuple[Floats, Floats], penalty: float) -> Floats:
    """Hat matrix of ridge regression with an intercept, which is not penalised."""
    vectors, values = spectrum
    return np.asarray((vectors * (values / (values + penalty))) @ vectors.T + 1 / len(values))


def _errors(spectrum: tuple[Floats, Floats], labels: Floats) -> Floats:
    """(p, c) mean squared errors of leave-one-out predictions under each penalty, for (n, c) columns of labels."""
    vectors, values = spectrum
    seen, means = vectors.T @ labels, labels.mean(0)
    errors = []
    for penalty in PENALTIES:
        shrunk = values / (values + penalty)
        own = ((vectors**2) @ shrunk + 1 / len(values))[:, None]
        # As in `leave_one_out`: a label less its prediction from the others.
        residuals = (labels - vectors @ (shrunk[:, None] * seen) - means) / np.maximum(1 - own, 1e-9)
        errors.append((residuals**2).mean(0))
    return np.array(errors)
