"""What a process has freed goes back to the system."""

import platform
from pathlib import Path

import pytest
import torch

from elicit.memory import give_back_memory


def resident() -> int:
    """Bytes that this process holds."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library keeps it")
def test_blocks_below_one_that_is_still_used_are_given_back() -> None:
    held = [torch.zeros(10_000) for _ in range(5_000)]  # 200 MB
    last = held[-1]
    before = resident()
    del held
    give_back_memory()
    assert before - resident() > 150e6
    assert not last.any()
