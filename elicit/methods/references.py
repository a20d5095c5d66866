"""References: monitors that label-free methods are compared with, each with the labels that it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from elicit.domains import Domain
from elicit.language_models.language_model import local_model
from elicit.methods.cost import UNTRAINED, Pass, Sizes, no_passes
from elicit.methods.registry import Ingredients, reference
from elicit.methods.states import PROBE_TEXTS, cost_of_states, upper_layers
from elicit.monitors.keyword import KeywordMonitor
from elicit.monitors.monitor import Monitor
from elicit.monitors.probe import ProbeMonitor
from elicit.monitors.verdict import VerdictMonitor
from elicit.training import train_monitor
from probes import LogisticProbe, MeanDifference, SupervisedProbe


def _cost_of_untrained(sizes: Sizes) -> Iterator[Pass]:
    return (texts.verdicts(UNTRAINED) for texts in sizes.scored)


def _cost_of_transfer(sizes: Sizes) -> Iterator[Pass]:
    return (texts.verdicts() for texts in sizes.scored)


def _cost_of_source_probe(sizes: Sizes) -> Iterator[Pass]:
    share = _share(len(sizes.sources))
    return (texts.states() for texts in (*(source.at_most(share) for source in sizes.sources), *sizes.scored))


def _cost_of_verdict_target(sizes: Sizes) -> Iterator[Pass]:
    yield sizes.train.trained(sizes.training.long_enough(sizes.train.count), "verdict-target")
    for texts in sizes.scored:
        yield texts.verdicts("verdict-target")


@reference("untrained", "none", "the model as it came, asked zero-shot: the floor", _cost_of_untrained)
def untrained(given: Ingredients) -> Monitor:
    return given.untrained


@reference(
    "transfer",
    "source",
    "the model fine-tuned on the sources' labels, asked about the target",
    _cost_of_transfer,
    "training",
)
def transfer(given: Ingredients) -> Monitor:
    return given.start


@reference("keyword-source", "source", "TF-IDF and logistic regression on the sources' labels", no_passes)
def keyword_source(given: Ingredients) -> Monitor:
    return KeywordMonitor.fit_domains(given.sources)


@reference("keyword-target", "target", "TF-IDF and logistic regression on the target's labels", no_passes)
def keyword_target(given: Ingredients) -> Monitor:
    return KeywordMonitor.fit_domains([_labelled(given)])


@reference(
    "probe-source",
    "source",
    "logistic regression on hidden states, sources' labels",
    _cost_of_source_probe,
    "hidden states",
)
def probe_source(given: Ingredients) -> Monitor:
    return _probe(LogisticProbe(), given.start, _source_share(given))


@reference(
    "mean-difference-source",
    "source",
    "difference of the classes' mean hidden states, sources' labels",
    _cost_of_source_probe,
    "hidden states",
)
def mean_difference_source(given: Ingredients) -> Monitor:
    return _probe(MeanDifference(), given.start, _source_share(given))


@reference(
    "probe-target", "target", "logistic regression on hidden states, target's labels", cost_of_states, "hidden states"
)
def probe_target(given: Ingredients) -> Monitor:
    return _probe(LogisticProbe(), given.start, [_labelled(given).sample(PROBE_TEXTS)])


@reference(
    "verdict-target",
    "target",
    "the transfer monitor fine-tuned further on the target's labels: the ceiling",
    _cost_of_verdict_target,
    "training",
)
def verdict_target(given: Ingredients) -> Monitor:
    target = _labelled(given)
    training = given.training.long_enough(len(target))  # a ceiling that is hardly trained is none
    trained = train_monitor(given.start, [target], given.folder / "adapter", training, given.seed)
    return VerdictMonitor(trained.model, target.question)


def _labelled(given: Ingredients) -> Domain:
    if given.target is None:
        raise ValueError("a reference with target labels was asked of a target that has none")
    return given.target


def _source_share(given: Ingredients) -> list[Domain]:
    share = _share(len(given.sources))
    return [source.require_labels().balanced_sample(share) for source in given.sources]


def _share(sources: int) -> int:
    """Texts of each source on which a probe is fitted."""
    return max(8, PROBE_TEXTS // sources)


def _probe(probe: SupervisedProbe, start: VerdictMonitor, domains: Sequence[Domain]) -> ProbeMonitor:
    model = local_model(start.model, "a probe needs hidden states")
    return ProbeMonitor.fit_supervised(probe, model, domains, upper_layers(model.layers))
