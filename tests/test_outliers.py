"""Counting outliers: planted ones, and spectra that have none to count."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.study.outliers import NOT_COUNTED, count_in_window, count_outliers


@pytest.mark.parametrize("num", [1, 2, 3, 7, 9, 10, 12])
@pytest.mark.parametrize("spread", [1.1, 1.5])
def test_planted_outliers_are_counted_whatever_their_number(
    num: int, spread: float
) -> None:
    """Outliers up to half as far from each other as they are from the bulk."""
    outlying = 40.0 * spread ** -np.arange(num)
    bulk = outlying[-1] / 3 * 1.05 ** -np.arange(12)
    assert count_outliers(np.concatenate([outlying, bulk]))[0] == num


def test_the_count_does_not_depend_on_the_unit() -> None:
    values = np.array([9.0, 8.0, 2.0, 1.9, 1.7, 1.65, 1.6, 1.5, 1.2])
    count, rule = count_outliers(values)
    for unit in (1e-12, 1e9):
        found, sentence = count_outliers(unit * values)
        assert (found, sentence) == (count, rule)


def test_the_rule_says_its_ratio() -> None:
    values = np.array([9.0, 8.0, 2.0, 1.9, 1.8, 1.7])
    count, rule = count_outliers(values)
    assert count == 2
    assert "first 6 eigenvalues of G" in rule
    assert "lambda_2 / lambda_3 = 4.00" in rule


def test_eigenvalues_that_are_not_positive_are_left_out() -> None:
    values = np.array([9.0, 8.0, 2.0, 1.9, 1.8, 0.0, -1e-17, -1.0])
    count, rule = count_outliers(values)
    assert count == 2
    assert "first 5 eigenvalues" in rule


@pytest.mark.parametrize(
    "values", [[], [3.0], [3.0, 1.0], [3.0, 0.0, 0.0], [0.0] * 9, [-1.0] * 9]
)
def test_too_few_eigenvalues_give_none_and_say_so(values: list[float]) -> None:
    count, rule = count_outliers(np.array(values))
    assert count == 0
    assert rule.startswith("fewer than three positive eigenvalues")


@pytest.mark.parametrize("num", [3, 4, 5, 6, 7, 20])
def test_equal_eigenvalues_leave_no_nan(num: int) -> None:
    count, rule = count_outliers(np.full(num, 2.0))
    assert 0 <= count < num
    assert "nan" not in rule
    assert "= 1.00" in rule


def test_the_count_does_not_depend_on_how_many_were_measured() -> None:
    """A drop beyond the window, of the mini-bulk say, is seen by nobody."""
    values = np.r_[
        9.0 * 1.1 ** -np.arange(10),
        1.5 * 1.05 ** -np.arange(13),
        0.01 * 1.01 ** -np.arange(77),
    ]
    assert count_outliers(values[:34])[0] == 23
    found = {count_in_window(values[:num], 10, 100) for num in (17, 19, 34, 100)}
    assert len(found) == 1
    assert found.pop()[0] == 10


def test_fewer_than_the_rule_sees_are_not_counted_and_it_says_so() -> None:
    values = np.r_[9.0, 8.0, 0.1 * 1.1 ** -np.arange(9)]
    count, rule = count_in_window(values[:7], 10, 100)
    assert count == 0
    assert rule == (
        f"{NOT_COUNTED}: the rule needs the first 17 eigenvalues of G, but only 7 were "
        "computed"
    )
    assert count_in_window(values, 10, 11)[0] == 2  # there are no more


def test_zeros_to_rounding_are_no_eigenvalues_that_a_drop_ends_at() -> None:
    values = np.r_[9.0, 8.0, 1.0, 0.9, 0.8, 0.7, 1e-16, 1e-17, 0.0]
    count, rule = count_outliers(values)
    assert count == 2
    assert "first 6 eigenvalues" in rule
