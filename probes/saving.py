"""Probes on disk: parameters as JSON, arrays as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

SCHEMA = 1


def save_probe(
    folder: Path, kind: str, parameters: Mapping[str, Any], arrays: Mapping[str, torch.Tensor], plain: Mapping[str, Any]
) -> None:
    """Write probe.safetensors, then probe.json, which completes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in arrays.items()}, folder / "probe.safetensors")
    held = {"schema": SCHEMA, "kind": kind, "parameters": dict(parameters), "fitted": dict(plain)}
    (folder / "probe.json").write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")


def load_probe(folder: str | Path) -> Any:
    """A fitted probe from the folder that its `save` wrote.

    Raises:
        ValueError: the folder holds no probe, or one of an unknown kind or version.
    """
    import probes

    folder = Path(folder)
    try:
        held = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
        kind, schema = held["kind"], held["schema"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no probe: {error}") from error
    if schema != SCHEMA or kind not in probes.__all__:
        raise ValueError(f"{folder} holds a probe of kind {kind!r}, schema {schema}; this version cannot read it")
    probe = getattr(probes, kind)(**held["parameters"])
    for name, value in {**load_file(folder / "probe.safetensors"), **held["fitted"]}.items():
        setattr(probe, name, value)
    return probe
