"""What a command changes in a preset, and what is refused before anything is claimed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elicit.errors import DomainError, RunError
from elicit.methods import METHODS
from experiments.changes import change, options


@dataclass(frozen=True)
class Preset:
    source: str = "vader/amazon"
    targets: tuple[str, ...] = ("vader/tweets",)
    methods: tuple[str, ...] = ("transfer", "keyword-source", "ccs", "crc")
    seeds: tuple[int, ...] = (0, 1, 2)
    model: str = "usual"


@dataclass(frozen=True)
class Matrix:
    domains: tuple[str, ...] = ("vader/amazon", "vader/tweets")
    seeds: tuple[int, ...] = (0,)
    model: str = "usual"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models that were asked for; methods that a test registers are forgotten."""
    asked: list[str] = []
    monkeypatch.setattr("experiments.changes.check_model", asked.append)
    before = dict(METHODS)
    yield asked
    METHODS.clear()
    METHODS.update(before)


def film(folder: Path, name: str, file: str = "films") -> str:
    (folder / f"{file}.jsonl").write_text("".join(f'{{"text": "film {i}", "label": {i % 2}}}\n' for i in range(20)))
    path = folder / f"{file}.toml"
    path.write_text(f'name = "{name}"\ndata = "{file}.jsonl"\nlabel = "label"\nquestion = "Is it good?"\n')
    return str(path)


def test_a_file_is_known_by_its_own_name_and_found_by_what_was_written(tmp_path: Path) -> None:
    mine = film(tmp_path, "my/films")
    changed = change(Preset(), {"targets": (mine, "vader/nyt"), "seeds": (7,)})
    assert changed.preset == Preset(targets=("my/films", "vader/nyt"), seeds=(7,))
    assert changed.written == {"my/films": mine, "vader/nyt": "vader/nyt"}
    assert change(Preset(), {"source": mine}).preset.source == "my/films"


def test_nothing_asked_changes_nothing_and_the_model_is_looked_for(found: list[str]) -> None:
    assert change(Preset(), {}).preset == Preset()
    assert change(Preset(), {"model": "other"}).preset.model == "other"
    assert found == ["usual", "other"]


def test_methods_take_the_place_of_label_free_ones_and_references_stay(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    code = '@label_free("mine", "nothing")\ndef mine(monitor, target, seed):\n    raise ValueError\n'
    file.write_text(f"from elicit import label_free\n\n\n{code}")
    changed = change(Preset(), {"methods": ("vinc", str(file), "vinc")})
    assert changed.preset.methods == ("transfer", "keyword-source", "vinc", "mine")
    assert change(Preset(), {"methods": ("keyword-source", "ccs")}).preset.methods == (
        "transfer",
        "keyword-source",
        "ccs",
    )


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"methods": ("cccs",)}, RunError, r"no method 'cccs'; did you mean ccs\?"),
        ({"methods": ("verdict-target",)}, RunError, "verdict-target uses labels"),
        ({"source": "vader/tweets"}, RunError, "vader/tweets is source and target at once"),
        ({"targets": ("vader/amazon",)}, RunError, "vader/amazon is source and target at once"),
        ({"targets": ("vader/nyt", "vader/nyt")}, DomainError, "two targets are called vader/nyt"),
        ({"targets": ("vader/tweet",)}, DomainError, "vader/tweets"),
        ({"seeds": (0, 1, 0)}, RunError, "seed 0 is named twice"),
        ({"model": "endpoint:http://127.0.0.1:1/v1"}, RunError, "a server trains nothing"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        change(Preset(), changes)


def test_two_files_of_one_name_and_one_domain_alone_are_refused(tmp_path: Path) -> None:
    one, other = film(tmp_path, "my/films"), film(tmp_path, "my/films", "others")
    with pytest.raises(RunError, match=r"films\.toml and .*others\.toml are both called my/films"):
        change(Preset(), {"source": one, "targets": (other,)})
    flat = film(tmp_path, "my-films", "flat")
    with pytest.raises(RunError, match="my/films and my-films would be one file's name"):
        change(Matrix(), {"domains": (one, flat)})
    with pytest.raises(RunError, match="name --domain twice at least"):
        change(Matrix(), {"domains": (one,)})
    assert change(Matrix(), {"domains": (one, "vader/nyt")}).preset.domains == ("my/films", "vader/nyt")


def test_the_command_says_what_was_written() -> None:
    changes = {"source": "a.toml", "targets": ("b", "c.toml"), "seeds": (0, 3), "log": ("x.eval",), "model": "m"}
    words = "--source a.toml --target b --target c.toml --seed 0 --seed 3 --log x.eval --model m"
    assert options(changes) == words.split()
