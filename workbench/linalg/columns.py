"""Sums over long columns, in float64 whatever their dtype.

On a CPU torch sums the squares of 11 million float32 numbers, a `resnet18`, to 4e-4 in
``norm`` along a contiguous vector and to 1e-2 across rows; LAPACK's QR to 2e-4. A Ritz
value is off by twice as much as the length of its vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

PIECE = 2**18  # numbers of a vector that are in work at once: measured
# Products that are added in float32: 2^18 of one sign are 6e-5 off, these 1e-6, and it
# takes a tenth longer; 2^12 take twice as long.
ADDED = 2**14
DOUBLES = 2**24  # numbers that are made float64 at once


def pieces(num: int, size: int = PIECE) -> Iterator[slice]:
    """Numbers 0 to ``num`` in pieces that stay in the cache."""
    return (slice(first, first + size) for first in range(0, num, size))


def dots(one: Tensor, other: Tensor) -> Tensor:
    """``A^T B`` of columns, (dim, j) and (dim, k): (j, k), float64.

    Products are taken in the columns' dtype, and sums of a few of them in float64.
    """
    total = one.new_zeros(one.shape[1], other.shape[1], dtype=torch.float64)
    size = ADDED if one.device.type == "cpu" else PIECE
    for piece in pieces(len(one), size):
        total += one[piece].T @ other[piece]
    return total


def inner_products(columns: Tensor) -> Tensor:
    """``V^T V`` of columns (dim, k), each product in float64: (k, k)."""
    num = columns.shape[1]
    total = columns.new_zeros(num, num, dtype=torch.float64)
    for part in columns.split(max(1, DOUBLES // max(1, num))):
        total.addmm_(part.double().T, part.double())
    return total


def lengths(columns: Tensor) -> Tensor:
    """``||x||`` of each column, (dim, k): (k,), float64."""
    squares = columns.new_zeros(columns.shape[1], dtype=torch.float64)
    for piece in pieces(len(columns)):
        squares += columns[piece].double().square().sum(0)
    return squares.sqrt()


def products(one: Tensor, other: Tensor) -> Tensor:
    """``<a, b>`` of each pair of columns, (dim, k) and (dim, k): (k,), float64."""
    total = one.new_zeros(one.shape[1], dtype=torch.float64)
    for piece in pieces(len(one)):
        total += (one[piece].double() * other[piece].double()).sum(0)
    return total


def distances(inner: Any, metric: str) -> Any:
    """Plain (not squared) distances of vectors from their inner products, (n, n).

    Args:
        inner: Of NumPy or torch; of vectors of length one where the metric is cosine.
        metric: ``"cosine"``, ``1 - cos``, or ``"euclidean"``.
    """
    apart: Any = 1.0 - inner
    if metric == "euclidean":
        square = inner.diagonal()
        apart = (square[:, None] + square - 2 * inner).clip(min=0.0) ** 0.5
    apart = ((apart + apart.T) / 2).clip(min=0.0)
    same = range(len(inner))
    apart[same, same] = 0.0
    return apart


def reorthonormalised(columns: Tensor) -> Tensor:
    """Columns that are orthonormal nearly, (dim, k), made so up to single roundings."""
    gram = inner_products(columns)
    upper = torch.linalg.cholesky(gram, upper=True)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    turn = torch.linalg.solve_triangular(upper, eye, upper=True)
    return columns @ turn.to(columns.dtype)
