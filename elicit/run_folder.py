"""A folder that a command works in: one process at a time, what lies in it, and the versions that its manifest names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Set
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from elicit.errors import RunError
from elicit.files import read_json, write_json

LOCK = ".lock"
CODE = ("probes", "elicit", "experiments")
PACKAGES = ("elicit", "torch", "transformers", "peft", "datasets", "scikit-learn", "numpy", "safetensors")


def claim(out: Path) -> AbstractContextManager[Any]:
    """One process at a time works in a folder, which is made if it is missing.

    Raises:
        RunError: another process works there, or nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"another process is working in {out}; wait for it or choose another --out") from error
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from error
    return lock


def entries(out: Path) -> set[str]:
    """Names of what lies in a folder, but for the lock and what a write that was cut short left."""
    names = {entry.name for entry in out.iterdir()} - {LOCK}
    return {name for name in names if not (name.startswith(".") and name.endswith(".part"))}


def refuse_others(out: Path, sign: str, what: str, besides: Set[str] = frozenset()) -> None:
    """Refuse a folder that holds something, and not what a command of this kind leaves; nothing is written there.

    Args:
        out: the folder, or where one will be.
        sign: the file by which such a folder is known.
        what: it would hold.
        besides: files that such a folder may hold before there is a sign.

    Raises:
        RunError: it holds something else.
    """
    held = entries(out) if out.is_dir() else set()
    if sign not in held and (others := held - besides):
        raise RunError(f"{out} is not empty and holds no {what} ({min(others)}, …); choose another --out")


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that decide the figures, and of our own code, which changes between two releases."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages | {"code": _hash_of_code()}


@cache
def _hash_of_code() -> str:
    """Of all our modules."""
    seen = hashlib.sha256()
    for name in CODE:
        folder = Path(__file__).parents[1] / name  # beside this package: another one of that name may be found first
        for file in sorted(path for path in folder.rglob("*.py") if path.is_file()):
            seen.update(f"{name}/{file.relative_to(folder).as_posix()}".encode() + b"\0" + file.read_bytes() + b"\0")
    return seen.hexdigest()[:12]


def note_versions(manifest: Path) -> None:
    """Keep in a manifest that its folder is continued with other versions than it was begun with."""
    held = read_json(manifest)
    later = held.setdefault("continued_with", [])
    if versions() not in (held["versions"], *later):
        later.append(versions())
        write_json(manifest, held)


def changed_versions(manifest: Mapping[str, Any]) -> list[str]:
    """Which versions, of packages or of the code, changed while a folder was worked on."""
    changed: dict[str, list[str]] = {}
    for later in manifest.get("continued_with", []):
        for name, version in later.items():
            if manifest["versions"].get(name) != version and version not in changed.get(name, ()):
                changed.setdefault(name, []).append(version)
    return [
        f"begun with {name} {manifest['versions'].get(name)}, continued with {', '.join(held)}"
        for name, held in changed.items()
    ]
