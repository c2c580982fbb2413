"""The scheduling priority of this process."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

_NICE = 4  # gets less than a third of a core next to a busy process


def give_way() -> None:
    """Lower the priority of this process; costs nothing while the machine is idle.

    For background work next to a page that responds to the mouse. The Linux scheduler
    treats a session as one group (sched(7), autogroup), and niceness counts only within
    it, so the session's own niceness is raised too. Call this before starting threads:
    they inherit the priority.
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
        except BlockingIOError:  # limited to ten writes a second, system-wide
            time.sleep(0.1)
        else:
            return
