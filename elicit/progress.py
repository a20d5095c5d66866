"""Progress of long work: rate and time left on a terminal, and elsewhere the figures alone, as lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Bar:
    """A bar that is called with the number of things done."""

    def __init__(self, bar: Any, description: str) -> None:
        self._bar, self._description = bar, description

    def __call__(self, done: int) -> None:
        self._bar.update(done)

    def say(self, figures: str) -> None:
        """Show figures behind the rate, or on a line of their own."""
        if self._bar.disable:
            logging.getLogger(__name__).info("%s: %s", self._description, figures)
        self._bar.set_postfix_str(figures)


@contextmanager
def progress(total: int, description: str, unit: str = "text") -> Iterator[Bar]:
    """A bar on standard error, shown only when that is a terminal; `elicit --quiet` hides it there too."""
    with tqdm(total=total, desc=description, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True) as bar:
        yield Bar(bar, description)
