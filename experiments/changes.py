"""What a command changes in a preset: domains, methods, seeds, model. Checked before anything is claimed or loaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from elicit.domains import check_names, load_domain
from elicit.errors import RunError
from elicit.language_models.address import is_endpoint
from elicit.language_models.loading import check_model
from elicit.methods import METHODS, load_methods

SOURCES, TARGETS = ("source", "sources"), ("target", "targets")
DOMAINS = (*SOURCES, *TARGETS, "domains")


@dataclass(frozen=True)
class Changed:
    """A preset with other values.

    Attributes:
        preset: names domains and methods by their own names.
        written: what users wrote for a domain, a file for example, by its name.
    """

    preset: Any
    written: dict[str, str]


def change(preset: Any, changes: Mapping[str, Any]) -> Changed:
    """A preset with other domains, methods, seeds or another model.

    Args:
        preset: of any experiment.
        changes: by field of the preset: a text, or a tuple of texts or numbers. Methods may be files that register some; what
            uses labels itself and is in the preset stays, since others are compared with it.

    Raises:
        RunError: a method is unknown or uses labels, domains or seeds do not go together, or the model is a served one.
        DomainError, ModelError: a domain or the model cannot be found.
    """
    found = dict(changes)
    written: dict[str, str] = {}
    for field in DOMAINS:
        if field in changes:
            words = _many(changes[field])
            domains = [load_domain(word) for word in words]
            check_names(field, domains)
            names = tuple(domain.name for domain in domains)
            found[field] = names[0] if isinstance(changes[field], str) else names
            for name, word in zip(names, words, strict=True):
                if written.setdefault(name, word) != word:
                    raise RunError(f"{written[name]} and {word} are both called {name}; rename one of them")
    if "methods" in changes:
        found["methods"] = _methods(preset.methods, changes["methods"])
    changed = replace(preset, **found)
    _check_domains(changed)
    for seed in changed.seeds:
        if changed.seeds.count(seed) > 1:
            raise RunError(f"seed {seed} is named twice, and would count as two trainings; name each once")
    if is_endpoint(changed.model):
        raise RunError("experiments train the model, and a server trains nothing; name the model's folder or hub id")
    check_model(changed.model)
    return Changed(changed, written)


def options(changes: Mapping[str, Any]) -> list[str]:
    """The words of a command line that makes these changes: a tuple's option has the field's name in the singular."""
    words: list[str] = []
    for key, value in changes.items():
        for each in _many(value):
            words += [f"--{key if isinstance(value, str) else key.removesuffix('s')}", str(each)]
    return words


def _many(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _methods(of_preset: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """What the preset compares with, and label-free methods by name or of files."""
    names: list[str] = []
    for name in asked:
        names += load_methods(Path(name)) if name.endswith(".py") else (name,)
    for name in names:
        method = METHODS.get(name)
        if method is None:
            close = difflib.get_close_matches(name, METHODS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise RunError(f"there is no method {name!r}{meant} (`elicit methods` lists them)")
        if method.label_free is None and name not in of_preset:
            raise RunError(f"{name} uses labels, and what is compared here are label-free methods; leave it out")
    references = [name for name in of_preset if METHODS[name].label_free is None]
    return tuple(dict.fromkeys((*references, *names)))


def _check_domains(preset: Any) -> None:
    """What is trained on is not what is measured on; several domains are several."""
    held = {each.name: getattr(preset, each.name) for each in fields(preset) if each.name in DOMAINS}
    sources, targets = ([name for key in keys for name in _many(held.get(key, ()))] for keys in (SOURCES, TARGETS))
    flat: dict[str, str] = {}
    for name in (*sources, *targets, *held.get("domains", ())):
        if flat.setdefault(name.replace("/", "-"), name) != name:
            raise RunError(f"{flat[name.replace('/', '-')]} and {name} would be one file's name; rename one of them")
    if both := sorted(set(sources) & set(targets)):
        raise RunError(
            f"{both[0]} is source and target at once, and what is measured would be memory; name another source or target"
        )
    if len(held.get("domains", ("", ""))) < 2:
        raise RunError("one domain has none to carry over to; name --domain twice at least")
