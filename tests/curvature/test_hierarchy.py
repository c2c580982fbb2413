"""The parts of G: against loops, their sum, the chain of inequalities, overlaps."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.conftest import Solved
from tests.oracles import apart, eigenvalues
from workbench.curvature.means.averages import averages
from workbench.curvature.means.parts_of_g import (
    Hierarchy,
    class_overlap,
    factor_eigenvalues,
    hierarchy,
    kept_shares,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.linalg.operator import Dense
from workbench.study.convention import CONVENTIONS


def parts_of(case: Solved, weighting: str) -> Hierarchy:
    return hierarchy(averages(case.means, CONVENTIONS[weighting]))


def matrix(factor: Tensor) -> Tensor:
    return factor @ factor.T


def test_parts_have_the_names_that_a_study_gives_them(
    case: Solved, weighting: str
) -> None:
    found = parts_of(case, weighting)
    assert {"G1", "G12", "G_class", "G_means"} & set(found.factors) == {
        found.convention.class_part,
        found.convention.means_part,
    }
    assert set(CONVENTIONS[weighting].parts) == (
        set(found.factors) - {found.convention.means_part}
        | {found.convention.within_part}
    )


def test_each_part_is_what_its_definition_says(case: Solved, weighting: str) -> None:
    found, expected = parts_of(case, weighting), case.parts(weighting)
    scale = float(case.g.abs().max())
    for part, explicit in expected.matrices.items():
        if part != found.convention.within_part:
            error = (matrix(found.factors[part]) - explicit).abs().max()
            assert float(error) < 1e-10 * scale, part
    spread = within(Dense(case.g), found).to_dense()
    error = (spread - expected.matrices[found.convention.within_part]).abs().max()
    assert float(error) < 1e-10 * scale


def test_the_parts_sum_to_g(case: Solved, weighting: str) -> None:
    found = parts_of(case, weighting)
    explicit = case.parts(weighting).matrices[found.convention.within_part]
    low_rank = [
        matrix(found.factors[p])
        for p in CONVENTIONS[weighting].parts
        if p in found.factors
    ]
    assert apart(sum(low_rank) + explicit, case.g) < 1e-10
    assert (
        apart(matrix(found.factors[found.convention.means_part]) + explicit, case.g)
        < 1e-10
    )


def test_the_parts_are_each_positive_semidefinite(case: Solved, weighting: str) -> None:
    found = parts_of(case, weighting)
    top = float(eigenvalues(case.g)[0])
    for part in (within(Dense(case.g), found), subtracted(Dense(case.g), found)):
        assert float(eigenvalues(part.to_dense())[-1]) > -1e-12 * top


def test_eigenvalues_fall_from_g_to_the_means_to_the_class_part(
    case: Solved, weighting: str
) -> None:
    """lam_j(G) >= lam_j(G1+2) >= lam_j(G1), for every j."""
    found = parts_of(case, weighting)
    whole = eigenvalues(case.g)
    means = eigenvalues(matrix(found.factors[found.convention.means_part]))
    classes = eigenvalues(matrix(found.factors[found.convention.class_part]))
    slack = 1e-13 * float(whole[0])
    assert (whole >= means - slack).all()
    assert (means >= classes - slack).all()
    assert float(classes[0]) > 0.0


def test_eigenvalues_of_a_factor_are_the_nonzero_ones_of_its_product(
    case: Solved, weighting: str
) -> None:
    for factor in parts_of(case, weighting).factors.values():
        found = factor_eigenvalues(factor)
        expected = eigenvalues(matrix(factor))
        assert len(found) == min(factor.shape)
        assert (found >= 0).all()
        assert apart(found, expected[: len(found)]) < 1e-13
        assert float(expected[len(found) :].abs().sum()) <= 1e-12 * float(expected[0])


def test_what_the_averages_keep_falls_from_one(case: Solved, weighting: str) -> None:
    found, expected = parts_of(case, weighting), case.parts(weighting)
    trace = float(case.g.trace())
    each = {n: float(f.square().sum()) for n, f in found.factors.items()}
    everything = float(found.everything.square().sum())
    kept = kept_shares(CONVENTIONS[weighting], {**each, "G": trace}, everything)
    within_trace = expected.matrices[found.convention.within_part].trace()
    class_trace = expected.matrices[found.convention.class_part].trace()
    weight = {"slide": len(expected.classes), "icml": len(expected.classes) - 1}
    weight_all = weight.get(weighting) or float(
        sum(p for c, row in enumerate(mass(case)) for k, p in enumerate(row) if k != c)
    )
    last = weight_all * float(expected.everything.square().sum())
    assert kept[0] == 1.0
    assert abs(kept[1] - (1 - float(within_trace) / trace)) < 1e-10
    assert abs(kept[2] - float(class_trace) / trace) < 1e-10
    assert abs(kept[3] - last / trace) < 1e-10
    assert 1 >= kept[1] >= kept[2] >= kept[3] >= 0


def mass(case: Solved) -> list[list[float]]:
    """``sum_{i in c} p_{ik} / N``."""
    probs, labels = case.gradients.probs, case.gradients.labels
    members = (probs[labels == c].sum(0) for c in range(probs.shape[1]))
    return [(row / len(labels)).tolist() for row in members]


def test_overlaps_are_squared_cosines(case: Solved, weighting: str) -> None:
    found, expected = parts_of(case, weighting), case.parts(weighting)
    vectors = torch.linalg.eigh(case.g)[1].flip(1)[:, :8]
    classes = expected.classes.T  # (P, C)
    normal = classes / classes.norm(dim=0)
    cosines = (vectors.T @ normal).square()
    assert apart(class_overlap(found, vectors), cosines) < 1e-9
    # least squares: the share of u that combinations of the delta_c reach
    fitted = normal @ torch.linalg.lstsq(normal, vectors, driver="gelsd").solution
    share = fitted.square().sum(0)
    overlap = span_overlap(found, vectors)
    assert apart(overlap, share) < 1e-7
    assert (overlap <= 1).all()
    assert (overlap >= class_overlap(found, vectors).max(1).values - 1e-9).all()


def test_a_vector_inside_the_span_overlaps_fully_and_one_outside_not_at_all(
    case: Solved, weighting: str
) -> None:
    found = parts_of(case, weighting)
    basis, size, _ = torch.linalg.svd(found.classes)
    rank = int((size > 1e-12 * size[0]).sum())
    overlap = span_overlap(found, basis)
    assert (overlap[:rank] > 1 - 1e-9).all()
    assert (overlap <= 1).all()
    assert (overlap[len(size) :] < 1e-9).all()
    one = found.classes[:, :1] / found.classes[:, :1].norm()
    assert 1 - 1e-12 < float(class_overlap(found, one)[0, 0]) <= 1


def test_knock_outs_take_the_class_part_away(case: Solved, weighting: str) -> None:
    found, expected = parts_of(case, weighting), case.parts(weighting)
    left = subtracted(Dense(case.g), found).to_dense()
    without = case.g - expected.matrices[found.convention.class_part]
    assert apart(left, without) < 1e-10
    classes = found.classes
    gone = projected(Dense(case.g), found).to_dense()
    top = float(case.g.abs().max())
    assert float((gone @ (classes / classes.norm(dim=0))).abs().max()) < 1e-12 * top
    keep = torch.eye(len(case.g)).double() - classes @ torch.linalg.pinv(classes)
    assert float((gone - keep @ case.g @ keep).abs().max()) < 1e-8 * top


def test_single_precision_is_good_to_its_rounding(case: Solved, weighting: str) -> None:
    means = case.means
    exact = hierarchy(averages(means, CONVENTIONS[weighting]))
    single = {
        part: factor_eigenvalues(factor.float())
        for part, factor in exact.factors.items()
    }
    for part, factor in exact.factors.items():
        assert single[part].dtype == torch.float64
        assert apart(single[part], factor_eigenvalues(factor)) < 1e-6
        rounded = factor_eigenvalues(factor.float().double())
        assert apart(single[part], rounded) < 1e-14  # products in double precision
    vectors = torch.linalg.eigh(case.g)[1][:, -4:]
    parts = Hierarchy(
        exact.convention, exact.factors, exact.classes.float(),
        exact.everything.float(),
    )  # fmt: skip
    found = span_overlap(parts, vectors.float())
    assert found.dtype == torch.float64
    assert (found <= 1).all()
    assert class_overlap(parts, vectors.float()).dtype == torch.float64
