r"""Short random images of long vectors that keep their inner products nearly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, eq=False)
class CountSketch:
    r"""Signed sums of the entries of x in R^P over d random bins of equal size.

    Each d entries in a row are turned by a random shift and laid over the others: two
    entries share a bin with probability at most 1/d, and memory is read in order.

    .. math:: (Sx)_b = \sum_{p \in b} s_p x_p, \quad E \langle Sx, Sy \rangle =
       \langle x, y \rangle, \quad \mathrm{Var} \langle Sx, Sy \rangle \le
       \frac{\|x\|^2 \|y\|^2 + \langle x, y \rangle^2}{d}

    So an inner product is off by ``error = sqrt(2 / d)`` of the two lengths, root mean
    square over the draws of S; and the eigenvalues of a part ``F F^T`` of G had from
    sketched columns of F by at most ``error * trace(F F^T)``, summed in squares. Made
    by `count_sketch`.

    Reference:
        Charikar, Chen and Farach-Colton (2002), ICALP; Weinberger et al. (2009), ICML.
    """

    order: Tensor  # (b d,) a permutation of the entries and the padding zeros
    signs: Tensor  # (b d,)
    dim: int  # d

    @property
    def error(self) -> float:
        """Root mean square error of an inner product, over the product of lengths."""
        return (2 / self.dim) ** 0.5

    def __call__(self, vectors: Tensor) -> Tensor:
        """``S x``: (..., P) to (..., d)."""
        missing = len(self.order) - vectors.shape[-1]
        padded = torch.nn.functional.pad(vectors, (0, missing))
        mixed = padded[..., self.order] * self.signs.to(vectors.dtype)
        return mixed.unflatten(-1, (-1, self.dim)).sum(-2)


def count_sketch(
    num_entries: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> CountSketch:
    """Draw a sketch of vectors of ``num_entries`` entries into ``dim`` bins.

    Args:
        num_entries: P.
        dim: d; the error of an inner product is ``sqrt(2 / d)`` of the lengths.
        generator: Source of the bins and signs, on the CPU.
        device: Where the vectors are.

    Raises:
        WorkbenchError: If dim is below 1.
    """
    if dim < 1:
        raise WorkbenchError(f"count_sketch: {dim} bins; expected at least 1.")
    generator = generator or torch.Generator().manual_seed(0)
    blocks = torch.arange(-(-num_entries // dim), device="cpu")[:, None]
    shifts = torch.randint(dim, blocks.shape, generator=generator, device="cpu")
    order = ((torch.arange(dim, device="cpu") + shifts) % dim + dim * blocks).flatten()
    signs = torch.randint(
        2, order.shape, generator=generator, dtype=torch.int8, device="cpu"
    )
    return CountSketch(order.to(device), (1 - 2 * signs).to(device), dim)
