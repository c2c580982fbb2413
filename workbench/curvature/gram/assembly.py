"""The dual of G: the Gram matrix of the gradients, assembled layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.curvature.gram.gram import Gram
from workbench.curvature.gram.layer_gradients import layer_gradients, layer_groups
from workbench.curvature.gram.rows import LayerGradients
from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.batches import Inputs, split, take
from workbench.curvature.problem.blocks import Block, blocks_of
from workbench.curvature.problem.labelled import joined
from workbench.curvature.problem.network import Outputs, Trained
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.memory import device_memory
from workbench.progress.control import (
    Control,
    ProgressCallback,
    Report,
    as_report,
    span,
)

CACHE_BYTES = 2**31  # limit for the factors of one group of layers
ACTIVATIONS = 2**25  # numbers in the layers' outputs for one piece
TILE = 2**25  # entries of a temporary
BLOCK = 512  # rows of a tile of the matrix; tiles below the diagonal are not computed
READING = 0.2  # share of the reported progress for passes through the network


@full_precision()
def gram(
    model: nn.Module | Trained,
    data: Any = None,
    *,
    classes: Sequence[int] | None = None,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Gram:
    r"""Compute the inner products of a network's gradients over all data.

    .. math:: K = R R^T, \quad r_{i,j} = \sum_k U_{i,k,j} \delta_{i,k}, \quad
        G = \frac1N R^T R

    The dual of G. Use it if there are fewer gradients than parameters: the spectrum,
    the parts and knock-outs, the overlaps and all distances are methods of the result
    and need no further pass. Stores n^2 float64 numbers, n = N (C - 1). Costs one
    forward and C - 1 backward passes and, for each layer, the cheaper of two ways:
    ``n^2 / 2`` multiplications per parameter, or inner products of its inputs times
    those of its output gradients.

    Args:
        model: The network, or a `Checkpoint`. Used in eval mode and not changed; if it
            is on another device, a copy is used.
        data: As for `operators`; by default those of the checkpoint.
        classes: Use only these classes and their logits, as `choose_classes` does.
        loss: As in `operators`; for losses without class numbers, only the spectrum is
            available, without classes.
        outputs: As in `operators`.
        parameters: As in `operators`.
        check: As in `operators`.
        batch_size: Examples per batch; None chooses what fits.
        device: ``"auto"`` is a CUDA device if there is one, else the model's.
        progress: Called with `Progress` events.
        control: Pauses and cancels.

    Returns:
        K, (n, n) float64, with the probabilities and labels of the examples or tokens.

    Raises:
        WorkbenchError: If the matrix does not fit the memory; also as `empirical_risk`.
    """
    risk = as_problem(
        model,
        data,
        classes=classes,
        loss=loss,
        outputs=outputs,
        parameters=parameters,
        check=check,
        batch_size=batch_size,
        device=device,
        control=control,
    )
    n = risk.num_rows
    there = device_memory(risk.device)
    if 8 * n**2 > 0.7 * there:
        fits = int((0.7 * there / 8) ** 0.5) // max(risk.num_columns, 1)
        raise WorkbenchError(
            f"gram: the inner products of {n:,} gradients need {8 * n**2 / 2**30:.0f} "
            f"GB and {risk.device.type} has {there / 2**30:.0f} GB; use at most "
            f"{fits:,} examples, or fewer classes."
        )

    return risk_gram(risk, as_report(progress, "Multiplying the gradients"))


def risk_gram(
    risk: EmpiricalRisk,
    report: Report | None = None,
    each: Callable[[Block, Gram], None] | None = None,
) -> Gram:
    r"""The same as `gram` for a network already bound to data.

    A layer's share is computed from explicit rows, with ``n^2 p`` products for its p
    parameters, or from its factors (``<sum_l d_l a_l^T, sum_m d'_m a'_m^T> = sum_{l,m}
    <d_l, d'_m> <a_l, a'_m>``), whichever needs fewer. Passes use the model's dtype,
    sums float64; only half of the matrix is computed. Every process has the factors of
    all layers and fills its own tiles.

    Args:
        risk: The network and data.
        report: Called with the completed share.
        each: Called with each layer and the inner products in its parameters alone,
            whose eigenvalues over Z are those of that diagonal block of G. They are
            overwritten afterwards. Takes a second matrix of the same size.
    """
    size = max(1, ACTIVATIONS // risk.num_activations)
    batches = [
        piece
        for inputs, targets in risk.whole()
        for piece in zip(split(inputs, size), targets.split(size), strict=True)
    ]
    cotangents = [risk.root(inputs, targets) for inputs, targets in batches]
    n = sum(root.shape[0] * root.shape[2] for root in cotangents)
    matrix = torch.zeros(n, n, dtype=torch.float64, device=risk.device)
    whole = Gram(matrix, None, None, risk.normaliser)
    if risk.class_weights is not None:
        rows = joined(risk.labelled(risk.predictions(x), y) for x, y in batches)
        whole = Gram(matrix, rows.probs, rows.labels, risk.normaliser, rows.weights)
    # what the layers are added to: that of the whole, or of one block at a time
    part = matrix if each is None else torch.zeros_like(matrix)
    owner = {name: block for block in blocks_of(risk) for name in block.parameters}
    current: Block | None = None
    done = 0.0

    def step(share: float) -> None:
        risk.control.check()
        if report:
            report(min(share, 1.0))

    def finish() -> None:
        """Complete the matrix that was added to, and add it to the whole."""
        mirror(risk.summed("gram", part))
        if each is not None and current is not None:
            each(current, replace(whole, matrix=part))
            matrix.add_(part)
            part.zero_()

    for names in layer_sets(risk, risk.num_examples):
        share = sum(risk.parameters[name].numel() for name in names) / risk.dim
        pieces: dict[tuple[str, ...], list[LayerGradients]] = {}
        for i, (inputs, _) in enumerate(batches):
            step(done + READING * share * i / len(batches))
            for layer in layer_gradients(risk, inputs, cotangents[i], names):
                pieces.setdefault(layer.names, []).append(layer)
        done += READING * share
        for layer_names in list(pieces):
            layer = _join(pieces.pop(layer_names))
            block = owner[layer_names[0]]
            if each is not None and current is not None and block is not current:
                finish()
            current = block
            share = (1 - READING) * layer.num_parameters / risk.dim
            _add_layer(part, layer, risk, span(step, done, done + share))
            done += share
    finish()
    return whole


def layer_sets(risk: EmpiricalRisk, num_examples: int) -> list[set[str]]:
    """Group layers whose factors for this many examples fit the cache together."""
    example: Inputs = take(risk.piece[0], slice(0, 1))
    numbers = risk.predictions(example).numel()
    cotangents = torch.zeros(1, numbers, 1, device=risk.device)
    size = {
        layer.names: layer.outputs[0].numel() * risk.num_columns
        + (0 if layer.inputs is None else layer.inputs[0].numel())
        for layer in layer_gradients(risk, example, cotangents)
    }
    groups: list[set[str]] = []
    room = 0.0
    for names in layer_groups(risk):
        need = size[names] * num_examples * risk.dtype.itemsize
        if not groups or need > room:
            groups.append(set())
            room = CACHE_BYTES
        groups[-1] |= set(names)
        room -= need
    return groups


def _join(pieces: list[LayerGradients]) -> LayerGradients:
    """Join the pieces of a layer from all batches."""
    names = pieces[0].names
    inputs = [piece.inputs for piece in pieces if piece.inputs is not None]
    shapes = {piece.outputs.shape[1:] for piece in pieces}
    if len(shapes) > 1:  # examples of different lengths
        flat = torch.cat([piece.rows().flatten(0, 1) for piece in pieces])
        return LayerGradients(names, None, flat[:, None, None])
    if len(inputs) < len(pieces):  # if some are explicit, make all explicit
        rows = torch.cat([piece.rows() for piece in pieces])
        return LayerGradients(names, None, rows[:, :, None])
    outputs = torch.cat([piece.outputs for piece in pieces])
    return LayerGradients(names, torch.cat(inputs), outputs)


def _add_layer(
    matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk, step: Report
) -> None:
    """Add a layer's share to the upper half, the cheaper of two ways."""
    num_examples, m, positions, r = layer.outputs.shape
    n = num_examples * m
    by_rows = float(n) * n * layer.num_parameters
    if layer.inputs is not None:
        q = layer.inputs.shape[-1]
        pairs = float(num_examples * positions) ** 2
        by_factors = pairs * (q + m * m * (r + 2.0))
        if by_factors < by_rows:
            _add_by_factors(matrix, layer, risk, step)
            return
    _add_by_rows(matrix, layer, risk, step)


