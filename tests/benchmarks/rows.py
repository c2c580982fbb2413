"""The rows of the table: who does the same work, and how it is seen that they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks import peers
from tests.benchmarks.problems import Problem, in_double, large, more, small
from workbench.curvature.gram.coordinates import trace_gauss_newton
from workbench.curvature.gram.exact import exact_spectrum
from workbench.curvature.means.class_means import ClassMeans, Level, class_means
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.operators import operators
from workbench.linalg.density import SpectralDensity, spectral_density
from workbench.linalg.lanczos import EigenPairs, top_eigenpairs
from workbench.linalg.operator import LinearOperator
from workbench.machine.malloc import give_back_memory

OURS = "workbench"
LONG = ("exact", "exact-resnet", "log")
SAME = 1e-5  # relative, of products in float64, and of means
# Of products in float32, from those in float64, which agree to `SAME`: rounding moves
# the input of one ReLU or two across zero, and on resnet18 each is 1e-3 of Hess v.
ROUNDED = 5e-3
TOL = 1e-3  # residual of an eigenpair over the largest eigenvalue
NUM_PAIRS = 10
MOST_STEPS = 100  # of Lanczos without a restart, where the number is asked of us
PUBLISHED = 128  # iterations of the published subspace iteration, of ten vectors each


class DisagreementError(Exception):
    """Two that should compute the same do not: nothing is timed."""


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """Somebody who does the work of a row."""

    name: str
    run: Callable[[], Any]
    times: float = 1.0  # runs that the work is; fewer than 1: a run does more of it
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One piece of work."""

    key: str
    title: str
    problem: Problem
    contenders: list[Contender]  # ours first
    check: Callable[[Mapping[str, Any]], dict[str, float]]  # the error of each
    at_most: float | None = None  # units of F asked of ours
    ahead: float | None = None  # of each peer's time, asked of ours
    seconds: float | None = None  # asked of ours, on two cores
    gigabytes: float | None = None  # likewise
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Options:
    device: torch.device
    data: str = "auto"  # auto: real images where they are; made-up
    quick: bool = False
    keys: tuple[str, ...] = field(default_factory=tuple)  # none: all but the long ones
    long: bool = False  # those that take minutes too

    def wants(self, key: str) -> bool:
        return key in self.keys if self.keys else self.long or key not in LONG


def rows(options: Options) -> Iterator[Row]:
    """Those that are asked for; a network is made when its first row comes."""

    @cache
    def cnn() -> Problem:
        return small(options.device, options.data, options.quick)

    @cache
    def resnet() -> Problem:
        return large(options.device, options.data, options.quick)

    def of_size(per_class: int) -> Problem:
        return more(cnn(), 4 if options.quick else per_class, options.data)

    num_pairs, max_iter = (3, 3) if options.quick else (NUM_PAIRS, 100)
    for key, make in {
        "g": lambda: product(cnn(), "g", "G", 1, at_most=1.8),
        "g10": lambda: product(cnn(), "g10", "G", 10, at_most=1.4),
        "hess": lambda: product(cnn(), "hess", "Hess", 1, at_most=2.2),
        "hess10": lambda: product(cnn(), "hess10", "Hess", 10),
        "resnet-g": lambda: product(resnet(), "resnet-g", "G", 1, ahead=0.8),
        "resnet-hess": lambda: product(resnet(), "resnet-hess", "Hess", 1, ahead=0.8),
        "eig-g": lambda: leading_g(cnn(), num_pairs),
        "eig-hess": lambda: leading_hess(cnn(), num_pairs, max_iter),
        "means": lambda: class_means_row(cnn()),
        "cross": lambda: cross_means_row(cnn()),
        "growth-13": lambda: growth(of_size(13)),
        "growth-136": lambda: growth(of_size(136)),
        "growth-702": lambda: growth(of_size(702)),
        "exact": lambda: whole(cnn(), "exact", 600, 8),
        "exact-resnet": lambda: whole(
            more(resnet(), 13, options.data), "exact-resnet", 360, 16
        ),
        "log": lambda: log_spectrum(of_size(702)),
    }.items():
        if options.wants(key):
            yield make()


