"""The synthetic studies are true to the mathematics that the views rely on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.study.records import load_study


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_the_parts_of_a_synthetic_study_sum_to_g(num_classes, weighting):
    levels = make_study(num_classes).levels[weighting]
    total = sum(levels.trace[part] for part in CONVENTIONS[weighting].parts)
    assert total == pytest.approx(levels.trace["G"], rel=1e-12)


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_no_eigenvalue_of_a_part_exceeds_that_of_g(weighting):
    study = make_study()
    levels = study.levels[weighting]
    whole = study.spectra["G"].eigenvalues
    means = levels.parts[CONVENTIONS[weighting].means_part]
    part = levels.parts[CONVENTIONS[weighting].class_part]
    assert (means <= whole[: len(means)] + 1e-12).all()
    assert (part <= means + 1e-12).all()
    assert (levels.subtracted <= whole[: len(levels.subtracted)] + 1e-12).all()


def test_a_synthetic_study_survives_its_file(tmp_path):
    study = make_study(3, exact=False)
    again = load_study(study.save(tmp_path / "a.study"))
    np.testing.assert_array_equal(again.embedding.points, study.embedding.points)
    assert again.run == study.run


def test_the_seed_decides_a_synthetic_study():
    first, same, other = (make_study(seed=seed) for seed in (0, 0, 1))
    values = [s.spectra["G"].eigenvalues for s in (first, same, other)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2])
