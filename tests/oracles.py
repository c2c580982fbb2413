"""Slow, obvious answers: the definitions, written as loops, on another code path.

Nothing here calls the package. Gradients are had one example and one number at a time,
by reverse mode, from ``log_softmax``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, log_softmax

from tests.cases import Problem


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """All delta_{i,k} of a problem, and the probabilities."""

    delta: Tensor  # (N, C, P)
    probs: Tensor  # (N, C)
    labels: Tensor  # (N,)

    @property
    def counts(self) -> list[int]:
        return self.labels.bincount().tolist()


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
    shape = (len(problem.inputs), problem.num_classes, -1)
    return Gradients(
        torch.stack(rows).reshape(shape), torch.stack(probs), problem.labels
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
            members = [
                grads.delta[i, k] for i in range(len(grads.labels))
                if grads.labels[i] == c
            ]  # fmt: skip
            cross[c, k] = sum(members) / len(members)
    return cross


def _spread_over_examples(grads: Gradients, cross: Tensor) -> Tensor:
    """``Ave_c sum_k cov_i(delta_{i,c,k})``, each example with weight 1/N."""
    total = torch.zeros(grads.delta.shape[2], grads.delta.shape[2]).double()
    for i, c in enumerate(grads.labels.tolist()):
        for k in range(grads.probs.shape[1]):
            total += outer(grads.delta[i, k] - cross[c, k]) / len(grads.labels)
    return total


def _slide(grads: Gradients) -> Parts:
    C, P, N = grads.probs.shape[1], grads.delta.shape[2], len(grads.labels)
    cross = _mean_over_examples(grads)
    classes = torch.stack([sum(cross[c]) / C for c in range(C)])
    everything = torch.zeros(P).double()
    class_part, cross_part = torch.zeros(2, P, P).double()
    for c in range(C):
        share = grads.counts[c] / N
        everything += share * classes[c]
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
    C, P, N = grads.probs.shape[1], grads.delta.shape[2], len(grads.labels)
    cross = _mean_over_examples(grads)
    classes = torch.stack(
        [sum(cross[c, k] for k in range(C) if k != c) / (C - 1) for c in range(C)]
    )
    everything = torch.zeros(P).double()
    g0, g1, g2 = torch.zeros(3, P, P).double()
    for c in range(C):
        share = grads.counts[c] / N
        everything += share * classes[c]
        g0 += share * outer(cross[c, c])
        g1 += (C - 1) * share * outer(classes[c])
        for k in range(C):
            if k != c:
                g2 += share * outer(cross[c, k] - classes[c])
    matrices = {"G0": g0, "G1": g1, "G2": g2, "G3": _spread_over_examples(grads, cross)}
    return Parts(cross, classes, everything, matrices, "G1", "G3")


def _jmlr(grads: Gradients) -> Parts:
    C, P, N = grads.probs.shape[1], grads.delta.shape[2], len(grads.labels)
    g = grads.delta / grads.probs.sqrt()[..., None]
    cross, mass = torch.zeros(C, C, P).double(), torch.zeros(C, C).double()
    for i, c in enumerate(grads.labels.tolist()):
        for k in range(C):
            cross[c, k] += grads.probs[i, k] / N * g[i, k]
            mass[c, k] += grads.probs[i, k] / N
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
            within += grads.probs[i, k] / N * outer(g[i, k] - cross[c, k])
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
