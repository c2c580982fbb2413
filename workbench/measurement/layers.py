"""Layer by layer: where eigenvectors lie, and the diagonal blocks of G and Hess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workbench.curvature.gram.gram import Gram
from workbench.curvature.means.averages import Averages, WeightedMeans
from workbench.curvature.means.parts_of_g import factor_eigenvalues
from workbench.curvature.problem.batches import take
from workbench.curvature.problem.blocks import Block, blocks_of, name_as_given
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.linalg.lanczos import EigenPairs, top_eigenpairs
from workbench.linalg.operator import Dense, LinearOperator, Restricted
from workbench.measurement.solver import IterativeSolver, dense_matrix
from workbench.progress.control import Report
from workbench.study.convention import CONVENTIONS
from workbench.study.layers import Array, Layers
from workbench.study.records import MAX_LEADING
from workbench.study.spectrum import Spectrum

FEW = 5  # leading eigenvalues of a block that is solved by products with all of it
WHOLE = 40  # order of such a block up to which it is formed as a matrix
EXAMPLES = 8  # on which layers are looked at for being curved
AT_ONCE = 128  # order of a matrix up to which all its eigenvalues are computed
TIGHT = 1e-6  # residual of the leading ones of a larger matrix, over the largest


@dataclass(frozen=True, slots=True, eq=False)
class BlockValues:
    """What is known of G's diagonal blocks without products with G."""

    trace: Tensor  # (l,) float64
    class_part: dict[str, Tensor]  # by convention: leading eigenvalues, (l, r)
    eigenvalues: Tensor | None = None  # of G, (l, m), NaN where there are no more
    residuals: Tensor | None = None  # (l, m)


def curved_blocks(risk: EmpiricalRisk) -> tuple[bool, ...]:
    r"""Whether the logits are curved in the parameters of each layer alone.

    In most they are not: layer by layer, a network of linear layers, convolutions,
    frozen batch norm and ReLU is linear but for kinks. There ``H`` is zero, and Hess is
    G. Asked of a few examples: a random second derivative ``d/dt J(theta + t v)^T w``
    in the layer, by double backward, against ``J^T w``.
    """
    few = take(risk.piece[0], slice(0, EXAMPLES))
    parameters = list(risk.parameters.values())
    source = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, generator=source, dtype=torch.float64)
        return noise.to(like.device, like.dtype)

    blocks, found = blocks_of(risk), []
    with evaluating(risk.model), torch.enable_grad():
        try:
            logits = risk.network(few)
            first = risk.flatten(
                torch.autograd.grad(
                    logits,
                    parameters,
                    random(logits),
                    create_graph=True,
                    materialize_grads=True,
                )
            )
            theta = risk.flatten([p.detach() for p in parameters])
            for block in blocks:
                own = first[block.columns]
                v = random(own) * theta[block.columns].norm() / block.dim**0.5
                second = torch.zeros_like(theta)
                if own.requires_grad:
                    second = risk.flatten(
                        torch.autograd.grad(
                            own,
                            parameters,
                            v,
                            retain_graph=True,
                            materialize_grads=True,
                        )
                    )
                size = 1e3 * torch.finfo(risk.digits).eps * own.detach().norm()
                found.append(bool(second[block.columns].norm() > size))
        except RuntimeError:  # an operation without second derivatives
            return (True,) * len(blocks)
    return tuple(found)


def num_in_block(num_classes: int) -> int:
    """How many leading eigenvalues of a block are recorded: one per class, to 20."""
    return min(num_classes, MAX_LEADING)


