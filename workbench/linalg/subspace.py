"""An orthonormal basis and its images under an operator, in bounded memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.columns import (
    dots,
    inner_products,
    lengths,
    pieces,
    reorthonormalised,
)

KEEPS = 0.5  # of a unit vector remains off the subspace, so rounding stays small
GROWN = 2.0**10  # times the unit: larger images get a new unit
LEAST = 1e-12  # of the projected operator: smaller leaks are rounding
NORMAL = 2.0**10  # times the smallest normal number: below, images have lost digits


class Subspace:
    """An orthonormal basis Q and its images ``W = A Q``, grown vector by vector.

    Each vector is a row. Memory for all is allocated at once and never copied; on a CPU
    it is used only as it fills. Sums over dim are computed in pieces and added in
    float64. Images are stored in units of a power of two near their largest entry, so
    that their squares neither underflow nor overflow, whatever the scale of the
    operator; `projected`, `errors` and `residuals` are in this unit.
    """

    def __init__(self, like: Tensor, room: int) -> None:
        self.size = 0
        self.room = room
        self.exponent: int | None = None  # of the unit, 2^exponent; None: all are zero
        self.projected = torch.empty(0, 0, dtype=torch.float64, device=like.device)
        self._rows = like.new_empty(2, room, len(like))

    @property
    def dim(self) -> int:
        """Of the whole space."""
        return self._rows.shape[2]

    @property
    def basis(self) -> Tensor:
        """Q^T, (size, dim)."""
        return self._rows[0, : self.size]

    @property
    def images(self) -> Tensor:
        """W^T, (size, dim)."""
        return self._rows[1, : self.size]

    @property
    def unit(self) -> float:
        """The unit of stored numbers."""
        return math.ldexp(1.0, self.exponent or 0)

    def add(self, block: Tensor, image: Tensor) -> Tensor:
        """Add columns to Q, (dim, k), with their images.

        Returns:
            The images, in the unit of the subspace.

        Raises:
            WorkbenchError: If the images are so small that they have lost digits.
        """
        image = self._in_unit(image)
        grown = self.size + block.shape[1]
        self._rows[0, self.size : grown] = block.T
        self._rows[1, self.size : grown] = image.T
        self.size = grown
        self.projected = _bordered(self.projected, self.inside(image))
        return image

    def compress(self, turn: Tensor) -> None:
        """Replace Q and W by ``Q S`` and ``W S``, for orthonormal columns S (size, k).

        S is corrected for Q not being exactly orthonormal, so that rounding does not
        accumulate over restarts. Costs two products of (k, size) with (size, dim).
        """
        gram = turn.T @ inner_products(self.basis.T) @ turn
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        upper = torch.linalg.cholesky(gram, upper=True)
        turn = turn @ torch.linalg.solve_triangular(upper, eye, upper=True)
        small = turn.to(self._rows.dtype).T
        for piece in pieces(self._rows.shape[2]):
            self._rows[0, : len(small), piece] = small @ self.basis[:, piece]
            self._rows[1, : len(small), piece] = small @ self.images[:, piece]
        projected = turn.T @ self.projected @ turn
        self.projected = (projected + projected.T) / 2
        self.size = len(small)

    def inside(self, columns: Tensor) -> Tensor:
        """Return ``Q^T x`` for the columns, (size, k), float64."""
        return dots(self.basis.T, columns)

    def without(self, columns: Tensor) -> Tensor:
        """Return ``x - Q Q^T x`` for the columns, (dim, k)."""
        inside = self.inside(columns).to(columns.dtype)
        return columns - (inside.T @ self.basis).T

    def vectors(self, small: Tensor) -> Tensor:
        """Return ``Q s``, (dim, k), for columns s (size, k)."""
        return (small.to(self._rows.dtype).T @ self.basis).T

    def errors(self, values: Tensor, small: Tensor) -> Tensor:
        """Return the residual vectors ``W s - theta Q s``, (dim, k), of Ritz pairs."""
        turn, lean = _both(small, values, self._rows.dtype)
        return (turn @ self.images - lean @ self.basis).T

    def residuals(self, values: Tensor, small: Tensor) -> Tensor:
        """Return the lengths of the `errors`, (k,) float64, without storing them."""
        turn, lean = _both(small, values, self._rows.dtype)
        squares = self.projected.new_zeros(len(turn))
        for piece in pieces(self._rows.shape[2]):
            part = turn @ self.images[:, piece]
            part -= lean @ self.basis[:, piece]
            squares += part.square().sum(1)
        return squares.sqrt()

    def leak_root(self) -> Tensor:
        """F with ``F F^T`` what images hold off the basis, ``W^T W - T^2``, float64.

        From ``W - Q T``, so that it has all digits; (size, r) of the rank r.
        """
        inner = self.projected.to(self._rows.dtype)
        total = torch.zeros_like(self.projected)
        for piece in pieces(self._rows.shape[2]):
            part = self.images[:, piece] - inner @ self.basis[:, piece]
            total += part @ part.T
        sizes, turn = torch.linalg.eigh(total)
        roots = sizes.clamp(min=0.0).sqrt()
        kept = roots > LEAST * float(self.projected.abs().max())
        return turn[:, kept] * roots[kept]

    def images_as_they_are(self) -> Tensor:
        """Convert W^T, (size, dim), out of its unit; add nothing afterwards."""
        _scale(self.images, self.exponent or 0)
        return self.images

    def _in_unit(self, image: Tensor) -> Tensor:
        """Convert images to the unit, which the first nonzero ones set."""
        peak = float(image.abs().max()) if image.numel() else 0.0
        if peak == 0.0:
            return image
        smallest = torch.finfo(image.dtype).tiny
        if self.exponent is None and peak < NORMAL * smallest:
            raise WorkbenchError(
                f"top_eigenpairs: the operator's products are at most {peak:.1e}, too "
                f"small for the precision of {image.dtype}; scale the operator up, or "
                "use float64."
            )
        if self.exponent is None or peak > GROWN * self.unit:
            exponent = math.frexp(peak)[1]
            if self.exponent is not None:
                _scale(self.images, self.exponent - exponent)
                self.projected *= math.ldexp(1.0, self.exponent - exponent)
            self.exponent = exponent
        image = image.clone()
        _scale(image, -self.exponent)
        return image


def _scale(numbers: Tensor, exponent: int) -> None:
    """Multiply by a power of two, in place, in two steps that do not overflow."""
    half = exponent // 2
    numbers *= math.ldexp(1.0, half)
    numbers *= math.ldexp(1.0, exponent - half)


def _both(small: Tensor, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``s^T`` and ``theta s^T``, (k, size)."""
    return small.to(dtype).T, (small * values).to(dtype).T


