"""Texts, questions, labels and groups: the catalogue, files of one's own, splits and leakage checks."""

from elicit.domains.domain import Domain, Question, Row, UnlabelledDomain, check_overlap, make_domain

__all__ = ["Domain", "Question", "Row", "UnlabelledDomain", "check_overlap", "make_domain"]
