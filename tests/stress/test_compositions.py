"""Random networks of the zoo's pieces are right by every entry, and stay as they were.

``STRESS=500 pytest tests/stress`` tries as many.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.stress.compositions import compositions
from tests.zoo.case import Case, quiet
from tests.zoo.judge import ASK, judge, oracle_of
from tests.zoo.photograph import changes, photograph

ENTRIES = ("operators", "class_means", "gram", "exact_spectrum", "dual_operator")


@pytest.mark.slow
@pytest.mark.parametrize("layerwise", [False, True], ids=["as it comes", "by layers"])
@settings(
    max_examples=int(os.environ.get("STRESS", 40)),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(compositions())
def test_a_random_composition_is_right_by_every_entry(
    layerwise: bool, case: Case
) -> None:
    oracle = oracle_of(case)
    with pytest.MonkeyPatch.context() as patch, quiet():
        if layerwise:  # as if there were many examples
            patch.setattr("workbench.curvature.products.layerwise.SMALL", 0)
        for entry in ENTRIES[: 1 if layerwise else None]:
            if entry == "class_means" and not case.plain:
                continue
            situation = case.build()
            before = photograph(situation)
            found = ASK[entry](situation)
            assert changes(before, photograph(situation)) == [], entry
            judge(case, entry, found, lambda: oracle)
