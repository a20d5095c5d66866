"""Where and when something was measured: processor, cores, threads, GPU, the commit of our code, and wall time call by call."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from elicit.files import read_json, write_json

ROOT = Path(__file__).parents[1]


def here() -> dict[str, Any]:
    """This machine, as JSON values."""
    import torch

    found: dict[str, Any] = {"processor": _processor(), "cores": _cores(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def in_words(machine: Mapping[str, Any]) -> str:
    """As in "2 cores (Some Processor)"."""
    gpu = f" and {machine['gpu']}" if "gpu" in machine else ""
    return f"{machine['cores']} cores ({machine['processor']}){gpu}"


@cache
def commit() -> str:
    """The commit of the code that runs, with "+" where its modules have been changed since; empty where it is in no repository."""
    if _git("ls-files", "--error-unmatch", str(Path(__file__))) is None:
        return ""  # installed into an environment that lies in somebody else's repository, say
    head = _git("rev-parse", "--short=12", "HEAD") or ""
    return head + ("+" if _git("status", "--porcelain", "--", "probes", "elicit", "experiments") else "")


@contextmanager
def noted_call(out: Path) -> Iterator[None]:
    """Keep in a folder's manifest when the work within began, where, and how many seconds it took, however it ends.

    A call that is killed leaves no seconds; neither do those of a folder that was begun before they were kept. One that found all
    there is already is not kept.
    """
    manifest, before = out / "manifest.json", _files(out)
    earlier = read_json(manifest).get("calls")
    call = {"began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit(), "machine": here()}
    _keep(manifest, [*([{"seconds": None}] if earlier is None else earlier), call | {"seconds": None}])
    since = time.perf_counter()
    try:
        yield
    finally:
        if _files(out) == before:
            _keep(manifest, earlier or [])
        else:
            seconds = round(time.perf_counter() - since, 1)
            _keep(manifest, [*read_json(manifest)["calls"][:-1], call | {"seconds": seconds}])


def _files(out: Path) -> set[Path]:
    """What was measured: files in the folders of a folder, not those that results are told in."""
    return {path for path in out.rglob("*") if path.is_file() and path.parent not in (out, out / "figures")}


def _keep(manifest: Path, calls: Sequence[Mapping[str, Any]]) -> None:
    write_json(manifest, read_json(manifest) | {"calls": calls})


def time_in_words(calls: Sequence[Mapping[str, Any]]) -> str:
    """Wall time of all calls, and of how many it is not known."""
    known = [call["seconds"] for call in calls if call["seconds"] is not None]
    unknown = len(calls) - len(known)
    said = f"{sum(known) / 60:.1f} min" + (f" in {len(known)} calls" if len(known) > 1 else "")
    return said + (f", and {unknown} earlier or interrupted, for how long is not known" if unknown else "")


def _git(*words: str) -> str | None:
    """What git says, or None where it cannot tell."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cores() -> int:
    """On which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Its name; Linux tells it in a file."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
