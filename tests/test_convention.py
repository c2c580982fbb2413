"""The conventions of averaging: what each includes, divides by and calls its parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.study.convention import (
    CONVENTIONS,
    ICML,
    JMLR,
    SLIDE,
    Convention,
    convention_of,
)

EACH = pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)


@EACH
def test_a_name_gives_its_convention(convention: Convention) -> None:
    assert convention_of(convention.name, "test") is convention


@pytest.mark.parametrize("name", ["ICML", "", None, 3, ["icml"]])
def test_another_name_gets_a_sentence(name: object) -> None:
    with pytest.raises(WorkbenchError, match=r"who: weighting is .*slide, icml, jmlr"):
        convention_of(name, "who")


@EACH
def test_the_parts_of_g_are_those_of_the_means_and_the_rest(
    convention: Convention,
) -> None:
    means = {convention.class_part, convention.cross_part}
    if not convention.includes_true:
        means.add(convention.diagonal_part)
    assert set(convention.parts) == means | {convention.within_part}
    assert convention.means_part not in convention.parts


@EACH
def test_numpy_and_torch_get_the_same_sizes(convention: Convention) -> None:
    probs = np.array([[0.0, 0.1, 0.9], [0.2, 0.3, 0.5]])
    for weigh in (convention.sizes, convention.single):
        assert np.array_equal(weigh(probs), weigh(torch.from_numpy(probs)).numpy())


def test_a_size_squared_is_p_where_delta_is_averaged_and_p_where_g_is() -> None:
    probs = np.array([0.04, 0.0])
    assert SLIDE.sizes(probs).tolist() == ICML.sizes(probs).tolist() == [0.2, 0.0]
    assert JMLR.sizes(probs).tolist() == [0.04, 0.0]
    assert JMLR.single(probs).tolist() == [1.0, 1.0]


def test_the_sum_over_potential_classes_is_divided_by_those_included() -> None:
    assert [c.num_averaged(10) for c in (SLIDE, ICML, JMLR)] == [10, 9, 1]
