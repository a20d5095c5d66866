"""Where and when something was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from elicit.files import read_json, write_json
from experiments import machine


def git(*words: str, folder: Path) -> str:
    options = ("-c", "user.name=n", "-c", "user.email=e@x")
    return subprocess.run(
        ["git", "-C", str(folder), *options, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds our code, as far as `commit` looks."""
    file = tmp_path / "experiments" / "machine.py"
    file.parent.mkdir()
    file.write_text("one")
    git("init", "-q", folder=tmp_path)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "__file__", str(file))
    return tmp_path


def test_the_commit_of_the_code_and_whether_it_has_changed_since(repository: Path) -> None:
    commit = machine.commit.__wrapped__
    assert commit() == ""  # in somebody else's repository, which does not know this file
    git("add", ".", folder=repository)
    git("commit", "-qm", "one", folder=repository)
    head = git("rev-parse", "--short=12", "HEAD", folder=repository)
    assert commit() == head
    (repository / "notes.md").write_text("no code")
    assert commit() == head
    (repository / "experiments" / "machine.py").write_text("two")
    assert commit() == f"{head}+"


def full_after(file: Path) -> None:
    write_json(file, {})
    raise OSError("the disk is full")


def test_a_call_that_fails_after_it_measured_is_kept_and_one_that_measured_nothing_is_not(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    write_json(manifest, {"calls": []})
    with pytest.raises(OSError, match="full"), machine.noted_call(tmp_path):
        full_after(tmp_path / "parts" / "a.json")
    (kept,) = read_json(manifest)["calls"]
    assert kept["seconds"] is not None
    with pytest.raises(ValueError, match="again"), machine.noted_call(tmp_path):
        raise ValueError("again")
    with machine.noted_call(tmp_path):
        write_json(tmp_path / "results.json", {})  # tells, and measures nothing
    assert read_json(manifest)["calls"] == [kept]


def test_a_killed_call_and_a_folder_from_before_leave_no_seconds(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    write_json(manifest, {"versions": {}})
    with machine.noted_call(tmp_path):
        first, second = read_json(manifest)["calls"]  # what a kill would leave
        assert (first, second["seconds"]) == ({"seconds": None}, None)
        write_json(tmp_path / "parts" / "a.json", {})
    assert [call["seconds"] is None for call in read_json(manifest)["calls"]] == [True, False]
