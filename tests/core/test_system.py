"""What the system says of memory, read from what it prints."""

import sys

import numpy as np
import pytest

from mlx_transformers.core import system

MIB = 2**20


def test_a_process_that_takes_memory_grows_by_it() -> None:
    before = system.process_bytes()
    held = np.ones(64 * MIB // 8)
    after = system.process_bytes()
    assert 60 * MIB < after - before < 80 * MIB
    assert held.sum() > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_memory_that_is_given_back_is_not_counted() -> None:
    held = np.ones(64 * MIB // 8)
    most = system.process_bytes()
    del held
    assert most - system.process_bytes() > 60 * MIB


def test_swap_of_macos() -> None:
    text = "total = 2048.00M  used = 1019.75M  free = 1028.25M  (encrypted)\n"
    assert system.darwin_swap(text) == 1019.75 * MIB
    assert system.darwin_swap(text.replace("1019.75M", "1,50G")) == 1.5 * 2**30
    assert system.darwin_swap("") is None


def test_swap_of_linux() -> None:
    text = "MemTotal:       65536 kB\nSwapTotal:       2048 kB\nSwapFree:        1024 kB\n"
    assert system.linux_swap(text) == MIB
    assert system.linux_swap("MemTotal:       65536 kB\n") is None
