"""Verdict log-odds that were computed once, by content: model, adapter, dtype, prompt and tokens; never by a run's name.

One SQLite file in the user's cache. Its write-ahead log lets several processes read and write at once, and a process that is killed
leaves whole batches or nothing. What is damaged, or was written by another version, is set aside and rebuilt.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elicit.domains.artefacts import cache_dir

SCHEMA = 2  # raise it when the engine gives other values for the same key
_log = logging.getLogger(__name__)


class ReadingCache:
    """Float arrays by key. A cache that cannot be used is no cache: everything is then computed, and one line says so.

    Args:
        path: the SQLite file; by default in the user's cache.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "readings.sqlite"
        self._usable = True

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float64]]:
        """The arrays that are there, by key."""
        found: dict[bytes, NDArray[np.float64]] = {}
        if not self._usable or not self.path.is_file():
            return found
        try:
            with closing(self._connect()) as database:
                for start in range(0, len(keys), 500):
                    part = keys[start : start + 500]
                    marks = ",".join("?" * len(part))
                    rows = database.execute(f"SELECT key, value FROM readings WHERE key IN ({marks})", part)
                    found |= {key: np.frombuffer(value, dtype="<f8") for key, value in rows}
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return {}
        return found

    def put(self, readings: Mapping[bytes, NDArray[np.float64]]) -> None:
        """Keep arrays, all of them or, if the process dies now, none."""
        if not self._usable or not readings:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database, database:
                rows = [(key, np.asarray(value, dtype="<f8").tobytes()) for key, value in readings.items()]
                database.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?)", rows)
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
        except OSError as error:
            self._give_up(error)

    def clear(self) -> None:
        """Remove the file and what belongs to it."""
        for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
            self.path.with_name(name).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=60)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA):
                raise sqlite3.DatabaseError(f"it was written by another version ({version}, this one writes {SCHEMA})")
            if version == 0:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE IF NOT EXISTS readings (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            database.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        # A full or read-only disk and a lock held for a minute are no reason to throw a good file away.
        if isinstance(error, sqlite3.OperationalError):
            self._give_up(error)
            return
        _log.warning("%s cannot be used (%s): it is rebuilt", self.path, error)
        self.clear()

    def _give_up(self, error: Exception) -> None:
        _log.warning("%s cannot be used (%s): nothing is cached in this run", self.path, error)
        self._usable = False


def reading_key(model: str, *asked: object) -> bytes:
    """Key of what was asked of a model, from the model's fingerprint and any values with a faithful `repr`."""
    return hashlib.blake2b(repr((model, asked)).encode(), digest_size=20).digest()
