"""What each entry answers, and whether it is right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

import workbench as wb
from tests.zoo.case import Case, Situation
from tests.zoo.networks import CASES, SWEEP
from tests.zoo.oracle import LargeOracle, Oracle, batches, doubled
from workbench.errors import WorkbenchError

LONGEST = 300  # characters of a sentence
SMALL = 60  # parameters up to which the whole matrix is looked at
LONG = 10**5  # parameters from which one vector must do
Found = dict[str, Tensor | WorkbenchError]


class RefusedError(AssertionError):
    """A call that should have answered."""


def find(name: str) -> Case:
    """The case of a name."""
    return CASES.get(name) or SWEEP[name]


@cache
def truth(name: str) -> Oracle:
    """The oracle of a case, asked once a process."""
    return oracle_of(find(name))


def oracle_of(case: Case) -> Oracle:
    """The oracle of a case, on a network of its own."""
    here = case.build()

    def prepared(situation: Situation) -> nn.Module:
        model = situation.truth or situation.model
        return copy.deepcopy(model).double() if case.as_double else model

    kept = prepared(here)
    make = (lambda: prepared(case.build())) if case.fresh else (lambda: kept)
    data = here.data if here.examples is None else here.examples
    listed = list(batches(data))
    oracle = LargeOracle if case.large else Oracle
    return oracle(
        make,
        doubled(listed) if case.as_double else listed,
        hess=case.hess_oracle,
        **here.kwargs,
    )


def directions(dim: int) -> Tensor:
    """Three random vectors, (P, 3), or one where they are long."""
    generator = torch.Generator().manual_seed(3)
    columns = 3 if dim < LONG else 1
    return torch.randn(
        dim, columns, generator=generator, dtype=torch.float64, device="cpu"
    )


@contextmanager
def noted(found: Found, *names: str) -> Iterator[None]:
    """A refusal is the answer to these."""
    try:
        yield
    except WorkbenchError as error:
        found |= dict.fromkeys(names, error)


def ask_operators(situation: Situation) -> Found:
    """G, Hess and H times vectors, and as matrices."""
    found: Found = {}
    with noted(found, "G", "Hess", "H"):
        operators = wb.operators(situation.model, situation.data, **situation.kwargs)
        for kind, operator in operators.items():
            with noted(found, kind):
                vectors = directions(operator.dim).to(operator.dtype)
                found[kind] = operator.matmat(vectors)
                alone = operator.matvec(vectors[:, 0])
                found[f"{kind}, one vector"] = alone
                if operator.dim <= SMALL:
                    found[f"{kind}, matrix"] = operator.to_dense()
    return found


def ask_means(situation: Situation) -> Found:
    found: Found = {}
    with noted(found, "classes", "diagonal", "everything"):
        means = wb.class_means(situation.model, situation.data, **situation.kwargs)
        assert means.classes is not None
        assert means.diagonal is not None
        found["classes"], found["diagonal"] = means.classes, means.diagonal
        found["everything"] = means.everything
    return found


def ask_gram(situation: Situation) -> Found:
    found: Found = {}
    with noted(found, "eigenvalues of K"):
        inner = wb.gram(situation.model, situation.data, **situation.kwargs)
        found["eigenvalues of K"] = torch.linalg.eigvalsh(inner.matrix).flip(0)
    return found


def ask_spectrum(situation: Situation) -> Found:
    found: Found = {}
    with noted(found, "eigenvalues"):
        spectrum = wb.exact_spectrum(
            situation.model, situation.data, **situation.kwargs
        )
        found["eigenvalues"] = spectrum.values
    return found


def ask_dual(situation: Situation) -> Found:
    found: Found = {}
    with noted(found, "eigenvalues"):
        dual = wb.dual_operator(situation.model, situation.data, **situation.kwargs)
        matrix = dual.to_dense().double()
        found["eigenvalues"] = torch.linalg.eigvalsh(matrix).flip(0)
    return found


ASK: dict[str, Callable[[Situation], Found]] = {
    "operators": ask_operators,
    "class_means": ask_means,
    "gram": ask_gram,
    "exact_spectrum": ask_spectrum,
    "dual_operator": ask_dual,
}


def check_sentence(error: WorkbenchError) -> None:
    """One sentence, of no more than `LONGEST` characters."""
    message = str(error)
    assert len(message) <= LONGEST, f"{len(message)} characters: {message}"
    assert "\n" not in message, message
    assert message.endswith("."), message


def judge(
    case: Case, entry: str, found: Found, oracle: Callable[[], Oracle] | None = None
) -> None:
    """Right or refused, as the case expects.

    The oracle is asked only where a number was given out; by default that of the name.

    Raises:
        AssertionError: If a number is wrong, a sentence too long, or the answer of
            another kind than expected.
    """
    expect = case.expected(entry)
    assert found, "no answer"
    for name, answer in found.items():
        wanted = expect
        if entry == "operators" and name[0] == "H" and expect == "right":
            wanted = case.hess
        if isinstance(answer, WorkbenchError):
            check_sentence(answer)
            if wanted == "right":
                raise RefusedError(f"{name} is refused: {answer}")
        else:
            assert wanted != "refused", f"{name} is given out: {answer.flatten()[:3]}"
    numbers = {k: v for k, v in found.items() if isinstance(v, Tensor)}
    if numbers:
        right = truth(case.name) if oracle is None else oracle()
        compare(case, entry, numbers, right)


def compare(case: Case, entry: str, found: dict[str, Tensor], oracle: Oracle) -> None:
    """Every number beside the truth."""
    if entry == "operators":
        _compare_products(case, oracle, found)
    elif entry == "class_means":
        means = oracle.class_means()
        size = max(float(right.abs().max()) for right in means.values())
        for name, right in means.items():
            close(found[name], right, case.tol, name, size)
    else:
        right = oracle.eigenvalues
        (values,) = found.values()
        if entry == "gram":
            if case.plain:
                values = values / len(oracle.pairs)
            else:  # up to the constant
                values = values / values.sum() * right.sum()
        num = max(len(values), len(right))
        padded = [torch.cat([v, v.new_zeros(num - len(v))]) for v in (values, right)]
        close(padded[0], padded[1], case.tol, "eigenvalues")


def _compare_products(case: Case, oracle: Oracle, found: dict[str, Tensor]) -> None:
    vectors = directions(oracle.dim)
    right = {"G": oracle.g_times(vectors)}
    if case.hess_oracle != "none" and found.keys() - {"G", *_of("G")}:
        right["H"] = oracle.h_times(vectors)
        right["Hess"] = right["G"] + right["H"]
    size = max(float(r.abs().max()) for r in right.values())
    for kind, product in right.items():
        scale = None if kind == "G" else size
        tol = case.tol if kind == "G" else case.hess_tol or case.tol
        if kind in found:
            close(found[kind], product, tol, f"{kind} V", scale)
        if f"{kind}, one vector" in found:
            alone = found[f"{kind}, one vector"]
            close(alone, product[:, 0], tol, f"{kind} v", scale)
        if f"{kind}, matrix" in found:
            matrix = found[f"{kind}, matrix"].double()
            close(matrix @ vectors, product, 10 * tol, f"dense {kind}", scale)
            close(matrix, matrix.T, 10 * tol, f"{kind} transposed")


def _of(kind: str) -> tuple[str, str]:
    return f"{kind}, one vector", f"{kind}, matrix"


def close(
    found: Tensor, right: Tensor, tol: float, name: str, scale: float | None = None
) -> None:
    """Apart by at most this share of the largest entry, or of the scale given."""
    assert found.shape == right.shape, (name, found.shape, right.shape)
    size = float(right.abs().max()) if scale is None else scale
    off = float((found.double() - right.double()).abs().max())
    assert off <= tol * size + 1e-290, (
        f"{name} is off by {off / max(size, 1e-290):.1e} of the largest entry; "
        f"{found.flatten()[:3].tolist()} for {right.flatten()[:3].tolist()}"
    )
