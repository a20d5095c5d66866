"""The tools that benchmarks compare with, where they are installed."""

from __future__ import annotations

import importlib.metadata

PACKAGES = {"lm-eval": "lm_eval", "elk": "eleuther-elk", "trl": "trl"}


def installed(peer: str) -> str | None:
    """Its version, or None."""
    try:
        return importlib.metadata.version(PACKAGES[peer])
    except importlib.metadata.PackageNotFoundError:
        return None
