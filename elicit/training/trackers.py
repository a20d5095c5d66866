"""Trackers that `Trainer` reports to: known and installed before anything is loaded, with logs that outlive checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elicit.errors import RunError

FOLDER = "TENSORBOARD_LOGGING_DIR"  # TensorBoard would write among the checkpoints, which go at the end


def check_tracker(name: str) -> None:
    """Refuse a tracker that transformers does not know, or whose package is missing.

    Raises:
        RunError: it is one of those.
    """
    if name in ("none", "all"):
        return
    from transformers.integrations import integration_utils

    known = sorted(integration_utils.INTEGRATION_TO_CALLBACK)
    if name not in known:
        raise RunError(f"transformers has no tracker {name!r}; it has {', '.join(known)}, or none")
    if name not in integration_utils.get_available_reporting_integrations():
        raise RunError(f"the tracker {name} is not installed; run: python -m pip install {name}")


@contextmanager
def logs_in(folder: Path) -> Iterator[None]:
    """TensorBoard's logs go to a folder, unless the user named another one."""
    if FOLDER in os.environ:
        yield
        return
    os.environ[FOLDER] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(FOLDER, None)
