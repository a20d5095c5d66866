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


def test_a_place_that_is_no_monitor_is_refused_with_those_of_its_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("films/ccs", "films/transfer"):
        (run / "monitors" / name).mkdir(parents=True)
        (run / "monitors" / name / "monitor.json").write_text("{}")
    (run / "manifest.json").write_text("{}")
    both = f"{run}/monitors/films/ccs, {run}/monitors/films/transfer"
    for place in (run, run / "monitors" / "films", run / "monitors" / "books" / "ccs"):
        with pytest.raises(ModelError) as error:
            load_monitor(place)
        assert str(error.value) == f"{place} holds no monitor; its run has {both}"


def test_a_path_that_leads_nowhere_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^there is no folder"):
        load_monitor(tmp_path / "none")
