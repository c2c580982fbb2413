"""The memory that a process has freed: kept for its next tensors."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGE = 2**28  # bytes; what is larger goes back to the system when it is freed


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for what it allocates next.

    The GNU C library gives every freed block above 32 MB back to the system, and is
    given zeroed pages for the next one: a product of a curvature with a block of
    vectors, which makes and frees hundreds of such tensors, took twice as long so.
    Memory does not fall between two peaks, but for blocks above 256 MB, until
    `give_back_memory`.

    Returns:
        Whether it was done: only where the C library is GNU's.
    """
    library = _gnu()
    if library is None:
        return False
    asked = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1))
    return all(library.mallopt(what, value) == 1 for what, value in asked)


def give_back_memory() -> None:
    """Give what is freed now back to the system, where the C library is GNU's."""
    if library := _gnu():
        library.malloc_trim(0)


def _gnu() -> ctypes.CDLL | None:
    """The C library, if it is GNU's."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
