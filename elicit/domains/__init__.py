"""Texts, questions, labels and groups: the catalogue, files of one's own, splits and leakage checks."""

from elicit.domains.catalogue import describe, domain_names
from elicit.domains.domain import (
    Domain,
    Question,
    Row,
    UnlabelledDomain,
    check_names,
    check_overlap,
    drop_overlap,
    make_domain,
)
from elicit.domains.files import load_domain
from elicit.domains.rules import Exclusive, Implies, Opposite, Rule, Same

__all__ = [
    "Domain",
    "Exclusive",
    "Implies",
    "Opposite",
    "Question",
    "Row",
    "Rule",
    "Same",
    "UnlabelledDomain",
    "check_names",
    "check_overlap",
    "describe",
    "domain_names",
    "drop_overlap",
    "load_domain",
    "make_domain",
]
