"""Methods of the user's own: a Python file that registers them, named as `--method mine.py`."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from dataclasses import replace
from pathlib import Path

from elicit.errors import RunError
from elicit.methods.registry import METHODS


def load_methods(path: Path) -> tuple[str, ...]:
    """Run a file, and give the names of the methods that it registers with `label_free` or `reference`.

    The file is code and does what it likes; name none that you have not read.

    Raises:
        RunError: there is no such file, it fails, it registers nothing, or it takes the name of a method that was there before.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}; name a Python file that is there") from error
    before, code = dict(METHODS), hashlib.sha256(content).hexdigest()
    try:
        _execute(path, content)
        found = [name for name, method in METHODS.items() if before.get(name) is not method]
        for name in found:
            if name in before and before[name].code != code:
                raise RunError(
                    f"{path} registers a method as {name!r}, and there is one of that name; choose another name"
                )
        if not found:
            raise RunError(
                f"{path} registers no method; put `@label_free(name, description)` from elicit above a function of a monitor, an "
                "unlabelled domain and a seed"
            )
    except BaseException:
        METHODS.clear()
        METHODS.update(before)
        raise
    for name in found:
        METHODS[name] = replace(METHODS[name], code=code)
    return tuple(found)


def _execute(path: Path, content: bytes) -> None:
    module = types.ModuleType(f"elicit_methods_in_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where a dataclass in the file looks for it
    beside = str(path.resolve().parent)
    sys.path.insert(0, beside)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)  # the user's own code
    except (Exception, SystemExit) as error:
        own = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
        where = f"{path}, line {line}" if line else f"{path}"
        raise RunError(f"{where}: {type(error).__name__}: {error}; mend the file and run the same command") from error
    finally:
        sys.path.remove(beside)
