"""Progress of long work: rate and time left on a terminal, silence everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Bar:
    """A bar that is called with the number of things done."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, done: int) -> None:
        self._bar.update(done)

    def say(self, figures: str) -> None:
        """Show figures behind the rate."""
        self._bar.set_postfix_str(figures)


@contextmanager
def progress(total: int, description: str, unit: str = "text") -> Iterator[Bar]:
    """A bar on standard error, shown only when that is a terminal; `elicit --quiet` hides it there too."""
    with tqdm(total=total, desc=description, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True) as bar:
        yield Bar(bar)
