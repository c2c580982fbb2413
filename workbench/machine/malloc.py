"""Keep freed memory in the process, to be reused by its next tensors."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGE = 2**27  # bytes; larger blocks return to the system when freed


def keep_freed_memory() -> bool:
    """Let this process keep freed memory and reuse it for later allocations.

    By default the GNU C library returns every freed block above 32 MB to the system and
    requests zeroed pages for the next one. A curvature product with a block of vectors,
    which allocates and frees hundreds of such tensors, took twice as long because of
    it. The cost: until `give_back_memory`, memory use does not fall between peaks,
    except for blocks above 128 MB.

    Returns:
        Whether it was done; only with the GNU C library.
    """
    library = _gnu()
    if library is None:
        return False
    asked = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1))
    return all(library.mallopt(what, value) == 1 for what, value in asked)


def give_back_memory() -> None:
    """Return freed memory to the system, with the GNU C library."""
    if library := _gnu():
        library.malloc_trim(0)


def _gnu() -> ctypes.CDLL | None:
    """The GNU C library, if this is the one in use."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
