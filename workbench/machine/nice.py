"""How much of the processor this process asks for, beside others."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

_NICE = 4  # less than a third of the processor beside one who wants all of it


def give_way() -> None:
    """Let every other process go first; where none wants to, nothing is lost.

    For work that nobody watches second by second, beside a page that answers the
    mouse. On Linux a session of its own counts as one in the scheduler (sched(7),
    autogroup), so that what is nice inside it is only nice to itself: the session is
    made nice too. Call it before there are threads; they have the priority of who
    starts them.
    """
    if os.name == "posix":
        os.nice(_NICE)
    if sys.platform == "linux" and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _be_nice_as_a_session()


def _be_nice_as_a_session() -> None:
    for _ in range(50):
        try:
            Path("/proc/self/autogroup").write_text(str(_NICE))
        except BlockingIOError:  # ten a second may ask, of all processes
            time.sleep(0.1)
        else:
            return
