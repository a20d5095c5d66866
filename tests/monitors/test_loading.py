"""A monitor's folder that is damaged, old or foreign ends with one clear error."""

import json
from pathlib import Path

import pytest

from elicit.errors import ModelError, RunError
from elicit.files import read_json
from elicit.monitors import load_monitor

QUESTION = {"text": "Is it good?", "flagged": "Yes", "cleared": "No"}


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("{", "damaged"),
        ({"schema": 99}, "another version"),
        ({"schema": 1, "kind": "keyword", "question": QUESTION, "intercept": 1}, "vocabulary"),
        ({"schema": 1, "kind": "probe", "question": QUESTION}, "model"),
        ({"schema": 1, "kind": "keyword", "question": {"text": "x", "other": 1}}, "damaged"),
    ],
)
def test_damaged_folders(held: object, says: str, tmp_path: Path) -> None:
    (tmp_path / "monitor.json").write_text(held if isinstance(held, str) else json.dumps(held))
    with pytest.raises(ModelError, match=says):
        load_monitor(tmp_path)


def test_a_damaged_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(RunError, match=r"calibration\.json is damaged"):
        read_json(tmp_path / "calibration.json")
