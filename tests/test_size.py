"""Where the size of the outliers comes from, and what collapse predicts of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.study.size import (
    num_told,
    predicted_class_part,
    predicted_of,
    size_of,
)


@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_class_part_cross_part_and_variation_make_up_the_whole(weighting: str) -> None:
    for num_classes in (2, 4, 10):
        study = make_study(num_classes)
        levels = study.levels[weighting]
        size = size_of(study, levels)
        assert size is not None
        shares = (size.class_part, size.cross, size.within)
        assert sum(shares) == pytest.approx(1, abs=1e-12)
        assert min(shares) > -1e-9
        assert size.num == num_told(study, levels) >= num_classes - 1


@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_without_variation_within_the_classes_none_is_found(weighting: str) -> None:
    collapsed = make_study(6, noise=0.0)
    levels = collapsed.levels[weighting]
    size, found = size_of(collapsed, levels), predicted_of(collapsed, levels)
    assert size is not None
    assert found is not None
    assert size.within == pytest.approx(0, abs=1e-9)
    assert found.size == pytest.approx(size.class_part, rel=1e-9)  # its only layer
    assert found.share == pytest.approx(1, rel=1e-9)
    assert found.error < 1e-9
    np.testing.assert_allclose(
        predicted_class_part(collapsed, levels),
        levels.parts[levels.convention.class_part][:6],
        rtol=1e-9,
    )
    varied = make_study(6, noise=1.0)
    seen, wrong = (f(varied, varied.levels[weighting]) for f in (size_of, predicted_of))
    assert seen is not None
    assert wrong is not None
    assert seen.within > 0.05
    assert wrong.size > seen.class_part + 0.01
    assert wrong.error > 0.05


def test_where_means_were_not_formed_only_the_class_part_is_known() -> None:
    study = make_study(4)
    levels = study.levels["icml"]
    few = replace(levels, parts=levels.parts | {"G12": levels.parts["G12"][:1]})
    known, size = size_of(study, levels), size_of(study, few)
    assert known is not None
    assert size is not None
    assert size.class_part == known.class_part
    assert np.isnan(size.cross)
    assert np.isnan(size.within)


def test_nothing_is_predicted_without_a_last_layer_or_with_many_classes() -> None:
    old = make_study(4, with_last_layer=False)
    many = make_study(21)
    for study in (old, many):
        levels = study.levels["icml"]
        assert predicted_of(study, levels) is None
        assert not len(predicted_class_part(study, levels))
        assert size_of(study, levels) is not None