def orthonormal(block: Tensor, space: Subspace | None) -> Tensor:
    """Return orthonormal columns that span the block's part off the subspace.

    Columns are first scaled to equal size; directions that are then at rounding level
    are dropped, so there may be fewer.
    """
    peaks = block.abs().amax(0)  # first, so that no square underflows
    block = block[:, peaks > 0] / peaks[peaks > 0]
    block = block / lengths(block).to(block.dtype)
    if block.shape[1] == 0:
        return block
    if space is not None:
        block = space.without(block)
        if float(lengths(block).min()) < KEEPS:  # the rest contains rounding
            block = space.without(block)
    block, corner = torch.linalg.qr(block)
    turn, size, _ = torch.linalg.svd(corner)
    left = block @ turn[:, size > 100 * torch.finfo(block.dtype).eps]
    amplified = bool(left.shape[1] and size[: left.shape[1]].min() < KEEPS)
    if space is not None and amplified:
        left, _ = torch.linalg.qr(space.without(left))
    return reorthonormalised(left) if left.shape[1] else left


def _bordered(matrix: Tensor, columns: Tensor) -> Tensor:
    """Extend a symmetric matrix by the columns of a new block."""
    old, size = len(matrix), len(columns)
    grown = torch.zeros(size, size, dtype=torch.float64, device=matrix.device)
    grown[:old, :old] = matrix
    grown[:, old:] = columns.double()
    grown[old:, :old] = grown[:old, old:].T
    corner = grown[old:, old:]
    grown[old:, old:] = (corner + corner.T) / 2
    return grown
