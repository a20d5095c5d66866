"""Label-free methods and the references that they are compared with, by name."""

from elicit.domains import UnlabelledDomain
from elicit.language_models.language_model import local_model
from elicit.methods import consistency, few_shot, icm, probing, references, self_training, state_consistency, thinking  # noqa: F401  # they register themselves
from elicit.methods.own import load_methods
from elicit.methods.registry import METHODS, Elicited, Ingredients, Labelling, Method, label_free, reference
from elicit.monitors.verdict import VerdictMonitor

__all__ = [
    "METHODS",
    "Elicited",
    "Ingredients",
    "Labelling",
    "Method",
    "elicit_monitor",
    "label_free",
    "load_methods",
    "reference",
]


def elicit_monitor(monitor: VerdictMonitor, target: UnlabelledDomain, method: str, seed: int = 0) -> Elicited:
    """A monitor for a target without labels.

    Args:
        monitor: untrained, or trained on source domains.
        target: texts and their question; `Domain.unlabelled()` gives one.
        method: name of a label-free method.
        seed: of everything random.

    Raises:
        ValueError: the method is unknown, or it is a reference, which needs labels.
    """
    if not isinstance(target, UnlabelledDomain):
        raise TypeError("a label-free method takes an UnlabelledDomain; call .unlabelled() on a Domain")
    found = METHODS.get(method)
    if found is None or found.label_free is None:
        names = ", ".join(name for name, entry in METHODS.items() if entry.label_free)
        raise ValueError(f"{method!r} is no label-free method; choose one of {names}")
    if found.needs != "verdicts":
        local_model(monitor.model, f"{method} needs {found.needs}")
    return found.label_free(monitor, target, seed)
