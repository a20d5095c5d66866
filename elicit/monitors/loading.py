"""From a name or a folder to a monitor."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from elicit.domains import Question
from elicit.errors import ModelError
from elicit.files import read_json
from elicit.language_models.address import is_endpoint
from elicit.language_models.language_model import LanguageModel, load_language_model, local_model
from elicit.language_models.loading import MODELS
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import MAX_TEXT_TOKENS
from elicit.monitors.blend import BlendMonitor
from elicit.monitors.context import ContextMonitor
from elicit.monitors.few_shot import FewShotMonitor
from elicit.monitors.keyword import KeywordMonitor
from elicit.monitors.monitor import MONITOR, SCHEMA, Monitor
from elicit.monitors.probe import ProbeMonitor
from elicit.monitors.thinking import ThinkingMonitor
from elicit.monitors.verdict import VerdictMonitor


def load_monitor(name: str | Path, model: str | None = None, dtype: str = "auto", device: str = "auto") -> Monitor:
    """A monitor from its folder, or an untrained verdict monitor from a language model's name.

    Args:
        name: folder of a saved monitor; or catalogue name, folder, GGUF file, hub id or address of a language model.
        model: language model to use in place of the one that the monitor's folder names, when that one has moved.
        dtype, device: as in `LocalModel.load`.

    Raises:
        ModelError: the folder is no monitor of a version that can be read, or the model cannot be loaded.
    """
    folder = Path(name).expanduser()
    file = folder / MONITOR
    if not file.is_file():
        if str(name) not in MODELS and not is_endpoint(str(name)) and "://" not in str(name):
            _check_place(folder, str(name))
        return VerdictMonitor(load_language_model(str(name), dtype, device))
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["schema"] != SCHEMA:
            raise ModelError(
                f"{folder} was written by another version (schema {held['schema']}, this one reads {SCHEMA})"
            )
        return _load(folder, held, model, dtype, device)
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise ModelError(f"{folder} is a damaged monitor ({type(error).__name__}: {error}); save it again") from error


def load_start(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    max_text_tokens: int | None = None,
    readings: Path | None = None,
) -> LanguageModel:
    """The language model that a run starts from: by its name, or that of a verdict monitor's folder with what it learnt.

    Args:
        name, dtype, device, readings: as in `load_language_model`; or the folder of a monitor.
        max_text_tokens: longer texts lose their middle; as in `longest_text` unless given.

    Raises:
        ModelError: the monitor is of another kind, or the model cannot be loaded.
    """
    held = _start(name)
    if held is None:
        return load_language_model(name, dtype, device, max_text_tokens or MAX_TEXT_TOKENS, readings)
    longest = {"max_text_tokens": max_text_tokens} if max_text_tokens else {}
    return _language_model(Path(name).expanduser(), held | longest, dtype, device, readings)


def longest_text(name: str) -> int:
    """Tokens of a text that are read by what a run starts from: as its folder says, or the default of a model by name."""
    held = _start(name)
    return int(held["max_text_tokens"]) if held else MAX_TEXT_TOKENS


def model_beneath(name: str) -> str:
    """The language model of a verdict monitor's folder; any other name is one itself."""
    held = _start(name)
    return str(held["name"]) if held else name


def _start(name: str) -> dict[str, Any] | None:
    """The model that a verdict monitor's folder refers to, or None where `name` is that of a language model.

    Raises:
        ModelError: the monitor is of another kind.
    """
    file = Path(name).expanduser() / MONITOR
    if not file.is_file():
        return None
    held = read_json(file)
    if held.get("kind") != VerdictMonitor.kind:
        raise ModelError(
            f"{name} is a {held.get('kind')} monitor; a run starts from a language model, or a verdict monitor"
        )
    model: dict[str, Any] = held["model"]
    return model


def _check_place(folder: Path, name: str) -> None:
    """Refuse a folder that is not there, and a place in a run that is no monitor, with the run's monitors."""
    places = [folder.absolute(), *folder.absolute().parents]
    run = next((place for place in places if (place / "manifest.json").is_file()), None)
    found = sorted(str(path.parent) for path in (run / "monitors").rglob(MONITOR)) if run else []
    if found:
        raise ModelError(f"{name} holds no monitor; its run has {', '.join(found)}")
    if folder.exists():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}; name one that holds a monitor, or a model")
    logging.getLogger(__name__).warning("there is no folder %s here: looking for a model of that name on the hub", name)


def _language_model(
    folder: Path,
    reference: dict[str, Any],
    dtype: str,
    device: str,
    readings: Path | None = None,
    load: Callable[..., LanguageModel] = load_language_model,
) -> LanguageModel:
    """The model that a monitor's folder refers to, with the adapter that lies there."""
    if dtype == "auto" and not is_endpoint(reference["name"]):
        dtype = reference.get("dtype", "auto")  # in which its threshold was fitted
    model = load(reference["name"], dtype, device, reference["max_text_tokens"], readings)
    return model.with_adapter(folder / "adapter") if (folder / "adapter").is_dir() else model


def _load(folder: Path, held: dict[str, Any], model: str | None, dtype: str, device: str) -> Monitor:
    question = Question(**held["question"]) if held["question"] else None
    kind = held["kind"]
    if kind == KeywordMonitor.kind and question:
        return KeywordMonitor.from_json(held, question)
    reads_states = kind in (ProbeMonitor.kind, BlendMonitor.kind)
    load = LocalModel.load if reads_states else load_language_model
    reference = held["model"] | ({"name": model} if model else {})
    language_model = _language_model(folder, reference, dtype, device, load=load)
    if kind == VerdictMonitor.kind:
        return VerdictMonitor(language_model, question)
    if kind == ThinkingMonitor.kind:
        return ThinkingMonitor.from_json(held, language_model, question)
    if kind == FewShotMonitor.kind and question:
        return FewShotMonitor(language_model, question, [(text, flagged) for text, flagged in held["shots"]])
    if kind == ContextMonitor.kind and question:
        return ContextMonitor.from_json(held, language_model, question)
    if reads_states and question:
        local = local_model(language_model, f"a {kind} monitor reads hidden states")
        states = ProbeMonitor if kind == ProbeMonitor.kind else BlendMonitor
        return states.from_folder(folder, held, local, question)
    raise ModelError(f"{folder} is a monitor of an unknown kind, {kind!r}")
