"""Methods that a user's file registers: named by file, kept apart from the project's own, refused with the line that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicit.errors import RunError
from elicit.methods import METHODS, load_methods

FILE = """
from __future__ import annotations
from dataclasses import dataclass
from elicit import Elicited, label_free

@dataclass
class Held:
    seed: int

@label_free("mine", "the monitor as it is")
def mine(monitor, target, seed):
    return Elicited(monitor, {"seed": Held(seed).seed})
"""


@pytest.fixture(autouse=True)
def same_methods():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def test_a_file_registers_a_method(tmp_path) -> None:
    path = written(tmp_path, FILE)
    assert load_methods(path) == ("mine",)
    assert METHODS["mine"].labels == "none"
    assert METHODS["mine"].label_free("a monitor", None, 3).details == {"seed": 3}
    code = METHODS["mine"].code
    assert len(code) == 64
    assert load_methods(path) == ("mine",)  # the same file again is no second method
    assert METHODS["mine"].code == code
    assert not any(method.code for name, method in METHODS.items() if name != "mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "registers no method; put `@label_free"),
        ("x = 1\ny = x +\n", "mine.py, line 2: SyntaxError"),
        ("def f():\n    return 1 / 0\n\nf()\n", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_package\n", "mine.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        (FILE.replace('"mine"', '"transfer"'), "registers a method as 'transfer', and there is one of that name"),
        (FILE + "\n1 / 0\n", "mine.py, line 14: ZeroDivisionError"),
        (FILE + "\nimport sys\nsys.exit()\n", "mine.py, line 15: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_used_registers_nothing(tmp_path, text: str, said: str) -> None:
    before = dict(METHODS)
    with pytest.raises(RunError) as raised:
        load_methods(written(tmp_path, text))
    assert said in str(raised.value)
    assert before == METHODS


def test_two_files_cannot_register_one_name(tmp_path) -> None:
    load_methods(written(tmp_path, FILE))
    with pytest.raises(RunError, match="there is one of that name"):
        load_methods(written(tmp_path, FILE + "\n# another\n"))


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*none\.py: No such file or directory"):
        load_methods(tmp_path / "none.py")


def test_what_runs_is_what_was_hashed_however_soon_a_file_changes(tmp_path) -> None:
    load_methods(written(tmp_path, FILE))
    METHODS.pop("mine")
    load_methods(written(tmp_path, FILE.replace("seed).seed", "seed+1).se")))  # as long, and in the same second
    with pytest.raises(AttributeError):
        METHODS["mine"].label_free("a monitor", None, 3)


def test_a_file_may_import_what_lies_beside_it(tmp_path) -> None:
    (tmp_path / "beside_mine.py").write_text("NAME = 'from beside'\n")
    path = written(
        tmp_path, FILE.replace("@dataclass", "from beside_mine import NAME\n@dataclass").replace('"mine"', "NAME")
    )
    assert load_methods(path) == ("from beside",)


def test_a_name_that_would_be_a_path_is_refused(tmp_path) -> None:
    for name in ("../mine", "a/b", "", "x" * 101):
        with pytest.raises(RunError, match="cannot name a folder"):
            load_methods(written(tmp_path, FILE.replace('"mine"', repr(name))))