def product(
    problem: Problem,
    key: str,
    kind: str,
    width: int,
    *,
    at_most: float | None = None,
    ahead: float | None = None,
) -> Row:
    """A matrix times vectors; the time is that of one vector."""

    def check(results: Mapping[str, Tensor]) -> dict[str, float]:
        double = multiplying(in_double(problem), kind, width)
        exact = {one.name: one.run() for one in double}
        same(exact)
        return rounded(results, exact[OURS])

    return Row(
        key=key,
        title=f"{kind} v" if width == 1 else f"{kind} v, in blocks of {width}",
        problem=problem,
        contenders=multiplying(problem, kind, width),
        check=check,
        at_most=at_most,
        ahead=ahead,
    )


def multiplying(problem: Problem, kind: str, width: int) -> list[Contender]:
    """All who multiply G or Hess with a block of vectors, ours first."""
    vectors = problem.vectors(width)
    ours = _operators(problem)[kind]
    share = 1 / width
    found = [Contender(OURS, lambda: ours.matmat(vectors), share)]
    if peers.installed("curvlinops"):
        theirs = peers.curvlinops(problem, kind)
        found.append(Contender("curvlinops", lambda: theirs @ vectors, share))
    if kind == "Hess" and width == 1 and peers.installed("pyhessian"):
        image = peers.pyhessian_product(problem)
        found.append(Contender("pyhessian", lambda: image(vectors)))
    if width == 1 and peers.installed("hessian_eigenthings"):
        other = peers.eigenthings_product(problem, kind)
        found.append(Contender("hessian-eigenthings", lambda: other(vectors)))
    if kind == "G" and width == 1:
        twice = peers.double_backward(problem)
        found.append(Contender("reverse mode twice", lambda: twice(vectors)))
    return found


def leading_g(problem: Problem, num_pairs: int) -> Row:
    """Ten eigenpairs of G, ours from a random vector, theirs by SciPy's eigsh."""

    def ours() -> EigenPairs:
        return top_eigenpairs(_operators(problem)["G"], num_pairs, tol=TOL)

    found = [Contender(OURS, ours)]
    if peers.installed("curvlinops"):
        theirs = peers.curvlinops(problem, "G")
        found.append(Contender("eigsh on curvlinops", lambda: eigsh(theirs, num_pairs)))
    found += lanczos_of_eigenthings(problem, "G", num_pairs)
    twice = peers.double_backward(problem)
    block = torch.linalg.qr(problem.vectors(num_pairs))[0]
    found.append(
        Contender(
            "subspace iteration",
            lambda: torch.linalg.qr(twice(block))[0],
            PUBLISHED,
            f"one of {PUBLISHED} published iterations timed, not run to the end",
        )
    )
    exact = reference(problem, "G", num_pairs)
    return Row(
        key="eig-g",
        title=f"first {num_pairs} eigenpairs of G, residual {TOL}",
        problem=problem,
        contenders=found,
        check=lambda results: near(exact, results, skip=("subspace iteration",)),
        at_most=30,
        rounds=3,
    )


def leading_hess(problem: Problem, num_pairs: int, max_iter: int) -> Row:
    """Ten eigenpairs of Hess; PyHessian's power iteration by its own defaults."""

    def ours() -> EigenPairs:
        return top_eigenpairs(_operators(problem)["Hess"], num_pairs, tol=TOL)

    found = [Contender(OURS, ours)]
    if peers.installed("curvlinops"):
        theirs = peers.curvlinops(problem, "Hess")
        found.append(Contender("eigsh on curvlinops", lambda: eigsh(theirs, num_pairs)))
    found += lanczos_of_eigenthings(problem, "Hess", num_pairs)
    if peers.installed("pyhessian"):
        found.append(
            Contender(
                "pyhessian", lambda: power_iteration(problem, num_pairs, max_iter)
            )
        )
    exact = reference(problem, "Hess", num_pairs)
    return Row(
        key="eig-hess",
        title=f"first {num_pairs} eigenpairs of Hess, residual {TOL}",
        problem=problem,
        contenders=found,
        check=lambda results: near(exact, results, skip=("pyhessian",)),
        at_most=45,
        rounds=2,
    )


def lanczos_of_eigenthings(
    problem: Problem, kind: str, num_pairs: int
) -> list[Contender]:
    """Its Lanczos, which takes a number of steps, not a residual; none without it."""
    if not peers.installed("hessian_eigenthings"):
        return []
    operator = peers.eigenthings(problem, kind)
    steps = peers.eigenthings_steps(operator, num_pairs, TOL, MOST_STEPS)

    def theirs() -> Tensor:
        return peers.eigenthings_lanczos(operator, num_pairs, steps)

    note = f"{steps} steps: the fewest that do, and it was told"
    return [Contender("hessian-eigenthings", theirs, note=note)]


