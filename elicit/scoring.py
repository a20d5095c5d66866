"""Scoring files of texts that nobody labelled: line by line, in constant memory, and continued after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from elicit.domains import UnlabelledDomain
from elicit.errors import DomainError, ModelError, RunError
from elicit.evaluation.score_files import score_lines
from elicit.files import read_json
from elicit.language_models.language_model import LanguageModel
from elicit.monitors import Calibration, Monitor, Scores
from elicit.progress import progress

CHUNK = 512  # lines that are held in memory at once


class Scored(NamedTuple):
    """How many texts there were, how many of them have no score, and how many lost their middle."""

    total: int
    unscored: int
    truncated: int


def calibration_of(folder: Path) -> Calibration | None:
    """The calibration that was saved with a monitor, if there is one."""
    file = folder / "calibration.json"
    return Calibration.from_json(read_json(file)["calibration"]) if file.is_file() else None


def score_file(
    monitor: Monitor,
    texts: Path,
    out: Path,
    calibration: Calibration | None = None,
    key: str = "text",
    monitor_folder: Path | None = None,
) -> Scored:
    """Score a JSON-lines file; one line of output per line of input, in the same order.

    A line that is no JSON object, or has no text, is *unscored* with the reason. What was scored before an interruption is kept
    beside `out`, and continued when the same texts are scored in the same way; the name `out` appears only when all is done.

    Args:
        monitor: scores the texts; it must have a question of its own.
        texts: JSON lines with the text under `key`, and optionally "id".
        out: where the scores go.
        calibration: gives verdicts and confidences as well.
        key: which field holds the text.
        monitor_folder: where the monitor lies, if it does: unfinished scores of one that is there no more are not continued.

    Returns:
        how many texts there are, and of how many is to be said something.

    Raises:
        ModelError: the monitor has no question.
        RunError: a file cannot be read or written, or `out` is there already.
    """
    if monitor.question is None:
        raise ModelError("this monitor has no question of its own; pass --question")
    check_files(texts, out, key)
    try:
        part = _part(out, texts, key, monitor, monitor_folder, calibration)
        with _only_one(part):
            return _continue(monitor, texts, out, part, calibration, key)
    except OSError as error:
        raise RunError(
            f"{error.filename or out}: {error.strerror or error}; what is scored is kept, run the command again"
        ) from error


def check_files(texts: Path, out: Path, key: str) -> None:
    """Refuse what can be refused before a model is loaded.

    Raises:
        DomainError: there is no such file of texts.
        RunError: it is of another kind, or the scores cannot go where they are to go.
    """
    if not texts.is_file():
        raise DomainError(f"there is no file {texts}; name a JSON-lines file with one text per line")
    if texts.resolve() == out.resolve():
        raise RunError(f"{out} is the input itself; name another --out")
    if out.exists():
        raise RunError(f"{out} is there already; delete it, or name another --out")
    if not out.absolute().parent.is_dir():
        raise RunError(f"there is no folder {out.parent} to write {out.name} to; make it, or choose another --out")
    if texts.suffix == ".eval":
        raise RunError(
            f"{texts.name} is no JSON-lines file; of a log of Inspect, `elicit.domains.transcripts.read_transcripts` makes texts"
        )
    if texts.suffix in (".csv", ".parquet", ".tsv", ".xlsx"):
        raise RunError(f"{texts.name} is no JSON-lines file; write one object with a field {key!r} per line")


def _continue(
    monitor: Monitor, texts: Path, out: Path, part: Path, calibration: Calibration | None, key: str
) -> Scored:
    """Score what is not in `part` yet."""
    total = _count_lines(texts)
    done = _continued(part)
    with (
        texts.open("rb") as lines,
        part.open("a", encoding="utf-8") as sink,
        progress(total, f"scoring {texts.name}") as step,
    ):
        step(done)
        rows = enumerate(lines)
        for _ in islice(rows, done):
            pass
        while chunk := list(islice(rows, CHUNK)):
            scores = _score(monitor, [_Line.read(number, raw, key) for number, raw in chunk])
            sink.writelines(line + "\n" for line in score_lines(scores, calibration))
            sink.flush()
            step(len(chunk))
    os.replace(part, out)
    unscored = truncated = 0
    with out.open(encoding="utf-8") as written:
        for line in written:
            unscored += '"unscored": ' in line
            truncated += '"truncated": true' in line
    return Scored(total, unscored, truncated)


@contextmanager
def _only_one(part: Path) -> Iterator[None]:
    """One process at a time writes these scores; the lock is a file that goes with its process."""
    lock = FileLock(part.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"another process is writing {part.name}; wait for it or choose another --out") from error
    try:
        yield
    finally:
        if not part.exists():
            part.with_suffix(".lock").unlink(missing_ok=True)
        lock.release()


class _Line:
    """One line of the input: an id, and a text or the reason why there is none."""

    def __init__(self, name: str, text: str, reason: str | None = None) -> None:
        self.id, self.text, self.reason = name, text, reason

    @classmethod
    def read(cls, number: int, raw: bytes, key: str) -> _Line:
        try:
            held: Any = json.loads(raw.decode("utf-8-sig" if number == 0 else "utf-8", "replace"))
        except (ValueError, RecursionError):
            return cls(str(number), "", f"line {number + 1} is no JSON")
        if not isinstance(held, dict):
            return cls(str(number), "", f"line {number + 1} is no JSON object with a field {key!r}")
        name = str(held.get("id", number))
        if not isinstance(held.get(key), str):
            return cls(name, "", f"line {number + 1} has no text in its field {key!r}")
        return cls(name, held[key])


def _score(monitor: Monitor, lines: list[_Line]) -> Scores:
    assert monitor.question is not None
    readable = [row for row, line in enumerate(lines) if line.reason is None]
    values = np.full(len(lines), np.nan)
    reasons, truncated = [line.reason for line in lines], np.zeros(len(lines), dtype=bool)
    if readable:
        texts = UnlabelledDomain.from_texts([lines[row].text for row in readable], monitor.question)
        scores = monitor.score(texts)
        for row, value, reason in zip(readable, scores.values, scores.reasons, strict=True):
            values[row], reasons[row] = value, reason
        if scores.truncated is not None:
            truncated[readable] = scores.truncated
    return Scores(tuple(line.id for line in lines), values, tuple(reasons), truncated=truncated)


def _part(
    out: Path, texts: Path, key: str, monitor: Monitor, monitor_folder: Path | None, calibration: Calibration | None
) -> Path:
    """Where unfinished scores lie: named after all that decides them, so that none of another input or monitor is taken up."""
    model: LanguageModel | None = getattr(monitor, "model", None)
    identity = [
        str(texts.resolve()),
        *_stamp(texts),
        key,
        str(monitor_folder.resolve()) if monitor_folder else "",
        # A monitor may have been trained again in its folder.
        [
            [str(path), *_stamp(path)]
            for path in sorted(monitor_folder.rglob("*") if monitor_folder else ())
            if path.is_file()
        ],
        model.fingerprint() if model is not None else "",
        str(monitor.question),
        str(calibration),
    ]
    return out.with_name(f".{out.name}.{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}.part")


def _stamp(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _continued(part: Path) -> int:
    """How many whole lines an interrupted output has; half a line at its end is cut off."""
    if not part.is_file():
        return 0
    kept, size = 0, 0
    with part.open("r+b") as written:
        for line in written:
            if line.endswith(b"\n"):
                kept, size = kept + 1, size + len(line)
        written.truncate(size)
    return kept
