"""Probes on disk: parameters as JSON, arrays as safetensors. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator

SCHEMA = 2


def save_probe(
    folder: Path,
    probe: BaseEstimator,
    arrays: Mapping[str, torch.Tensor],
    plain: Mapping[str, Any],
    nested: Mapping[str, BaseEstimator],
) -> None:
    """Write probe.safetensors, then probe.json, which completes the folder.

    Args:
        folder: created where it is missing.
        probe: whose class and parameters are noted.
        arrays: fitted arrays; those of a nested object carry its name and a dot in front.
        plain: fitted values that JSON can hold.
        nested: fitted objects, such as the normalisation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A probe that is written over is incomplete until its new description stands.
    (folder / "probe.json").unlink(missing_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in arrays.items()}, folder / "probe.safetensors")
    held = {
        "schema": SCHEMA,
        **_described(probe),
        "fitted": dict(plain),
        "nested": {name: _described(part) for name, part in nested.items()},
    }
    (folder / "probe.json").write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")


def load_probe(folder: str | Path) -> Any:
    """A fitted probe from the folder that its `save` wrote.

    Raises:
        ValueError: the folder holds no probe, or one of an unknown kind or version.
    """
    folder = Path(folder)
    try:
        held = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
        kind, schema = held["kind"], held["schema"]
        if schema != SCHEMA:
            raise ValueError(
                f"{folder} holds a probe of kind {kind!r}, schema {schema}; this version reads schema {SCHEMA}"
            )
        probe = _built(held)
        parts = {"": probe}
        for name, described in held["nested"].items():
            parts[name + "."] = _built(described)
            setattr(probe, name, parts[name + "."])
        arrays = load_file(folder / "probe.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no probe that can be read: {error}") from error
    for name, tensor in arrays.items():
        prefix, dot, rest = name.rpartition(".")
        setattr(parts[prefix + dot], rest, tensor)
    for name, value in held["fitted"].items():
        setattr(probe, name, value)
    probe.restore()
    return probe


def _described(part: BaseEstimator) -> dict[str, Any]:
    parameters = {
        name: _described(value) if isinstance(value, BaseEstimator) else value
        for name, value in part.get_params(deep=False).items()
    }
    return {"kind": type(part).__name__, "parameters": parameters}


def _built(described: Mapping[str, Any]) -> Any:
    import probes  # only here: probes imports this module

    kind = described["kind"]
    if kind not in probes.__all__:
        raise ValueError(f"kind {kind!r} is unknown")
    parameters = {
        name: _built(value) if isinstance(value, dict) and "kind" in value else value
        for name, value in described["parameters"].items()
    }
    return getattr(probes, kind)(**parameters)
