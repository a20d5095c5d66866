"""Folders in which a training keeps what it has learnt so far: whose they are, and where to go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from elicit.errors import RunError
from elicit.run_folder import entries


def refuse_others_files(folder: Path) -> None:
    """Refuse a folder that holds what no training of ours wrote: it would be overwritten.

    Raises:
        RunError: it does.
    """
    ours, checkpoints = {"checkpoints", "stages", "logs"}, folder / "checkpoints"
    held = entries(checkpoints) if checkpoints.is_dir() else set[str]()
    if "asked" not in held and (others := [*sorted(held), *sorted(entries(folder) - ours)]):
        raise RunError(f"{folder} holds {others[0]}, which no training of this kind left there; choose an empty folder")


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint. Its state is the last thing to be written; one without it was interrupted, and goes.

    So does the last one of a training that stopped early and was interrupted before its end: from the best one before it, it comes
    to the same stop, where from this one it would go on.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1]))
    for path in found:
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
        if control.get("should_training_stop") and state["global_step"] < state["max_steps"] and path != found[-1]:
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None
