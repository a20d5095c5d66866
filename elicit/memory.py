"""Memory that this process has freed and still holds."""

import ctypes
import sys


def give_back_memory() -> None:
    """Hand freed memory back to the system, where the C library can.

    glibc keeps freed blocks for later ones of their size, and every training frees others: without this a process that trains often
    holds several times what its first training needed.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # musl has none
        trim(0)
