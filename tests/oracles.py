"""Slow, obvious answers: the definitions, written as loops, on another code path.

Nothing here calls the package. Gradients are had one example and one number at a time,
by reverse mode, from ``log_softmax``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, log_softmax

from tests.cases import Problem

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """All delta_{i,k} of a problem, and the probabilities.

    ``G = sum_i w_i sum_k delta_{i,k} delta_{i,k}^T``; a token is an example here.
    """

    delta: Tensor  # (N, C, P)
    probs: Tensor  # (N, C)
    labels: Tensor  # (N,)
    weight: Tensor  # (N,) w: 1/N in the plain mean cross-entropy

    def of_class(self, c: int) -> list[int]:
        """The examples of a class that count."""
        return [
            i for i in range(len(self.labels)) if self.labels[i] == c and self.weight[i]
        ]

    def share(self, c: int) -> float:
        """What a class has of the weight, n_c/N in the plain mean."""
        return sum(float(self.weight[i]) for i in self.of_class(c))


def gradients(problem: Problem) -> Gradients:
    """``delta_{i,k} = sqrt(p_k) grad log p_k(x_i)``, one at a time."""
    parameters = list(problem.parameters.values())
    rows, probs = [], []
    for x in problem.inputs:
        log_probs = log_softmax(problem.model(x[None])[0].double(), dim=0)
        sizes = (0.5 * log_probs.detach()).exp()
        for size, log_prob in zip(sizes, log_probs, strict=True):
            grads = torch.autograd.grad(
                log_prob, parameters, retain_graph=True, materialize_grads=True
            )
            flat = torch.cat([g.flatten() for g in grads])
            rows.append(size * flat)
        probs.append(log_probs.detach().exp())
    N = len(problem.inputs)
    return Gradients(
        torch.stack(rows).reshape(N, problem.num_classes, -1),
        torch.stack(probs),
        problem.labels,
        torch.full((N,), 1 / N, dtype=torch.float64),
    )


def weighted_gradients(
    model: nn.Module, batches: Sequence[Batch], loss: nn.CrossEntropyLoss
) -> Gradients:
    """Of each example, or token of one, in any cross-entropy of class numbers.

    The Hessian of the loss in the logits of one is ``w (diag p - p p^T)``, so w is had
    from torch's own derivatives of its own loss.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows, probs, labels, weights = [], [], [], []
    scale = 1.0
    if loss.reduction == "mean":
        y = torch.cat([y.flatten() for _, y in batches])
        kept = y[y != loss.ignore_index]
        weight = torch.ones(int(kept.max()) + 1) if loss.weight is None else loss.weight
        scale = 1 / float(weight[kept].double().sum())
    summed = copy.deepcopy(loss)
    summed.reduction = "sum"
    for x, y in batches:
        for i in range(len(x)):
            logits = model(torch.stack([x[i], x[i]]))[0]
            each = logits.reshape(len(logits), -1).T
            for f, label in zip(each, y[i].flatten(), strict=True):
                p = f.detach().double().softmax(0)
                hessian = torch.autograd.functional.hessian(
                    lambda g, y=label: summed(g[None], y[None]), f.detach().double()
                )
                weights.append(scale * hessian.trace() / (p * (1 - p)).sum())
                labels.append(max(int(label), -1))
                probs.append(p)
                log_probs = f.double().log_softmax(0)
                for size, log_prob in zip(p.sqrt(), log_probs, strict=True):
                    grads = torch.autograd.grad(
                        log_prob, parameters, retain_graph=True, materialize_grads=True
                    )
                    rows.append(size * torch.cat([g.flatten() for g in grads]))
    C = len(probs[0])
    return Gradients(
        torch.stack(rows).unflatten(0, (-1, C)),
        torch.stack(probs),
        torch.tensor(labels),
        torch.stack(weights),
    )


def gauss_newton(problem: Problem) -> Tensor:
    """``(1/N) sum_i J^T (diag p - p p^T) J`` with J row by row."""
    parameters = list(problem.parameters.values())
    total = torch.zeros(problem.dim, problem.dim, dtype=torch.float64)
    for x in problem.inputs:
        logits = problem.model(x[None])[0]
        rows = [
            torch.autograd.grad(f, parameters, retain_graph=True, allow_unused=True)
            for f in logits
        ]
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        torch.zeros(p.numel()).double() if g is None else g.flatten()
                        for g, p in zip(row, parameters, strict=True)
                    ]
                )
                for row in rows
            ]
        )
        p = logits.detach().double().softmax(0)
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(problem.inputs)


def loss(problem: Problem, vector: Tensor) -> Tensor:
    """Mean cross-entropy over the whole data set, at a flat vector of parameters."""
    named, start = {}, 0
    for name, parameter in problem.parameters.items():
        stop = start + parameter.numel()
        named[name] = vector[start:stop].view_as(parameter)
        start = stop
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        logits = functional_call(problem.model, named, (problem.inputs,))
    return cross_entropy(logits, problem.labels, reduction="mean")


def flat_parameters(problem: Problem) -> Tensor:
    return torch.cat([p.detach().flatten() for p in problem.parameters.values()])


def hessian_by_autograd(problem: Problem) -> Tensor:
    """Reverse over reverse, a row at a time."""
    return torch.autograd.functional.hessian(
        lambda vector: loss(problem, vector), flat_parameters(problem)
    )


