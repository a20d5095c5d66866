"""Markdown for the READMEs: tables, lists, and figures in few characters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def figure(entry: Mapping[str, Any], digits: int = 2) -> str:
    """A figure of `results.json` with its interval, as in .93 [.89, .97]."""
    if entry["value"] is None:
        return "–"
    value, low, high = (number(entry[key], digits) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def number(value: float, digits: int = 2) -> str:
    """As in .93 and -.05."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:z.{digits}f}")


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def bullets(sentences: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"* {sentence}" for sentence in sentences)
