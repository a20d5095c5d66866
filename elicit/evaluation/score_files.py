"""Scores as JSON lines: `{"id", "score", "label_hat", "confidence"}`, or `{"id", "unscored": reason}`.

`"truncated": true` says that a text was longer than the monitor reads, and lost its middle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from elicit.errors import RunError
from elicit.files import write_text
from elicit.monitors.calibration import Calibration
from elicit.monitors.scores import Scores


def score_lines(scores: Scores, calibration: Calibration | None) -> Iterator[str]:
    """One JSON line per text. Without a calibration there is a score but no verdict.

    `score` is the raw log-odds-like value, `label_hat` 1 when it lies strictly above the threshold, and `confidence` the
    probability that calibration without labels gives to `label_hat`.
    """
    probability = calibration.probability(scores.values) if calibration else np.full(len(scores), np.nan)
    flagged = calibration.flagged(scores.values) if calibration else np.zeros(len(scores), dtype=bool)
    for row, name in enumerate(scores.ids):
        line: dict[str, object] = {"id": name}
        if scores.reasons[row] is not None:
            line["unscored"] = scores.reasons[row]
        else:
            line["score"] = float(scores.values[row])
            if calibration:
                p = float(probability[row])
                line |= {"label_hat": int(flagged[row]), "confidence": round(p if flagged[row] else 1 - p, 6)}
        if scores.truncated is not None and scores.truncated[row]:
            line["truncated"] = True
        yield json.dumps(line)  # in ASCII: an id may hold half of a surrogate pair


def write_scores(path: Path, scores: Scores, calibration: Calibration | None) -> None:
    """Write the scores of n texts, atomically."""
    write_text(path, "".join(line + "\n" for line in score_lines(scores, calibration)))


def read_scores(path: Path) -> Scores:
    """Read what `write_scores` wrote; values come back exactly."""
    ids, values, reasons, truncated = [], [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            held = json.loads(line)
            ids.append(held["id"])
            reasons.append(held.get("unscored"))
            truncated.append(bool(held.get("truncated", False)))
            values.append(float(held["score"]) if "score" in held else np.nan)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}: line {number} is damaged; delete the file and run the same command again"
            ) from error
    return Scores(tuple(ids), np.array(values), tuple(reasons), truncated=np.array(truncated, dtype=bool))