def class_means_row(problem: Problem) -> Row:
    """The C class means delta_c."""
    others = ~torch.eye(10, dtype=torch.bool, device=problem.inputs.device)

    def ours() -> Tensor:
        return _found(_means(problem, "c").classes)

    def theirs() -> Tensor:
        return (peers.pair_by_pair(problem) * others[..., None]).sum(1) / 9

    return Row(
        key="means",
        title="all delta_c",
        problem=problem,
        contenders=[Contender(OURS, ours), Contender("pair by pair", theirs)],
        check=same,
        at_most=2.5,
        rounds=5,
    )


def cross_means_row(problem: Problem) -> Row:
    """The C^2 means delta_{c,c'}."""

    def ours() -> Tensor:
        return _found(_means(problem, "ck").cross)

    return Row(
        key="cross",
        title="all delta_{c,c'}",
        problem=problem,
        contenders=[
            Contender(OURS, ours),
            Contender("pair by pair", lambda: peers.pair_by_pair(problem)),
        ],
        check=same,
        at_most=7,
        rounds=5,
    )


def growth(problem: Problem) -> Row:
    """Class means and a product at one N: linear growth is a constant number of F."""
    per_class = problem.num_examples // 10
    g = _operators(problem)["G"]
    vector = problem.vectors(1)
    return Row(
        key=f"growth-{per_class}",
        title=f"all delta_c, and G v, at {per_class} examples a class",
        problem=problem,
        contenders=[
            Contender(OURS, lambda: _found(_means(problem, "c").classes)),
            Contender("workbench, G v", lambda: g.matmat(vector)),
        ],
        check=lambda results: {},
        rounds=3,
    )


def whole(problem: Problem, key: str, seconds: float, gigabytes: float) -> Row:
    """Every eigenvalue of G."""
    device = problem.inputs.device.type

    def ours() -> Tensor:
        return exact_spectrum(problem.model, problem.batches, device=device).values

    # Few products: a network that has hardly learnt has no gaps, but each Ritz value
    # says how near an eigenvalue it is, and lies below the one of its rank.
    g = _operators(problem)["G"]
    ritz = top_eigenpairs(g, NUM_PAIRS, tol=TOL / 2, max_matvecs=60).alone()
    trace = trace_gauss_newton(_risk(problem))

    def check(results: Mapping[str, Any]) -> dict[str, float]:
        values = results[OURS].double()
        off = abs(float(values.sum()) / trace - 1)
        if not off <= SAME:
            raise DisagreementError(
                f"{OURS}: the eigenvalues of G sum to {float(values.sum()):.6g} and "
                f"its trace is {trace:.6g}."
            )
        theta = ritz.values.to(values)
        apart = (theta[:, None] - values).abs().amin(1) - ritz.residuals.to(values)
        below = theta - values[: len(theta)]
        most = float(torch.maximum(apart, below).max() / values[0])
        if not most <= TOL / 10:  # which float32 takes
            raise DisagreementError(
                f"{OURS}: an eigenvalue is {most:.1e} of the largest away from where a "
                "Krylov subspace says that one is."
            )
        return {OURS: off}

    return Row(
        key=key,
        title="all eigenvalues of G",
        problem=problem,
        contenders=[Contender(OURS, ours)],
        check=check,
        seconds=seconds,
        gigabytes=gigabytes,
        rounds=1,
    )


def log_spectrum(problem: Problem) -> Row:
    """The log-density of G with its error bars, by Lanczos quadrature."""
    g = _operators(problem)["G"]
    trace = trace_gauss_newton(_risk(problem))

    def ours() -> SpectralDensity:
        """The outliers found and taken out first: four probes see too little of ten."""
        found = top_eigenpairs(g, 2 * NUM_PAIRS, tol=TOL).alone()
        return spectral_density(
            g, num_steps=100, num_probes=4, scale="log", deflate=found
        )

    def check(results: Mapping[str, Any]) -> dict[str, float]:
        found = results[OURS]
        if not abs(found.trace - trace) <= 5 * found.trace_error:
            raise DisagreementError(
                f"{OURS}: the density says that tr G is {found.trace:.4g} +- "
                f"{found.trace_error:.2g}, and it is {trace:.4g}."
            )
        return {OURS: abs(found.trace / trace - 1)}

    return Row(
        key="log",
        title="log-spectrum of G, 100 steps of 4 probes",
        problem=problem,
        contenders=[Contender(OURS, ours)],
        check=check,
        seconds=900,
        rounds=1,
    )


