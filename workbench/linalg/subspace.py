"""An orthonormal basis and its images under an operator, in a bounded room."""

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

KEEPS = 0.5  # of a unit vector is left off a subspace: then rounding is as small
GROWN = 2.0**10  # times the unit: images this large get another unit
LEAST = 1e-12  # of the projected operator: what leaks beside is rounding
NORMAL = 2.0**10  # times the smallest normal number: below, images have lost digits


class Subspace:
    """An orthonormal basis Q and its images ``W = A Q``, vector by vector.

    Each vector is a row. The room for all of them is taken at once and never copied; on
    a CPU, memory is used only as it is filled. Sums over dim are taken piece by piece,
    and added in float64. Images are stored in units of a power of two near their
    largest number, so that no square of theirs underflows or overflows, however small
    or large the operator is; `projected`, `errors` and `residuals` are in this unit.
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
        """What numbers of the subspace are multiples of."""
        return math.ldexp(1.0, self.exponent or 0)

    def add(self, block: Tensor, image: Tensor) -> Tensor:
        """Take in further columns of Q, (dim, k), and their images.

        Returns:
            The images in the unit of the subspace.

        Raises:
            WorkbenchError: If images are so small that digits are missing.
        """
        image = self._in_unit(image)
        grown = self.size + block.shape[1]
        self._rows[0, self.size : grown] = block.T
        self._rows[1, self.size : grown] = image.T
        self.size = grown
        self.projected = _bordered(self.projected, self.inside(image))
        return image

    def compress(self, turn: Tensor) -> None:
        """Keep ``Q S`` and ``W S`` of orthonormal columns S (size, k), in place.

        S is corrected by what Q is off orthonormal, so that restarts add up no
        rounding. Costs two products of (k, size) with (size, dim).
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
        """``Q^T x`` of the columns, (size, k), float64."""
        return dots(self.basis.T, columns)

    def without(self, columns: Tensor) -> Tensor:
        """``x - Q Q^T x`` of the columns, (dim, k)."""
        inside = self.inside(columns).to(columns.dtype)
        return columns - (inside.T @ self.basis).T

    def vectors(self, small: Tensor) -> Tensor:
        """``Q s``, (dim, k), of columns s (size, k)."""
        return (small.to(self._rows.dtype).T @ self.basis).T

    def errors(self, values: Tensor, small: Tensor) -> Tensor:
        """``W s - theta Q s``, (dim, k): what the Ritz pairs miss."""
        turn, lean = _both(small, values, self._rows.dtype)
        return (turn @ self.images - lean @ self.basis).T

    def residuals(self, values: Tensor, small: Tensor) -> Tensor:
        """Lengths of the `errors`, (k,) float64, without keeping them."""
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
        """W^T, (size, dim), out of its unit; nothing is to be added after that."""
        _scale(self.images, self.exponent or 0)
        return self.images

    def _in_unit(self, image: Tensor) -> Tensor:
        """New images in the unit, which is set by the first that are not all zero."""
        peak = float(image.abs().max()) if image.numel() else 0.0
        if peak == 0.0:
            return image
        smallest = torch.finfo(image.dtype).tiny
        if self.exponent is None and peak < NORMAL * smallest:
            raise WorkbenchError(
                f"top_eigenpairs: the operator's products are at most {peak:.1e}, and "
                f"{image.dtype} holds too few digits of that; multiply the operator by "
                "a number, or take float64."
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
    """``s^T`` and ``theta s^T``, (k, size)."""
    return small.to(dtype).T, (small * values).to(dtype).T


def orthonormal(block: Tensor, space: Subspace | None) -> Tensor:
    """Orthonormal columns spanning the block off the subspace.

    Columns are scaled alike first; directions that are then at the level of rounding
    are dropped, so there may be fewer.
    """
    peaks = block.abs().amax(0)  # first, so that no square underflows
    block = block[:, peaks > 0] / peaks[peaks > 0]
    block = block / lengths(block).to(block.dtype)
    if block.shape[1] == 0:
        return block
    if space is not None:
        block = space.without(block)
        if float(lengths(block).min()) < KEEPS:  # what is left has rounding in it
            block = space.without(block)
    block, corner = torch.linalg.qr(block)
    turn, size, _ = torch.linalg.svd(corner)
    left = block @ turn[:, size > 100 * torch.finfo(block.dtype).eps]
    amplified = bool(left.shape[1] and size[: left.shape[1]].min() < KEEPS)
    if space is not None and amplified:
        left, _ = torch.linalg.qr(space.without(left))
    return reorthonormalised(left) if left.shape[1] else left


def _bordered(matrix: Tensor, columns: Tensor) -> Tensor:
    """A symmetric matrix grown by the columns that a new block brings."""
    old, size = len(matrix), len(columns)
    grown = torch.zeros(size, size, dtype=torch.float64, device=matrix.device)
    grown[:old, :old] = matrix
    grown[:, old:] = columns.double()
    grown[old:, :old] = grown[:old, old:].T
    corner = grown[old:, old:]
    grown[old:, old:] = (corner + corner.T) / 2
    return grown