def leading_values(
    matrix: Tensor, num: int, digits: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues of a symmetric matrix, and their error bars, (num,) each.

    All are computed for a small matrix, else the leading ones in a Krylov subspace.

    Args:
        matrix: (n, n) float64; products of numbers in the dtype ``digits``.
        num: How many; NaN stands for those that there are not.
        digits: The dtype whose rounding the numbers have.
    """
    n = len(matrix)
    if n <= AT_ONCE:
        values = torch.linalg.eigvalsh(matrix).flip(0)[:num]
        errors = torch.zeros_like(values)
    else:
        pairs = top_eigenpairs(Dense(matrix), num, tol=TIGHT)
        values, errors = pairs.values.double(), pairs.errors.double()
    eps = n * torch.finfo(torch.float64).eps + 10 * torch.finfo(digits).eps
    errors = errors + eps * values.abs().max()
    return padded(values, num), padded(errors, num)


def padded(values: Tensor, num: int) -> Tensor:
    """The first so many, with NaN for those that there are not."""
    found = values.new_full((num,), torch.nan)
    found[: len(values)] = values[:num]
    return found


class FromGram:
    """Collects the blocks while the Gram matrix is assembled: an ``each`` of it."""

    def __init__(self, risk: EmpiricalRisk) -> None:
        self._risk = risk
        self._num = num_in_block(risk.num_classes)
        self._factors: dict[str, Tensor] = {}
        self._found: dict[Block, tuple[Tensor, Tensor, float, dict[str, Tensor]]] = {}

    def __call__(self, block: Block, gram: Gram) -> None:
        """Solve for one block."""
        if not self._factors:  # the same in each
            self._factors = {name: gram.class_factor(name) for name in CONVENTIONS}
        Z, most = gram.normaliser, min(self._num, block.dim)
        values, errors = leading_values(gram.matrix / Z, most, self._risk.dtype)
        parts = {}
        for name, factor in self._factors.items():
            inner = factor.T @ (gram.matrix @ factor)
            part = torch.linalg.eigvalsh(inner).flip(0)[:most].clamp(min=0.0)
            parts[name] = padded(part, self._num)
        self._found[block] = (
            padded(values.clamp(min=0.0), self._num),
            padded(errors, self._num),
            float(gram.matrix.trace()) / Z,
            parts,
        )

    @property
    def values(self) -> BlockValues:
        """Of all blocks, in order."""
        found = [self._found[block] for block in blocks_of(self._risk)]
        return BlockValues(
            trace=torch.tensor([one[2] for one in found], dtype=torch.float64),
            class_part={
                name: torch.stack([one[3][name] for one in found])
                for name in CONVENTIONS
            },
            eigenvalues=torch.stack([one[0] for one in found]),
            residuals=torch.stack([one[1] for one in found]),
        )


def from_matrix(
    blocks: Sequence[Block], matrix: Tensor, num: int, digits: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues of a matrix's diagonal blocks, and error bars, (l, m)."""
    found = []
    for block in blocks:
        own = matrix[block.columns, block.columns]
        values, errors = leading_values(own, min(num, block.dim), digits)
        found.append((padded(values, num), padded(errors, num)))
    values, errors = (torch.stack(rows) for rows in zip(*found, strict=True))
    return values, errors


def class_parts(
    blocks: Sequence[Block], averages: Mapping[str, Averages], num: int
) -> dict[str, Tensor]:
    """Leading eigenvalues of the class part's blocks, by convention, (l, r)."""
    found = {}
    for name, three in averages.items():
        factor = WeightedMeans(three.classes, three.class_weight).factor
        rows = [factor_eigenvalues(factor[block.columns]) for block in blocks]
        found[name] = torch.stack([padded(row.double(), num) for row in rows])
    return found


def by_products(
    blocks: Sequence[Block],
    operator: LinearOperator,
    leading: Tensor,
    solver: IterativeSolver,
    report: Report,
) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues of the diagonal blocks, and error bars, by iteration.

    Each product with a block takes one with the operator. Starts from what lies of G's
    leading eigenvectors in the block.

    Args:
        blocks: The layers.
        operator: G or Hess in R^P.
        leading: Unit eigenvectors of G, (P, d).
        solver: How to iterate.
        report: Called with the completed share.
    """
    few, rows = replace(solver, num=FEW), []
    for done, block in enumerate(blocks):
        inside = Restricted(operator, block.start, block.stop)
        if block.dim <= WHOLE:
            matrix = dense_matrix(inside, lambda share: None).matrix
            values, errors = leading_values(matrix, FEW, operator.dtype)
        else:
            start = leading[block.columns, :FEW].to(operator.dtype)
            pairs = few.pairs(inside, "LA", start).alone()
            values, errors = pairs.values.double(), pairs.errors.double()
        rows.append([padded(values, FEW), padded(errors, FEW)])
        report((done + 1) / len(blocks))
    values, errors = (torch.stack(each) for each in zip(*rows, strict=True))
    return values, errors


def hess_blocks(
    blocks: Sequence[Block],
    curved: Sequence[bool],
    known: BlockValues,
    hess: LinearOperator,
    leading: Tensor,
    solver: IterativeSolver,
    report: Report,
) -> tuple[Tensor, Tensor]:
    """The same of Hess: of a layer that is not curved, what G has there.

    Args:
        blocks: The layers.
        curved: Of `curved_blocks`.
        known: Eigenvalues of the blocks of G, in as many columns as are returned.
        hess: In R^P.
        leading: As for `by_products`.
        solver: As for `by_products`.
        report: Called with the completed share.
    """
    assert known.eigenvalues is not None
    assert known.residuals is not None
    values, errors = known.eigenvalues.clone(), known.residuals.clone()
    rows = [n for n, bent in enumerate(curved) if bent]
    if rows:
        some = [blocks[n] for n in rows]
        found = by_products(some, hess, leading, solver, report)
        for into, own in zip((values, errors), found, strict=True):
            into[rows] = torch.stack([padded(row, into.shape[1]) for row in own]).to(
                into
            )
    return values, errors


def shares_of(blocks: Sequence[Block], vectors: Tensor) -> Array:
    """Share of the squared length of each vector (P, d) in each layer, (l, d)."""
    own = [
        vectors[block.columns].double().square().sum(0).cpu().numpy()
        for block in blocks
    ]
    found = np.array(own)
    total: Array = found / found.sum(axis=0)
    return total


def share_errors(
    pairs: EigenPairs, g: Spectrum, num: int, digits: torch.dtype
) -> Array:
    r"""Bound the error of the shares of G's first eigenvectors, (num,).

    An approximate unit eigenvector with residual r is turned from the true one by an
    angle of ``sin t <= r / gap`` at most, and no share of its squared length changes by
    more than ``sin t``. At most 1: equal eigenvalues have no eigenvectors of their own.

    Args:
        pairs: Leading eigenpairs of G.
        g: G's spectrum.
        num: How many.
        digits: The dtype whose rounding G has.

    Reference:
        Davis and Kahan (1970), SIAM J. Numer. Anal. 7(1); Parlett (1998), The Symmetric
        Eigenvalue Problem, 11.7.
    """
    zeros = int(g.complete and len(g.eigenvalues) < g.dim)
    values, bars = np.pad(g.eigenvalues, (0, zeros)), np.pad(g.residuals, (0, zeros))
    rounding = 10 * torch.finfo(digits).eps * values[0]
    residuals = pairs.residuals.double().cpu().numpy() + rounding
    found = np.ones(num)
    for j in range(num):
        near = [n for n in (j - 1, j + 1) if 0 <= n < len(values)]
        gap = min((abs(values[n] - values[j]) - bars[n] for n in near), default=np.inf)
        known = j + 1 < len(values) or len(values) == g.dim
        if known and gap > 0:
            found[j] = min(1.0, residuals[j] / gap)
    return found


def layers_of(
    risk: EmpiricalRisk,
    known: BlockValues,
    hess: tuple[Tensor, Tensor] | None,
    leading: Tensor,
    errors: Array,
    note: str,
) -> Layers:
    """Make the record.

    Args:
        risk: The network.
        known: Of the blocks of G.
        hess: Eigenvalues of the blocks of Hess and error bars; None: left out.
        leading: Unit eigenvectors of G, (P, d).
        errors: Bounds on the errors of their shares, (d,).
        note: What was left out, and why.
    """
    blocks = blocks_of(risk)
    both = {"G": (known.eigenvalues, known.residuals), "Hess": hess or (None, None)}
    return Layers(
        names=tuple(block.name for block in blocks),
        kinds=tuple(block.kind for block in blocks),
        parameters=tuple(
            tuple(name_as_given(risk, name) for name in block.parameters)
            for block in blocks
        ),
        num_parameters=np.array([block.dim for block in blocks]),
        share=shares_of(blocks, leading),
        share_error=errors,
        trace=known.trace.cpu().numpy(),
        eigenvalues={k: v.cpu().numpy() for k, (v, _) in both.items() if v is not None},
        residuals={k: e.cpu().numpy() for k, (_, e) in both.items() if e is not None},
        class_part={k: v.cpu().numpy() for k, v in known.class_part.items()},
        note=note,
    )
