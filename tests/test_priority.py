"""The worker asks for less of the processor than a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
SCRIPT = f"""
import os
from pathlib import Path
from workbench.machine.nice import give_way
give_way()
group = Path({str(GROUP)!r})
print(os.nice(0), group.read_text() if group.exists() else "")
"""


@pytest.mark.skipif(os.name != "posix", reason="no nice(2) here")
@pytest.mark.parametrize("alone", [True, False])
def test_a_session_of_its_own_gives_way_and_never_that_of_another(alone: bool) -> None:
    before = GROUP.read_text() if GROUP.exists() else ""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        start_new_session=alone,
        capture_output=True,
        text=True,
        check=True,
    )
    nice, *group = run.stdout.split()
    assert int(nice) == min(19, os.nice(0) + 4)
    if before and os.access(GROUP, os.W_OK):
        assert group[-1] == ("4" if alone else before.split()[-1])
