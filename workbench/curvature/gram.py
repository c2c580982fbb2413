"""The dual of G: the Gram matrix of the gradients, and G in its coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.jacobian import (
    LayerGradients,
    layer_gradients,
    layer_groups,
)
from workbench.curvature.risk import EmpiricalRisk
from workbench.curvature.softmax import (
    delta_cotangents,
)

CACHE_BYTES = 2**31  # what the factors of one group of layers may take
TILE = 2**25  # entries of a temporary
TINY = 1e-300  # no division by a probability that underflowed


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    r"""Inner products of all the gradients delta, and what turns them into G.

    ``matrix[(i, k), (j, l)] = <delta_{i,k}, delta_{j,l}>``; ``matrix / N`` has the
    nonzero eigenvalues of G, and N zeros more than it needs: the C gradients of an
    example are dependent, ``sum_k sqrt(p_k) delta_{i,k} = 0``.
    """

    matrix: Tensor  # (N C, N C) float64
    probs: Tensor  # (N, C) float64
    labels: Tensor  # (N,)

    def reduced(self) -> Tensor:
        """The same for an orthonormal combination of C - 1 gradients an example.

        A reflection of the C gradients takes the dependent combination to the last
        place, where it is dropped. Shape (N (C - 1), N (C - 1)).
        """
        num_examples, num_classes = self.probs.shape
        blocks = self.matrix.view(num_examples, num_classes, -1)
        half = reflection(self.probs).transpose(1, 2) @ blocks  # (N, C - 1, N C)
        half = half.flatten(0, 1).T.reshape(num_examples, num_classes, -1)
        return (reflection(self.probs).transpose(1, 2) @ half).flatten(0, 1)


def reflection(probs: Tensor) -> Tensor:
    """The reflection of each sqrt(p) to the last axis, without its last column.

    (N, C) to (N, C, C - 1), with orthonormal columns U of each example: the reduced
    gradients are ``r_{i,j} = sum_k U[i, k, j] delta_{i,k}``, and ``delta_{i,k} =
    sum_j U[i, k, j] r_{i,j}``.
    """
    unit = probs.sqrt()
    normal = unit / unit.norm(dim=-1, keepdim=True)
    normal[:, -1] += 1.0  # nonnegative entries: no cancellation
    normal = normal / normal.norm(dim=-1, keepdim=True)
    eye = torch.eye(probs.shape[1], dtype=probs.dtype, device=probs.device)
    turned: Tensor = (eye - 2 * normal[:, :, None] * normal[:, None, :])[..., :-1]
    return turned


def gram(risk: EmpiricalRisk, report: Callable[[float], None] | None = None) -> Gram:
    r"""Inner products of all gradients, layer by layer.

    A layer's share is had from explicit rows, ``n^2 p`` products for its p parameters,
    or without them from its factors (``<sum_l d_l a_l^T, sum_m d'_m a'_m^T> =
    sum_{l,m} <d_l, d'_m> <a_l, a'_m>``), whichever counts fewer. Forward and
    backward in the model's dtype, sums in float64. Stores n^2 numbers, n = N C.

    Every process has the factors of all layers and fills its rows of the matrix.

    Args:
        risk: Network and data.
        report: Called with the share done.
    """
    batches = list(risk.whole())
    probs, labels = _predictions(risk, batches)
    sizes = [len(inputs) for inputs, _ in batches]
    cotangents = delta_cotangents(probs).transpose(1, 2).split(sizes)
    n = risk.num_examples * risk.num_classes
    matrix = torch.zeros(n, n, dtype=torch.float64, device=risk.device)
    done = 0
    for names in layer_sets(risk, batches[0][0], risk.num_examples):
        pieces: dict[tuple[str, ...], list[LayerGradients]] = {}
        for (inputs, _), columns in zip(batches, cotangents, strict=True):
            risk.control.check()
            for layer in layer_gradients(risk, inputs, columns, names):
                pieces.setdefault(layer.names, []).append(layer)
        for layer_names in list(pieces):
            layer = _join(pieces.pop(layer_names))
            _add_layer(matrix, layer, risk)
            done += layer.num_parameters
            if report:
                report(done / risk.dim)
    return Gram(risk.world.sum(matrix), probs, labels)


def mean_coefficients(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first averages as combinations of the delta, and their mass.

    Returns:
        ``plain`` and ``weighted``, (N, C, C, C): entry ``[i, k, c, l]`` is the factor
        of delta_{i,k} in the mean of (c, l); and the mass, (C, C).
    """
    num_examples, num_classes = probs.shape
    member = torch.nn.functional.one_hot(labels, num_classes).to(probs.dtype)
    mass = member.T @ probs / num_examples
    eye = torch.eye(num_classes, dtype=probs.dtype, device=probs.device)
    plain = torch.einsum("ic,kl->ikcl", member / member.sum(0), eye)
    share = (
        torch.einsum("ic,ik,ck->ick", member, probs.sqrt(), 1 / mass.clamp(min=TINY))
        / num_examples
    )
    weighted = torch.einsum("ick,kl->ikcl", share, eye)
    return plain, weighted, mass


