"""Label-free probes on contrast pairs: the hidden states of one text under the answer Yes and under the answer No."""

from __future__ import annotations

from elicit.domains import UnlabelledDomain
from elicit.language_models.language_model import local_model
from elicit.methods.registry import Elicited, label_free
from elicit.methods.states import PROBE_TEXTS, cost_of_states, states_and_verdicts, upper_layers
from elicit.monitors.probe import ProbeMonitor, contrast_pair
from elicit.monitors.verdict import VerdictMonitor
from probes import CCS, CRC, VINC, ContrastProbe, KMeansProbe, PCAProbe

FEWEST = 2


@label_free(
    "ccs",
    "contrast-consistent search on hidden states (Burns et al., 2022), sign from the monitor's verdicts",
    cost_of_states,
    "hidden states",
)
def ccs(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    return fit_contrast_probe(CCS(random_state=seed), monitor, target)


@label_free(
    "crc",
    "top principal component of the differences between both answers' hidden states (Burns et al., 2022)",
    cost_of_states,
    "hidden states",
)
def crc(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    return fit_contrast_probe(CRC(), monitor, target)


@label_free(
    "vinc",
    "closed-form direction: large differences between both answers' hidden states, small sums (VINC)",
    cost_of_states,
    "hidden states",
)
def vinc(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    return fit_contrast_probe(VINC(), monitor, target)


@label_free(
    "kmeans", "two clusters of the differences between both answers' hidden states", cost_of_states, "hidden states"
)
def kmeans(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    return fit_contrast_probe(KMeansProbe(random_state=seed), monitor, target)


@label_free(
    "pca",
    "linear artificial tomography: the leading direction of raw differences (Zou et al., 2023)",
    cost_of_states,
    "hidden states",
)
def pca(monitor: VerdictMonitor, target: UnlabelledDomain, seed: int) -> Elicited:
    return fit_contrast_probe(PCAProbe(), monitor, target)


def fit_contrast_probe(probe: ContrastProbe, monitor: VerdictMonitor, target: UnlabelledDomain) -> Elicited:
    """The probe of the upper layer that is best by its own criterion, signed by the monitor's verdicts.

    Args:
        probe: not fitted yet.
        monitor: whose model's hidden states are read; must be a model here, not a served one.
        target: texts, of which at most `PROBE_TEXTS` are used.

    Raises:
        DomainError: not even two texts can be read.
    """
    model = local_model(monitor.model, "a probe needs hidden states")
    texts = target.sample(PROBE_TEXTS)
    states, usable = states_and_verdicts(model, texts, FEWEST)
    assert states.log_odds is not None
    layers = upper_layers(model.layers)
    flagged, cleared = contrast_pair(states)
    probe.fit(flagged[usable], cleared[usable])
    probe.orient(states.log_odds[usable])
    details = {"layer": layers[probe.best_layer_], "sign_confidence": round(float(probe.sign_confidence_), 4)}
    warnings: tuple[str, ...] = ()
    if probe.sign_confidence_ < 0.1:
        warnings = ("the probe's direction hardly agrees with the monitor's verdicts, so its sign is a guess",)
    return Elicited(ProbeMonitor(model, target.question, probe.best(), layers[probe.best_layer_]), details, warnings)
