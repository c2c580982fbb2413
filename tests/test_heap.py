"""Freed memory is kept for what comes next, where the C library is GNU's."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

from workbench import keep_freed_memory

assert keep_freed_memory() if sys.argv[1] == "keep" else True
bytearray(1) * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(1) * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no GNU C library")
def test_memory_that_was_freed_is_not_asked_of_the_system_again() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(found.stdout)

    assert faults("keep") < 0.01 * faults("leave")


GIVEN_BACK = """
from workbench.machine.malloc import give_back_memory, keep_freed_memory


def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1])


keep_freed_memory()
before = resident()
blocks = [bytearray(b"1") * 2**26 for _ in range(4)]
del blocks
kept = resident() - before
give_back_memory()
print((resident() - before) / kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no GNU C library")
def test_between_two_stages_it_goes_back() -> None:
    command = [sys.executable, "-c", GIVEN_BACK]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(found.stdout) < 0.1
