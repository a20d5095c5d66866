"""Hidden states at the verdict, and shards of them on disk that were computed once.

A shard holds some hundred consecutive texts. It is found by its content (model, adapter, dtype, prompt, tokens), and it serves
whoever asks for some of its layers. It appears complete or not at all, so a killed extraction continues after its last shard.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from elicit.domains.artefacts import cache_dir
from elicit.errors import RunError

SCHEMA = "2"  # raise it when the engine gives other states for the same key
GIGABYTES = 20.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class States:
    """Hidden states of n texts, `(n, 3, l, d)`: last prompt token, flagged verdict token, cleared verdict token.

    Attributes:
        values: hidden states on the CPU in the model's dtype; rows with a reason are zero.
        layers: (l,) which layers' outputs.
        reasons: (n,) why a text has no states, else None.
        log_odds: (n,) verdict log-odds from the same pass, NaN where there is a reason; None unless asked for.
    """

    values: torch.Tensor
    layers: tuple[int, ...]
    reasons: tuple[str | None, ...]
    log_odds: NDArray[np.float64] | None = None

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(n,) True where there are states."""
        return np.array([reason is None for reason in self.reasons], dtype=bool)

    @classmethod
    def join(cls, parts: Sequence[States]) -> States:
        """Parts of one list of texts as one."""
        odds = [part.log_odds for part in parts if part.log_odds is not None]
        return cls(
            torch.cat([part.values for part in parts]),
            parts[0].layers,
            tuple(reason for part in parts for reason in part.reasons),
            np.concatenate(odds) if odds else None,
        )


def _room_asked_for() -> float:
    asked = os.environ.get("ELICIT_STATES_GB", str(GIGABYTES))
    try:
        return float(asked)
    except ValueError:
        raise RunError(f"ELICIT_STATES_GB is {asked!r}; give a number of gigabytes, 20 say") from None


class StateCache:
    """Shards of hidden states in the user's cache; the least recently used go when they take too much room.

    Args:
        folder: where the shards are.
        gigabytes: room that they may take; by default ELICIT_STATES_GB of the environment, or 20.
    """

    def __init__(self, folder: Path | None = None, gigabytes: float | None = None) -> None:
        self.folder = folder or cache_dir() / "states"
        self._room = 1e9 * (_room_asked_for() if gigabytes is None else gigabytes)

    def get(self, key: bytes, layers: Sequence[int], log_odds: bool) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """(m, 3, l, d) states and perhaps (m,) log-odds of a shard's texts, or None when nobody computed them yet."""
        for path in sorted(self.folder.glob(f"{key.hex()}-*.safetensors")):
            try:
                with safe_open(path, "pt") as shard:
                    held = set(shard.keys())
                    wanted = [f"layer_{layer}" for layer in layers]
                    if (shard.metadata() or {}).get("schema") != SCHEMA or not held.issuperset(wanted):
                        continue
                    if log_odds and "log_odds" not in held:
                        continue
                    states = torch.stack([shard.get_tensor(name) for name in wanted], 2)
                    odds = shard.get_tensor("log_odds") if log_odds else None
                os.utime(path)
            except (SafetensorError, OSError, RuntimeError) as error:
                _log.warning("%s cannot be used (%s): it is computed again", path, error)
                continue
            return states, odds
        return None

    def put(self, key: bytes, layers: Sequence[int], states: torch.Tensor, odds: torch.Tensor | None) -> None:
        """Keep a shard. A disk that takes none costs the next run its time and this one nothing."""
        tensors = {f"layer_{layer}": states[:, :, i].contiguous() for i, layer in enumerate(layers)}
        if odds is not None:
            tensors["log_odds"] = odds
        if sum(tensor.nbytes for tensor in tensors.values()) > self._room:
            return
        held = hashlib.blake2b(" ".join(sorted(tensors)).encode(), digest_size=8).hexdigest()
        name = f"{key.hex()}-{held}"
        part = self.folder / f".{name}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, part, metadata={"schema": SCHEMA})
            os.replace(part, self.folder / f"{name}.safetensors")
            self._make_room()
        except (SafetensorError, OSError) as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            _log.warning("%s: hidden states cannot be kept (%s)", self.folder, error)

    def clear(self) -> None:
        """Remove all shards."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        shards = []
        for path in self.folder.iterdir():
            try:
                about = path.stat()
            except FileNotFoundError:
                continue  # another process made room
            shards.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in shards)
        for _, size, path in sorted(shards):
            if total <= self._room:
                return
            path.unlink(missing_ok=True)
            total -= size
