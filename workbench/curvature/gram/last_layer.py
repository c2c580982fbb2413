r"""The linear layer that outputs the logits, its inputs, and G of its weights.

For ``f = W h`` the gradient of a logit is ``e_k (x) h``, so that

.. math:: G = \frac1N \sum_i A_i \otimes h_i h_i^T, \quad
    A_i = \mathrm{diag}(p_i) - p_i p_i^T

follows from the features h_i and the probabilities p_i of one forward pass. A bias acts
as one more feature, which is always 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from workbench.curvature.gram.taps import uses, watch
from workbench.curvature.problem.batches import num_of, take
from workbench.curvature.problem.class_subset import ChosenLogits
from workbench.curvature.problem.cross_entropy import (
    hessian_product,
    hessian_root,
    others_sum,
)
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.linalg.operator import LinearOperator

ROUNDING = 1e3  # allowed difference in units in the last place of the largest logit
NUMBERS = 2**24  # of a temporary


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    """A linear layer whose outputs are the logits, up to a constant per example."""

    name: str  # of the module
    module: nn.Module
    weight: Tensor  # (C, q), of the selected logits
    bias: Tensor | None  # (C,)
    rows: list[int]  # of the module's outputs

    @property
    def num_features(self) -> int:
        """Number of inputs, plus one for a bias."""
        return self.weight.shape[1] + (self.bias is not None)

    def puts_out(self, inputs: Tensor, logits: Tensor) -> bool:
        """Whether the layer maps these inputs to the logits.

        Ignores a constant added to all logits of an example (by a log-softmax after the
        layer), which does not affect derivatives of the loss.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.weight.shape[1]:
            return False
        own = linear(inputs, self.weight, self.bias)
        if own.shape != logits.shape or own.dtype != logits.dtype:
            return False
        apart = own - logits
        apart = apart - apart.mean(1, keepdim=True)
        size = torch.maximum(own.abs().max(), logits.abs().max())
        return bool(apart.abs().max() <= ROUNDING * torch.finfo(own.dtype).eps * size)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Inputs of the last layer, and the resulting probabilities, per example."""

    inputs: Tensor  # (N, q) in the network's dtype
    probs: Tensor  # (N, C) float64
    labels: Tensor  # (N,)
    bias: bool

    @property
    def num_features(self) -> int:
        """Number of inputs, plus one for a bias."""
        return self.inputs.shape[1] + self.bias

    def part(self, some: slice) -> Tensor:
        """Return the features of some examples, with that of a bias last, float64."""
        inputs = self.inputs[some].double()
        return nn.functional.pad(inputs, (0, int(self.bias)), value=1.0)


def find_last_layer(risk: EmpiricalRisk) -> LastLayer | None:
    """Return the linear layer that outputs the logits; None if there is none.

    Identified numerically on some examples: it is called once, on one vector per
    example, and gives the network's logits; its weight and bias are selected and used
    nowhere else. None too if the loss weights examples, or has several labels each.
    """
    if not risk.is_plain:
        return None
    model, rows = risk.model, list(range(risk.num_classes))
    if isinstance(model, ChosenLogits):
        rows = model.classes
    known = set(map(id, risk.parameters.values()))
    there = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    inputs = risk.piece[0]
    num = num_of(inputs)
    with evaluating(model):
        logits, calls = watch(risk, inputs, there)
    used = uses(logits)
    for module, name in reversed(there.items()):
        own = [id(p) for p in module.parameters()]
        if not set(own) <= known or any(used[p] != 1 for p in own):
            continue
        if len(calls[module]) != 1 or module.out_features <= max(rows):
            continue
        weight = module.weight.detach()[rows]
        bias = None if module.bias is None else module.bias.detach()[rows]
        found = LastLayer(name, module, weight, bias, rows)
        if found.puts_out(calls[module][0][0].detach()[:num], logits.detach()):
            return found
    return None


def last_features(risk: EmpiricalRisk, layer: LastLayer) -> Features | None:
    """Return features and probabilities of all examples, by one forward pass.

    Every process gets those of all. None if the layer does not output the logits of
    some example.
    """
    N, device = risk.num_examples, risk.device
    inputs = torch.zeros(N, layer.weight.shape[1], dtype=risk.dtype, device=device)
    probs = torch.zeros(N, risk.num_classes, dtype=torch.float64, device=device)
    labels = torch.zeros(N, dtype=torch.int64, device=device)
    wrong = torch.zeros(1, dtype=torch.int64, device=device)
    taken: list[Tensor] = []

    def remember(
        module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]
    ) -> None:
        taken.append(args[0] if args else named["input"])

    handle = layer.module.register_forward_pre_hook(remember, with_kwargs=True)
    start = 0
    try:
        with evaluating(risk.model), torch.no_grad():
            for batch, targets in risk.data:
                own = risk.world.share(len(targets))
                place = slice(start + own.start, start + own.stop)
                start += len(targets)
                if own.start == own.stop:
                    continue
                taken.clear()
                logits = risk.network(risk.to_device(take(batch, own)))
                given = taken[0][: len(logits)]
                wrong += not (len(taken) == 1 and layer.puts_out(given, logits))
                if not wrong:
                    inputs[place] = given
                probs[place] = logits.double().softmax(1)
                labels[place] = risk.targets(targets[own])
    finally:
        handle.remove()
    for tensor in (inputs, probs, labels, wrong):
        risk.world.sum(tensor)
    if wrong:
        return None
    return Features(inputs, probs, labels, layer.bias is not None)


def trace_of(features: Features) -> float:
    """Return the trace of G of the last layer."""
    spread = (features.probs * others_sum(features.probs)).sum(1)
    total = spread.new_zeros(())
    for some in _slices(len(spread), features.num_features):
        total += spread[some] @ features.part(some).square().sum(1)
    return float(total) / len(spread)


def smaller_order(num_examples: int, num_classes: int, num_features: int) -> int:
    """Return the order of the smaller matrix with G's nonzero eigenvalues."""
    return (num_classes - 1) * min(num_examples, num_features)


