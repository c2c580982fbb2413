"""What follows from the inner products of the gradients, against dense matrices."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.curvature.conftest import Solved, solve
from tests.oracles import apart, eigenvalues
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.gram import Gram
from workbench.errors import WorkbenchError
from workbench.progress.control import Progress


@cache
def _gram(case: Solved) -> Gram:
    return risk_gram(case.risk)


def off(found: Tensor, matrix: Tensor, g: Tensor) -> float:
    """The largest error of an eigenvalue, over the largest one of G."""
    expected = eigenvalues(matrix)
    num = min(len(found), len(expected))
    rest = torch.cat([found[num:], expected[num:]])
    worst = torch.cat([found[:num] - expected[:num], rest]).abs().max()
    return float(worst / eigenvalues(g)[0])


def test_parts_and_knock_outs_are_those_of_the_dense_matrices(
    case: Solved, weighting: str
) -> None:
    dual, expected = _gram(case), case.parts(weighting)
    assert off(dual.eigenvalues(), case.g, case.g) < 1e-10
    for name, matrix in expected.matrices.items():
        if (weighting, name) != ("slide", "G_diag"):
            assert off(dual.part(name, weighting), matrix, case.g) < 1e-10, name
    class_part = expected.matrices[expected.class_part]
    left = dual.knock_out(weighting)
    assert off(left, case.g - class_part, case.g) < 1e-10
    basis, size, _ = torch.linalg.svd(expected.classes.T, full_matrices=False)
    basis = basis[:, size > 1e-7 * size[0]]
    keep = torch.eye(len(case.g)).double() - basis @ basis.T
    gone = dual.knock_out(weighting, how="project")
    assert off(gone, keep @ case.g @ keep, case.g) < 1e-8


def test_eigenvalues_fall_from_g_to_the_means_to_the_class_part(
    case: Solved, weighting: str
) -> None:
    dual = _gram(case)
    means = "G12" if weighting == "icml" else "G_means"
    name = case.parts(weighting).class_part
    whole, middle, last = (
        dual.eigenvalues(),
        dual.part(means, weighting),
        dual.part(name, weighting),
    )
    slack = 1e-13 * float(whole[0])
    num = min(len(whole), len(middle))
    assert (whole[:num] >= middle[:num] - slack).all()
    assert float(middle[num:].abs().sum()) <= 100 * slack
    assert (middle[: len(last)] >= last - slack).all()


def test_overlaps_are_those_of_dense_eigenvectors(case: Solved, weighting: str) -> None:
    found = _gram(case).overlaps(5, weighting)
    values, vectors = torch.linalg.eigh(case.g)
    values, vectors = values.flip(0)[:6], vectors.flip(1)[:, :5]
    gaps = (values[:-1] - values[1:]) / values[0]
    clear = torch.minimum(gaps, torch.cat([gaps[:1], gaps[:-1]])) > 1e-3
    assert apart(found.values, values[:5]) < 1e-10
    classes = case.parts(weighting).classes.T
    normal = classes / classes.norm(dim=0)
    cosines = (vectors.T @ normal).square()
    fitted = normal @ torch.linalg.lstsq(normal, vectors, driver="gelsd").solution
    span = fitted.square().sum(0)
    assert clear.any()
    assert float((found.classes - cosines)[clear].abs().max()) < 1e-6
    assert float((found.span - span)[clear].abs().max()) < 1e-6


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_are_those_of_the_vectors(metric: str) -> None:
    case, chosen = solve("residual"), torch.tensor([2, 7])
    parts = case.parts("icml")
    vectors = torch.cat(
        [
            case.gradients.delta[chosen].flatten(0, 1),
            parts.cross.flatten(0, 1),
            parts.classes,
            parts.everything[None],
        ]
    )
    expected = torch.cdist(
        vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist"
    )
    if metric == "cosine":
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        expected = 1 - unit @ unit.T
    found = _gram(case).distances(chosen, metric=metric)  # type: ignore[arg-type]
    assert apart(found, expected.fill_diagonal_(0.0)) < 1e-6


def test_the_silence_of_the_eigensolver_is_announced() -> None:
    events: list[Progress] = []
    _gram(solve("unequal")).eigenvalues(progress=events.append)
    assert [event.fraction for event in events] == [0.0, 1.0]
    assert events[0].detail.startswith("26 at once: about ")


def test_a_part_that_is_not_there_gets_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match="icml has no part 'G_class'; choose one"):
        _gram(solve("unequal")).part("G_class")
