"""Progress of long work: rate and time left on a terminal, silence everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(total: int, description: str, unit: str = "text") -> Iterator[Callable[[int], None]]:
    """A bar on standard error, shown only when that is a terminal; `elicit --quiet` hides it there too."""
    with tqdm(total=total, desc=description, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True) as bar:
        yield bar.update