def smaller_matrix(features: Features) -> Tensor:
    """Return a matrix with all eigenvalues of G that are not zero by rank, float64.

    Of order ``(C - 1) q``, because a constant added to all logits has no effect; or, if
    that is smaller, the Gram matrix of all gradients, of order ``N (C - 1)``.
    """
    num, C = features.probs.shape
    q = features.num_features
    if num < q:
        f = features.part(slice(None))
        roots = hessian_root(features.probs).transpose(1, 2).flatten(0, 1)
        inner = f @ f.T / num
        inner = inner.repeat_interleave(C - 1, 0).repeat_interleave(C - 1, 1)
        return (roots @ roots.T).mul_(inner)
    eye = torch.eye(C, dtype=torch.float64, device=features.probs.device)
    basis = torch.linalg.qr(eye - 1 / C)[0][:, : C - 1]  # sums are zero
    matrix = eye.new_zeros(C - 1, C - 1, q, q)
    for some in _slices(num, C * C + q):
        f = features.part(some)
        root = basis.T @ hessian_root(features.probs[some])
        pairs = root @ root.transpose(1, 2)  # (b, C - 1, C - 1)
        for a in range(C - 1):
            for b in range(a, C - 1):
                matrix[a, b].addmm_(f.T, pairs[:, a, b, None] * f)
    for a in range(C - 1):
        for b in range(a):
            matrix[a, b] = matrix[b, a]
    return matrix.permute(0, 2, 1, 3).reshape((C - 1) * q, -1) / num


@dataclass(frozen=True, eq=False, repr=False)
class LastGaussNewton(LinearOperator):
    """G of the last layer, whose products need no pass through the network."""

    features: Features

    def __post_init__(self) -> None:
        probs = self.features.probs
        dim = probs.shape[1] * self.features.num_features
        for name, value in (
            ("dim", dim),
            ("dtype", probs.dtype),
            ("device", probs.device),
        ):
            object.__setattr__(self, name, value)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        num, C = self.features.probs.shape
        weights = vectors.view(C, -1, vectors.shape[1])  # (c, q, k)
        total = torch.zeros_like(weights)
        for some in _slices(num, C * vectors.shape[1] + weights.shape[1]):
            f, probs = self.features.part(some), self.features.probs[some]
            logits = torch.einsum("iq,cqk->kic", f, weights)
            pulled = hessian_product(probs.expand_as(logits), logits)
            total += torch.einsum("kic,iq->cqk", pulled, f)
        return total.reshape(vectors.shape) / num


def _slices(num: int, width: int) -> list[slice]:
    """Split examples so that ``width`` numbers for each make a small tensor."""
    step = max(1, NUMBERS // width)
    return [slice(a, min(a + step, num)) for a in range(0, num, step)]