def _risk(problem: Problem) -> EmpiricalRisk:
    return empirical_risk(problem.model, problem.batches, device=problem.inputs.device)


def _operators(problem: Problem) -> dict[str, LinearOperator]:
    return operators(problem.model, problem.batches, device=problem.inputs.device.type)


def _means(problem: Problem, level: Level) -> ClassMeans:
    device = problem.inputs.device.type
    return class_means(problem.model, problem.batches, level=level, device=device)


def _found(means: Tensor | None) -> Tensor:
    assert means is not None
    return means


def eigsh(operator: Any, num_pairs: int) -> Tensor:
    """Values from SciPy's Lanczos, (k,), descending."""
    from scipy.sparse.linalg import eigsh as scipy_eigsh

    values, _ = scipy_eigsh(operator.to_scipy(), num_pairs, which="LA", tol=TOL)
    return torch.as_tensor(values).flip(0)


def power_iteration(problem: Problem, num_pairs: int, max_iter: int) -> Tensor:
    """PyHessian's values, (k,), descending; at most 100 iterations each by default."""
    with peers.quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        found = peers.pyhessian(problem)
        values, _ = found.eigenvalues(maxIter=max_iter, top_n=num_pairs)
    return torch.tensor(values).sort(descending=True).values


def reference(problem: Problem, kind: str, num_pairs: int) -> Tensor:
    """The eigenvalues, from a random vector to a part of the tolerance, (k,)."""
    operator = _operators(problem)[kind]
    found = top_eigenpairs(operator, num_pairs, tol=TOL / 100).alone()
    if peers.installed("curvlinops"):  # whose products the residuals are seen by
        theirs = peers.curvlinops(problem, kind)  # of many columns it keeps all at once
        image = torch.stack([theirs @ vector for vector in found.vectors.mT], 1)
        rest = (image - found.vectors * found.values.to(image.dtype)).norm(dim=0)
        worst = float(rest.max() / found.values[0])
        if worst > TOL / 10:
            raise DisagreementError(
                f"the eigenvectors of {kind} have a residual of {worst:.1e} of the "
                "largest eigenvalue by curvlinops' products."
            )
    values = found.values
    del found, operator
    give_back_memory()
    return values


def same(results: Mapping[str, Tensor]) -> dict[str, float]:
    """Distance from ours, relative in norm."""
    mine = results[OURS].double()
    errors = {}
    for name, theirs in results.items():
        errors[name] = float((theirs.double() - mine).norm() / mine.norm())
        if not errors[name] <= SAME:
            raise DisagreementError(
                f"{name} and {OURS} differ by {errors[name]:.1e} of the norm, more "
                f"than {SAME:.0e}."
            )
    return errors


def rounded(results: Mapping[str, Tensor], exact: Tensor) -> dict[str, float]:
    """Distance from the product in float64, relative in norm."""
    errors = {}
    for name, found in results.items():
        errors[name] = float((found.double() - exact).norm() / exact.norm())
        if not errors[name] <= ROUNDED:
            raise DisagreementError(
                f"{name} is {errors[name]:.1e} of the norm away from the product in "
                f"float64, more than {ROUNDED:.0e}."
            )
    return errors


def near(
    exact: Tensor, results: Mapping[str, Any], skip: tuple[str, ...]
) -> dict[str, float]:
    """Largest relative error of an eigenvalue; of those in ``skip`` only reported."""
    errors = {}
    for name, found in results.items():
        values = found.values if isinstance(found, EigenPairs) else found
        if values.ndim != 1:  # a block of vectors on its way
            continue
        gap = (values.to(exact) - exact).abs()
        errors[name] = float((gap / exact.abs()).max())
        if name not in skip and not float(gap.max()) <= TOL * float(exact[0]):
            raise DisagreementError(
                f"{name}: an eigenvalue is {float(gap.max()):.1e} away from that of "
                "the reference."
            )
    return errors
