"""What we are held against: plain torch, other libraries, the authors' method.

Each takes and gives tensors on the device. A peer that is not installed is None.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.benchmarks.problems import Problem

Product = Callable[[Tensor], Tensor]  # (P, k) to (P, k)
PEERS = {
    "curvlinops": "curvlinops-for-pytorch",
    "pyhessian": "pyhessian",
    "hessian_eigenthings": "hessian-eigenthings",
}


def installed(peer: str) -> str | None:
    """The version that is there, or None."""
    try:
        importlib.import_module(peer)
        return importlib.metadata.version(PEERS[peer])
    except ImportError:
        return None


def gradient(problem: Problem) -> Tensor:
    """F, the unit: the gradient of the mean loss over all examples, (P,)."""
    total = problem.inputs.new_zeros(problem.dim)
    for inputs, labels in problem.batches:
        loss = cross_entropy(problem.model(inputs), labels, reduction="sum")
        grads = torch.autograd.grad(loss, problem.parameters)
        total += torch.cat([g.flatten() for g in grads])
    return total / problem.num_examples


def curvlinops(problem: Problem, kind: str) -> Any:
    """Its linear operator for G or Hess."""
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    made = {"G": GGNLinearOperator, "Hess": HessianLinearOperator}[kind]
    return made(
        problem.model,
        nn.CrossEntropyLoss(reduction="mean"),
        problem.parameters,
        problem.batches,
        check_deterministic=False,
    )


def pyhessian(problem: Problem) -> Any:
    """Its Hessian over all batches."""
    from pyhessian import hessian

    return hessian(
        problem.model,
        nn.CrossEntropyLoss(),
        dataloader=problem.batches,
        cuda=problem.inputs.is_cuda,
    )


def pyhessian_product(problem: Problem) -> Product:
    """Its Hessian-vector product, flat; it has none for blocks."""
    found = pyhessian(problem)
    shapes = [p.shape for p in problem.parameters]
    sizes = [p.numel() for p in problem.parameters]

    def product(vectors: Tensor) -> Tensor:
        parts = zip(vectors[:, 0].split(sizes), shapes, strict=True)
        with quiet():
            _, image = found.dataloader_hv_product([p.view(s) for p, s in parts])
        return torch.cat([part.detach().flatten() for part in image])[:, None]

    return product


def eigenthings(problem: Problem, kind: str) -> Any:
    """hessian-eigenthings' operator for G or Hess.

    It averages over batches, whatever their sizes: the loss that it is given is the sum
    over a batch, times the number of batches over that of examples. Its products keep
    their graph, which is dropped here: its Lanczos would keep one a step.
    """
    from hessian_eigenthings import GGNOperator, HessianOperator, LambdaOperator
    from hessian_eigenthings.loss_fns import (
        supervised_forward,
        supervised_loss,
        supervised_loss_of_output,
    )

    batches = problem.batches
    scale = len(batches) / problem.num_examples

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="sum") * scale

    if kind == "Hess":
        found = HessianOperator(problem.model, batches, supervised_loss(loss))
    else:
        curved = supervised_loss_of_output(loss)
        found = GGNOperator(problem.model, batches, supervised_forward, curved)
    like = problem.inputs
    return LambdaOperator(
        lambda vector: found.matvec(vector).detach(),
        found.size,
        like.device,
        like.dtype,
    )


def eigenthings_product(problem: Problem, kind: str) -> Product:
    """Its product, flat; it has none for blocks."""
    operator = eigenthings(problem, kind)
    return lambda vectors: operator.matvec(vectors[:, 0])[:, None]


def eigenthings_steps(operator: Any, num_pairs: int, tol: float, most: int) -> int:
    """The fewest steps of its Lanczos that leave residuals of tol; at most ``most``."""
    from hessian_eigenthings import lanczos_tridiagonal

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(operator.size, generator=generator, dtype=operator.dtype)
    most = min(most, operator.size)
    found = lanczos_tridiagonal(operator, noise.to(operator.device), most)
    below = [*found.betas.tolist(), found.last_beta]
    for steps in range(num_pairs, found.iterations):
        beta = found.betas[: steps - 1]
        T = found.alphas[:steps].diag() + beta.diag(1) + beta.diag(-1)
        values, vectors = torch.linalg.eigh(T)
        residuals = below[steps - 1] * vectors[-1, -num_pairs:].abs()
        if residuals.max() <= tol * values[-1]:
            return steps
    return int(found.iterations)


def eigenthings_lanczos(operator: Any, num_pairs: int, steps: int) -> Tensor:
    """Its leading eigenvalues, (k,), descending, with all vectors orthogonalised."""
    from hessian_eigenthings import lanczos

    options = {"which": "LA", "reorthogonalize": True, "seed": 0}
    found = lanczos(operator, k=num_pairs, max_iter=steps, **options)
    return found.eigenvalues


def double_backward(problem: Problem) -> Product:
    """G by reverse mode alone: ``J v`` is the derivative of ``(J^T u) . v`` in u.

    The product in the subspace iteration of Papyan (2018), arXiv:1811.07062, written
    here from its formulas.
    """
    sizes = [p.numel() for p in problem.parameters]

    def one(vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        pieces = vector.split(sizes)
        tangent = [
            v.view_as(p) for v, p in zip(pieces, problem.parameters, strict=True)
        ]
        for inputs, _ in problem.batches:
            logits = problem.model(inputs)
            u = torch.zeros_like(logits, requires_grad=True)
            grads = torch.autograd.grad(
                logits, problem.parameters, u, create_graph=True
            )
            inner = sum((g * t).sum() for g, t in zip(grads, tangent, strict=True))
            (push,) = torch.autograd.grad(inner, u, retain_graph=True)
            p = logits.detach().softmax(1)
            cotangent = p * push - p * (p * push).sum(1, keepdim=True)
            pulled = torch.autograd.grad(logits, problem.parameters, cotangent)
            total += torch.cat([g.flatten() for g in pulled])
        return total / problem.num_examples

    return lambda vectors: torch.stack([one(v) for v in vectors.T], dim=1)


def pair_by_pair(problem: Problem) -> Tensor:
    """All delta_{c,k}, one forward and backward a pair: the papers' definition.

    (C, C, P); a pass over the examples of class c for each k.
    """
    num_classes = int(problem.labels.max()) + 1
    rows = []
    for c in range(num_classes):
        inputs = problem.inputs[problem.labels == c]
        for k in range(num_classes):
            total = inputs.new_zeros(problem.dim)
            for batch in inputs.split(problem.batch_size):
                log_prob = problem.model(batch).log_softmax(1)[:, k]
                weighted = (log_prob.detach() / 2).exp() @ log_prob
                grads = torch.autograd.grad(weighted, problem.parameters)
                total += torch.cat([g.flatten() for g in grads])
            rows.append(total / len(inputs))
    return torch.stack(rows).view(num_classes, num_classes, -1)


class quiet(warnings.catch_warnings):  # noqa: N801
    """Without the peers' own warnings."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def versions() -> Iterator[tuple[str, str]]:
    for peer in PEERS:
        yield peer, installed(peer) or "not installed, skipped"
