"""What has a label of its own: the examples of a batch, or the tokens of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.problem.batches import Inputs


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    r"""Examples or tokens with their classes; a token is an example here.

    .. math:: G = \sum_i w_i \sum_k \delta_{i,k} \delta_{i,k}^T, \quad
        \delta_{i,k} = \sqrt{p_{ik}}\, J_i^T (e_k - p_i), \quad w_i = m_i / Z

    with m the mass of i in its loss: 1 for the plain cross-entropy, the class weight,
    smoothed as the label is, or 0 where the label is ignored.
    """

    probs: Tensor  # (R, C) float64
    labels: Tensor  # (R,) int64; 0 where it is ignored
    weights: Tensor  # (R,) float64 w

    def classes(self) -> list[int]:
        """Those that some of them have, and count in."""
        return self.labels[self.weights > 0].unique().tolist()

    def of(self, c: int) -> Tensor:
        """Which ones are of a class, and count, (R,) bool."""
        return (self.labels == c) & (self.weights > 0)

    def at(self, index: Tensor) -> Labelled:
        """Some of them, by number or by a mask."""
        return Labelled(self.probs[index], self.labels[index], self.weights[index])


def joined(parts: Iterable[Labelled]) -> Labelled:
    """Those of several batches, one after the other."""
    each = [(part.probs, part.labels, part.weights) for part in parts]
    return Labelled(*map(torch.cat, zip(*each, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One example, or one token of one."""

    inputs: Inputs  # of the example, (1, ...)
    place: int  # of the token; 0 of an example
    label: int


def chosen_rows(outputs: Tensor, places: Tensor) -> Tensor:
    """Of each example (B, C, ...) one token, by its place; the example itself is 0."""
    rows = each_alone(outputs).unflatten(0, (len(outputs), -1))
    return rows[torch.arange(len(outputs), device=outputs.device), places]


def each_alone(outputs: Tensor) -> Tensor:
    """Outputs (B, C, ...) with a row for each example or token, (R, C)."""
    return outputs.movedim(1, -1).reshape(-1, outputs.shape[1])


def alone(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `together`: columns (B, O, m) of outputs as (R, C, m)."""
    _, num_classes, *rest = shape
    whole = columns.unflatten(1, (num_classes, *rest))  # (B, C, ..., m)
    return whole.movedim(1, -2).flatten(0, -3) if rest else whole


def together(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Columns for each example or token, (R, C, m), as those of outputs (B, O, m).

    Args:
        rows: What `each_alone` made of such outputs, with columns.
        shape: Of the outputs, (B, C, ...).
    """
    num, _, *rest = shape
    whole = rows.unflatten(0, (num, *rest))  # (B, ..., C, m)
    return whole.movedim(-2, 1).flatten(1, -2)


def spread_out(chosen: Tensor, columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`together` of columns for some of them, (r, C, m), and zeros for all others."""
    num, num_classes, *rest = shape
    num_rows = num * torch.Size(rest).numel()
    rows = columns.new_zeros(num_rows, num_classes, columns.shape[2])
    rows[chosen] = columns
    return together(rows, shape)