def _add_by_rows(
    matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk, step: Report
) -> None:
    """Use explicit rows, by a few output channels and a pair of blocks of examples."""
    blocks = tiles(len(matrix))
    pairs = [(a, b) for i, a in enumerate(blocks) for b in blocks[i:]]
    own = pairs[risk.world.share(len(pairs))]
    done = 0
    for piece in layer.pieces(TILE):
        rows = piece.flatten(0, 1).double()
        for count, (a, b) in enumerate(own):
            matrix[a, b].addmm_(rows[a], rows[b].T)
            part = rows.shape[1] * (count + 1) / len(own)
            step((done + part) / layer.num_parameters)
        done += rows.shape[1]


def _add_by_factors(
    matrix: Tensor, layer: LayerGradients, risk: EmpiricalRisk, step: Report
) -> None:
    """Use products of the factors' inner products, a few examples at a time."""
    assert layer.inputs is not None
    num_examples, m, positions, _ = layer.outputs.shape
    inputs = layer.inputs.double().flatten(0, 1)  # (N L, q)
    outputs = layer.outputs.double().flatten(0, 2)  # (N m L, r)
    bias = float(len(layer.names) > 1)
    size = max(1, TILE // (m * positions * len(outputs)))
    starts = range(0, num_examples, size)
    own = starts[risk.world.share(len(starts))]
    for count, start in enumerate(own):
        stop = min(start + size, num_examples)
        some, after = slice(start * positions, stop * positions), start * positions
        inner = inputs[some] @ inputs[after:].T + bias
        inner = inner.view(stop - start, 1, positions, -1, 1, positions)
        some, after = slice(some.start * m, some.stop * m), after * m
        block = outputs[some] @ outputs[after:].T
        block = block.view(stop - start, m, positions, -1, m, positions)
        product = block.mul_(inner).sum((2, 5)).reshape((stop - start) * m, -1)
        matrix[start * m : stop * m, start * m :] += product
        step((count + 1) / len(own))


def tiles(n: int) -> list[slice]:
    """Split the rows of a matrix of order n into blocks."""
    return [slice(a, min(a + BLOCK, n)) for a in range(0, n, BLOCK)]


def mirror(matrix: Tensor) -> None:
    """Copy the upper half to the lower, in place."""
    blocks = tiles(len(matrix))
    for i, a in enumerate(blocks):
        matrix[a, a].copy_(matrix[a, a].triu() + matrix[a, a].triu(1).T)
        for b in blocks[i + 1 :]:
            matrix[b, a].copy_(matrix[a, b].T)