def _predictions(
    risk: EmpiricalRisk, batches: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    probs = torch.cat([risk.probabilities(inputs) for inputs, _ in batches])
    return probs, torch.cat([y for _, y in batches])


def layer_sets(
    risk: EmpiricalRisk, inputs: Tensor, num_examples: int
) -> list[set[str]]:
    """Layers whose factors for that many examples fit the cache together."""
    example = inputs[:1]
    cotangents = torch.zeros(1, risk.num_classes, 1, device=risk.device)
    size = {
        layer.names: layer.outputs[0].numel() * risk.num_classes
        + (0 if layer.inputs is None else layer.inputs[0].numel())
        for layer in layer_gradients(risk, example, cotangents)
    }
    groups: list[set[str]] = []
    room = 0.0
    for names in layer_groups(risk):
        need = size[names] * num_examples * example.element_size()
        if not groups or need > room:
            groups.append(set())
            room = CACHE_BYTES
        groups[-1] |= set(names)
        room -= need
    return groups


def _join(pieces: list[LayerGradients]) -> LayerGradients:
    """The pieces of one layer over all batches as one."""
    names = pieces[0].names
    inputs = [piece.inputs for piece in pieces if piece.inputs is not None]
    if len(inputs) < len(pieces):  # some are explicit: all of them
        rows = torch.cat([piece.rows() for piece in pieces])
        return LayerGradients(names, None, rows[:, :, None])
    outputs = torch.cat([piece.outputs for piece in pieces])
    return LayerGradients(names, torch.cat(inputs), outputs)


def _add_layer(matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk) -> None:
    """Add one layer's share to the Gram matrix by the cheaper of two ways."""
    num_examples, m, positions, r = layer.outputs.shape
    n = num_examples * m
    by_rows = float(n) * n * layer.num_parameters
    if layer.inputs is not None:
        q = layer.inputs.shape[-1]
        pairs = float(num_examples * positions) ** 2
        by_factors = pairs * (q + m * m * (r + 2.0))
        if by_factors < by_rows:
            _add_by_factors(matrix, layer, risk)
            return
    _add_by_rows(matrix, layer, risk)


def _add_by_rows(matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk) -> None:
    """Explicit rows, a few output channels at a time."""
    for piece in layer.pieces(TILE):
        risk.control.check()
        rows = piece.flatten(0, 1).double()
        own = risk.world.share(len(rows))
        matrix[own].addmm_(rows[own], rows.T)


def _add_by_factors(matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk) -> None:
    """Products of inner products of the factors, a few examples at a time."""
    assert layer.inputs is not None
    num_examples, m, positions, _ = layer.outputs.shape
    inputs = layer.inputs.double().flatten(0, 1)  # (N L, q)
    outputs = layer.outputs.double().flatten(0, 2)  # (N m L, r)
    bias = float(len(layer.names) > 1)
    step = max(1, TILE // (m * positions * len(outputs)))
    own = risk.world.share(num_examples)
    for start in range(own.start, own.stop, step):
        risk.control.check()
        stop = min(start + step, own.stop)
        inner = inputs[start * positions : stop * positions] @ inputs.T + bias
        inner = inner.view(stop - start, 1, positions, num_examples, 1, positions)
        block = outputs[start * m * positions : stop * m * positions] @ outputs.T
        block = block.view(stop - start, m, positions, num_examples, m, positions)
        product = block.mul_(inner).sum((2, 5))
        matrix[start * m : stop * m] += product.reshape((stop - start) * m, -1)