def hessian_by_differences(problem: Problem, step: float = 1e-3) -> Tensor:
    """Fourth-order central differences of the gradient; for smooth networks."""
    theta = flat_parameters(problem)

    def gradient(vector: Tensor) -> Tensor:
        vector = vector.clone().requires_grad_()
        return torch.autograd.grad(loss(problem, vector), vector)[0]

    rows = []
    for unit in torch.eye(len(theta), dtype=theta.dtype):
        near = gradient(theta + step * unit) - gradient(theta - step * unit)
        far = gradient(theta + 2 * step * unit) - gradient(theta - 2 * step * unit)
        rows.append((8 * near - far) / (12 * step))
    return torch.stack(rows)


def outer(vector: Tensor) -> Tensor:
    return torch.outer(vector, vector)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """One weighting by its definition: the averages, and the parts as matrices."""

    cross: Tensor  # (C, C, P) delta_{c,k}, or g_{c,k}
    classes: Tensor  # (C, P) delta_c
    everything: Tensor  # (P,) delta_G
    matrices: Mapping[str, Tensor]  # they sum to G
    class_part: str
    within_part: str


def parts(grads: Gradients, weighting: str) -> Parts:
    """The parts of G by design/math.md, with n_c/N in place of 1/C."""
    return {"slide": _slide, "icml": _icml, "jmlr": _jmlr}[weighting](grads)


def _mean_over_examples(grads: Gradients) -> Tensor:
    num_classes = grads.probs.shape[1]
    cross = torch.zeros(num_classes, num_classes, grads.delta.shape[2]).double()
    for c in range(num_classes):
        for k in range(num_classes):
            for i in grads.of_class(c):
                cross[c, k] += grads.weight[i] * grads.delta[i, k] / grads.share(c)
    return cross


def _spread_over_examples(grads: Gradients, cross: Tensor) -> Tensor:
    """``Ave_c sum_k cov_i(delta_{i,c,k})``, each example with its weight."""
    total = torch.zeros(grads.delta.shape[2], grads.delta.shape[2]).double()
    for i, c in enumerate(grads.labels.tolist()):
        for k in range(grads.probs.shape[1]):
            total += grads.weight[i] * outer(grads.delta[i, k] - cross[c, k])
    return total


def _slide(grads: Gradients) -> Parts:
    C, P = grads.probs.shape[1], grads.delta.shape[2]
    cross = _mean_over_examples(grads)
    classes = torch.stack([sum(cross[c]) / C for c in range(C)])
    everything = torch.zeros(P).double()
    class_part, cross_part = torch.zeros(2, P, P).double()
    for c in range(C):
        share = grads.share(c)
        everything += share * classes[c] / float(grads.weight.sum())
        class_part += C * share * outer(classes[c])
        for k in range(C):
            cross_part += share * outer(cross[c, k] - classes[c])
    matrices = {
        "G_class": class_part,
        "G_cross": cross_part,
        "G_within": _spread_over_examples(grads, cross),
    }
    return Parts(cross, classes, everything, matrices, "G_class", "G_within")


def _icml(grads: Gradients) -> Parts:
    C, P = grads.probs.shape[1], grads.delta.shape[2]
    cross = _mean_over_examples(grads)
    classes = torch.stack(
        [sum(cross[c, k] for k in range(C) if k != c) / (C - 1) for c in range(C)]
    )
    everything = torch.zeros(P).double()
    g0, g1, g2 = torch.zeros(3, P, P).double()
    for c in range(C):
        share = grads.share(c)
        everything += share * classes[c] / float(grads.weight.sum())
        g0 += share * outer(cross[c, c])
        g1 += (C - 1) * share * outer(classes[c])
        for k in range(C):
            if k != c:
                g2 += share * outer(cross[c, k] - classes[c])
    matrices = {"G0": g0, "G1": g1, "G2": g2, "G3": _spread_over_examples(grads, cross)}
    return Parts(cross, classes, everything, matrices, "G1", "G3")


def _jmlr(grads: Gradients) -> Parts:
    C, P = grads.probs.shape[1], grads.delta.shape[2]
    g = grads.delta / grads.probs.sqrt()[..., None]
    cross, mass = torch.zeros(C, C, P).double(), torch.zeros(C, C).double()
    for i, c in enumerate(grads.labels.tolist()):
        for k in range(C):
            cross[c, k] += grads.weight[i] * grads.probs[i, k] * g[i, k]
            mass[c, k] += grads.weight[i] * grads.probs[i, k]
    cross /= mass[..., None]
    classes, everything = torch.zeros(C, P).double(), torch.zeros(P).double()
    class_part, cross_part, diagonal, within = torch.zeros(4, P, P).double()
    off = [[k for k in range(C) if k != c] for c in range(C)]
    weight = [sum(mass[c, k] for k in off[c]) for c in range(C)]
    for c in range(C):
        classes[c] = sum(mass[c, k] * cross[c, k] for k in off[c]) / weight[c]
        everything += weight[c] * classes[c] / sum(weight)
        class_part += weight[c] * outer(classes[c])
        diagonal += mass[c, c] * outer(cross[c, c])
        for k in off[c]:
            cross_part += mass[c, k] * outer(cross[c, k] - classes[c])
    for i, c in enumerate(grads.labels.tolist()):
        for k in range(C):
            share = grads.weight[i] * grads.probs[i, k]
            within += share * outer(g[i, k] - cross[c, k])
    matrices = {
        "G_class": class_part,
        "G_cross": cross_part,
        "G_diag": diagonal,
        "G_within": within,
    }
    return Parts(cross, classes, everything, matrices, "G_class", "G_within")


def apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference, over the largest entry expected; 0 if both are all zero."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    size = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max() / size)


def eigenvalues(matrix: Tensor) -> Tensor:
    """All of them, from largest to smallest."""
    return torch.linalg.eigvalsh(matrix).flip(0)
