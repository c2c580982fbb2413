"""Trace, diagonal and inverse of an operator from a few matvecs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.columns import lengths
from workbench.linalg.operator import AnyOperator, LinearOperator, as_operator
from workbench.linalg.precision import full_precision

SHARED = 1.8  # leave-one-out estimates are correlated; widening found by measurement
SURE = 1.96  # standard errors in a 95 % interval of a normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class TraceEstimate:
    """A trace with half of its 95 % interval."""

    value: float
    error: float
    num_matvecs: int


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalEstimate:
    """A diagonal, with half of the 95 % interval of each entry."""

    values: Tensor  # (dim,) float64
    errors: Tensor  # (dim,) float64
    num_matvecs: int


@dataclass(frozen=True, slots=True, eq=False)
class InverseProduct:
    """Solutions of ``(A + damping) x = b`` with their residuals."""

    vectors: Tensor  # (dim, k) or (dim,), like the right-hand sides
    residuals: Tensor  # (k,) ||b - (A + damping) x|| / ||b||
    num_matvecs: int
    status: Literal["converged", "max_steps"]


@full_precision()
def hutchpp(
    operator: AnyOperator,
    num_matvecs: int = 60,
    *,
    generator: torch.Generator | None = None,
) -> TraceEstimate:
    r"""Estimate the trace: exact on a sketched subspace, random probes off it.

    .. math:: \mathrm{tr} A \approx \mathrm{tr}\,Q^T A Q
              + \frac1n \sum_v v^T (I - QQ^T) A (I - QQ^T) v

    with Q an orthonormal basis of A times a third of the vectors, and v Gaussian. The
    variance of the second term is ``2 ||B||_F^2`` for ``B = (I - QQ^T) A (I - QQ^T)``,
    divided by n, and ``||B||_F^2`` is the mean of ``||B v||^2``, so the error follows
    from the same products. Stores about ``num_matvecs`` vectors. If eigenvalues decay,
    `xtrace` is more accurate.

    Args:
        operator: The symmetric operator A, or a matrix: see `as_operator`.
        num_matvecs: Number of products, at least 3; a third each for the sketch, Q and
            the probes.
        generator: Random generator of the vectors.

    Returns:
        The trace, with half of a 95 % interval.

    Raises:
        WorkbenchError: If there are fewer than 3 products, or they are not finite.

    Reference:
        Meyer, Musco, Musco and Woodruff (2021), Hutch++, SOSA.

    Example:
        >>> from workbench.linalg.operator import Dense
        >>> found = hutchpp(Dense(torch.diag(torch.tensor([3.0, 2.0, 1.0]))), 9)
        >>> round(found.value, 4), round(found.error, 4)
        (6.0, 0.0)
    """
    operator = _checked("hutchpp", operator, num_matvecs, 3)
    third = min(num_matvecs // 3, operator.dim)
    generator = generator or torch.Generator().manual_seed(0)
    basis = _range(operator.matmat(_normal(operator, third, generator)))
    image = operator.matmat(basis)
    value = float((basis * image).double().sum())
    spent = third + basis.shape[1]
    if basis.shape[1] == operator.dim:
        return TraceEstimate(value, 0.0, spent)
    num = max(num_matvecs - spent, 1)
    probes = _off(basis, _normal(operator, num, generator))
    product = _off(basis, operator.matmat(probes)).double()
    estimates = (probes.double() * product).sum(0)
    value += float(estimates.mean())
    error = _spread(product.square().sum(0), estimates)
    return _finite("hutchpp", TraceEstimate(value, error, spent + num))


@full_precision()
def xtrace(
    operator: AnyOperator,
    num_matvecs: int = 60,
    *,
    generator: torch.Generator | None = None,
) -> TraceEstimate:
    r"""Estimate the trace, with each vector as a probe off the sketch of the others.

    .. math:: t_i = \mathrm{tr}\,Q_i^T A Q_i + \frac{n - r}{\|u_i\|^2}\, u_i^T A u_i,
              \quad u_i = (I - Q_i Q_i^T)\,\omega_i

    with ``Q_i``, of r columns, a basis of A times all vectors except the i-th. Together
    the estimates need ``num_matvecs / 2`` products with random vectors and as many with
    their basis; the trace is their mean. If eigenvalues decay, it is more accurate than
    `hutchpp`. The estimates are not independent: the error is their Student interval
    times 1.8, because without that factor it contained only three of four true values.

    Args:
        operator: The symmetric operator A, or a matrix: see `as_operator`.
        num_matvecs: Products to spend, at least 4.
        generator: Random generator of the vectors.

    Returns:
        The trace, with half of a 95 % interval.

    Raises:
        WorkbenchError: If there are fewer than 4 products, or they are not finite.

    Reference:
        Epperly, Tropp and Webber (2024), SIAM J. Matrix Anal. Appl. 45(1), section 2.

    Example:
        >>> from workbench.linalg.operator import Dense
        >>> found = xtrace(Dense(torch.diag(torch.tensor([3.0, 2.0, 1.0]))), 6)
        >>> round(found.value, 4), round(found.error, 4)
        (6.0, 0.0)
    """
    operator = _checked("xtrace", operator, num_matvecs, 4)
    dim, m = operator.dim, min(num_matvecs // 2, operator.dim)
    generator = generator or torch.Generator().manual_seed(0)
    probes = _normal(operator, m, generator)
    sketch = operator.matmat(probes)
    if not (basis := _range(sketch)).shape[1]:
        return _finite("xtrace", TraceEstimate(float(sketch.sum()), 0.0, m))
    image = operator.matmat(basis)
    spent, rank = m + basis.shape[1], basis.shape[1]
    inner = (basis.T @ image).double()
    if rank < m or rank == dim:  # A has no more than that rank: nothing is off it
        return _finite("xtrace", TraceEstimate(float(inner.trace()), 0.0, spent))
    left_out = _left_out(basis, sketch)  # (m, m): column i is off Q_i, in Q
    inside = (basis.T @ probes).double()
    inside = inside - left_out * (left_out * inside).sum(0)
    turn = inside.to(probes.dtype)
    off = (probes - basis @ turn).double()
    product = (sketch - image @ turn).double()
    scale = (dim - m + 1) / off.square().sum(0)
    estimates = inner.trace() - (left_out * (inner @ left_out)).sum(0)
    estimates = estimates + scale * (off * product).sum(0)
    error = SHARED * _student(m - 1) * float(estimates.std()) / m**0.5
    return _finite("xtrace", TraceEstimate(float(estimates.mean()), error, spent))


@full_precision()
def xdiag(
    operator: AnyOperator,
    num_matvecs: int = 60,
    *,
    generator: torch.Generator | None = None,
) -> DiagonalEstimate:
    r"""Estimate the diagonal, with each sign vector as a probe off the others' sketch.

    .. math:: d_i = \mathrm{diag}(Q_i Q_i^T A)
              + \omega_i \circ (I - Q_i Q_i^T) A\, \omega_i

    as in `xtrace` and at the same cost. The diagonal is the mean of these estimates,
    and the error of an entry is their Student interval, times 1.8 as there.

    Args:
        operator: The symmetric operator A, or a matrix: see `as_operator`.
        num_matvecs: Products to spend, at least 4.
        generator: Random generator of the signs.

    Returns:
        The diagonal, with half of a 95 % interval for each entry.

    Raises:
        WorkbenchError: If there are fewer than 4 products, or they are not finite.

    Reference:
        Epperly, Tropp and Webber (2024), SIAM J. Matrix Anal. Appl. 45(1), section 2.4.
    """
    operator = _checked("xdiag", operator, num_matvecs, 4)
    m = min(num_matvecs // 2, operator.dim)
    generator = generator or torch.Generator().manual_seed(0)
    probes = _normal(operator, m, generator).sign()
    sketch = operator.matmat(probes)
    if not sketch.isfinite().all():
        raise WorkbenchError(_NOT_FINITE.format("xdiag"))
    basis = _range(sketch)
    rank = basis.shape[1]
    image = operator.matmat(basis) if rank else basis
    whole = (basis.double() * image.double()).sum(1)
    if rank < m or rank == operator.dim:
        return DiagonalEstimate(whole, 0 * whole, m + rank)
    left_out = _left_out(basis, sketch)
    turn = left_out.to(basis.dtype)
    alone = (basis @ turn).double()
    along = (alone * sketch.double()).sum(0)  # of A omega_i along its own direction
    estimates = alone * (probes.double() * along - (image @ turn).double())
    error = SHARED * _student(m - 1) * estimates.std(1) / m**0.5
    return DiagonalEstimate(whole + estimates.mean(1), error, m + rank)


@full_precision()
def inverse_product(
    operator: AnyOperator,
    rhs: Tensor | NDArray[Any],
    *,
    damping: float = 0.0,
    tol: float = 1e-5,
    max_steps: int | None = None,
) -> InverseProduct:
    r"""Solve ``(A + damping) x = b`` by conjugate gradients, for several b at once.

    .. math:: \|b - (A + \gamma) x\| \le \mathrm{tol}\, \|b\|

    Use it for natural-gradient steps or influence functions. Costs one block product
    per step, and about ``sqrt(kappa) log(2 / tol) / 2`` steps for condition number
    kappa; stores four blocks. SciPy's ``cg`` with `to_scipy` would handle right-hand
    sides one by one and on the host. The returned residuals are computed by a final
    product, not by the recurrence.

    Args:
        operator: The symmetric operator A, positive definite once damped.
        rhs: Right-hand sides b, (dim,) or (dim, k), a tensor or an array.
        damping: Added to every eigenvalue.
        tol: Stop when each residual is at most this times ``||b||``.
        max_steps: Limit on steps; by default ``10 dim``, at most 1,000.

    Returns:
        The solutions, with residuals.

    Raises:
        WorkbenchError: If the iteration finds that the damped A is not positive
            definite, the sizes do not match, or products are not finite.

    Reference:
        Hestenes and Stiefel (1952).

    Example:
        >>> from workbench.linalg.operator import Dense
        >>> found = inverse_product(Dense(2.0 * torch.eye(3)), torch.ones(3), damping=2)
        >>> found.vectors
        tensor([0.2500, 0.2500, 0.2500])
    """
    who = "inverse_product"
    operator, rhs = as_operator(operator, who), torch.as_tensor(rhs)
    if rhs.ndim not in (1, 2) or len(rhs) != operator.dim:
        raise WorkbenchError(
            f"{who}: the right-hand side has shape {tuple(rhs.shape)}; expected "
            f"({operator.dim},) or ({operator.dim}, k)."
        )
    if not (0 < tol < math.inf and math.isfinite(damping)):
        raise WorkbenchError(
            f"{who}: tol is {tol} and damping is {damping}; expected a positive "
            "tolerance and a finite damping."
        )
    b = rhs.reshape(operator.dim, -1).to(operator.device, operator.dtype)
    size = lengths(b)
    size = torch.where(size > 0, size, 1.0)
    x, rest = torch.zeros_like(b), b.clone()
    direction, squared = rest, lengths(rest).square()
    limit = max_steps or min(10 * operator.dim, 1000)
    steps = 0
    while steps < limit and bool((squared.sqrt() > 0.5 * tol * size).any()):
        product = operator.matmat(direction) + damping * direction
        curved = (direction.double() * product.double()).sum(0)
        if not curved.isfinite().all():
            raise WorkbenchError(_NOT_FINITE.format(who))
        live = squared.sqrt() > 0.5 * tol * size
        if bool((curved[live] <= 0).any()):
            least = (curved / lengths(direction).square())[live].min()
            raise WorkbenchError(
                f"{who}: the operator with damping {damping:.3g} is not positive "
                f"definite (it has an eigenvalue of at most {float(least):.3g}); use "
                "more damping, or a positive semidefinite operator such as G."
            )
        step = torch.where(live, squared / curved.clamp_min(1e-300), 0.0)
        x = x + step.to(x.dtype) * direction
        rest = rest - step.to(x.dtype) * product
        before, squared = squared, lengths(rest).square()
        ratio = torch.where(live, squared / before.clamp_min(1e-300), 0.0)
        direction = rest + ratio.to(x.dtype) * direction
        steps += 1
    residual = lengths(b - operator.matmat(x) - damping * x) / size
    done = bool((residual <= tol).all())
    return InverseProduct(
        vectors=x.reshape(rhs.shape),
        residuals=residual,
        num_matvecs=(steps + 1) * b.shape[1],
        status="converged" if done else "max_steps",
    )


_NOT_FINITE = (
    "{}: the operator returned NaN or infinity; the weights or the data are not "
    "finite, or too large for this dtype."
)


def _checked(who: str, operator: AnyOperator, num: int, least: int) -> LinearOperator:
    if num < least:
        raise WorkbenchError(f"{who}: num_matvecs is {num}; expected at least {least}.")
    return as_operator(operator, who)


def _finite(who: str, found: TraceEstimate) -> TraceEstimate:
    if not math.isfinite(found.value):
        raise WorkbenchError(_NOT_FINITE.format(who))
    return found


def _normal(operator: LinearOperator, num: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn((operator.dim, num), generator=generator, dtype=torch.float64)
    return noise.to(operator.device, operator.dtype)


def _range(sketch: Tensor) -> Tensor:
    """An orthonormal basis of the columns, without rounding-level directions."""
    if not sketch.isfinite().all():
        return sketch[:, :0]
    basis, corner = torch.linalg.qr(sketch)
    size = torch.linalg.svdvals(corner)
    rank = int((size > 10 * torch.finfo(size.dtype).eps * size[0]).sum())
    if rank == sketch.shape[1]:
        return basis
    turn = torch.linalg.svd(corner)[0][:, :rank]
    return basis @ turn


def _left_out(basis: Tensor, sketch: Tensor) -> Tensor:
    """Unit columns, in Q: the direction that only one sketch column has; float64."""
    corner = (basis.T @ sketch).double()
    inverse = torch.linalg.inv(corner).T
    return inverse / inverse.norm(dim=0)


def _off(basis: Tensor, columns: Tensor) -> Tensor:
    """Return ``(I - Q Q^T) x``, projected twice against rounding."""
    for _ in range(2):
        columns = columns - basis @ (basis.T @ columns)
    return columns


def _spread(squares: Tensor, estimates: Tensor) -> float:
    """Return half the 95 % interval of a mean of ``v^T B v``, also using ``||B v||^2``.

    If one eigenvalue dominates, a few probes may have missed most of it and the two
    estimates differ; the wider is used.
    """
    num = len(squares)
    known = SURE * (2 * float(squares.mean()) / num) ** 0.5
    if num == 1:
        return _student(1) * known / SURE
    return max(known, _student(num - 1) * float(estimates.std()) / num**0.5)


def _student(freedom: int) -> float:
    """Standard errors in a 95 % interval with this many degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.975, max(freedom, 1)))
