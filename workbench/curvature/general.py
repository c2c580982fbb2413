"""Products with G, Hess and H of any network, by torch's own transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap
from torch.nn.functional import cross_entropy

from workbench.curvature.layerwise import Kind
from workbench.curvature.risk import EmpiricalRisk, evaluating
from workbench.curvature.softmax import hessian_product, loss_gradient, probabilities
from workbench.errors import WorkbenchError

BLOCK = 64  # vectors that share a forward pass

Named = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class General:
    r"""A network with its weights as they were then.

    G: forward mode gives ``J v``, and one reverse pass pulls the softmax Hessian times
    it back. Hess and H: the directional derivative of the gradient of the loss, and of
    ``sum_k (p_k - [k = y]) f_k`` with p held. About two gradients of the loss for G and
    three for the others, a vector; two thirds of it in blocks of ten. Memory: the
    activations of one piece of the data for the block, and twice the block.
    """

    risk: EmpiricalRisk
    theta: Named  # parameters that require a gradient
    fixed: Named  # all others, and buffers

    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        """``A V``, summed over this process's examples: (P, m) to (P, m)."""
        total = torch.zeros_like(vectors)
        width = min(vectors.shape[1], BLOCK)
        with evaluating(self.risk.model):
            for inputs, labels in self.risk.pieces(width):
                for start in range(0, vectors.shape[1], width):
                    columns = slice(start, start + width)
                    block = vectors[:, columns]
                    total[:, columns] += self._share(kind, block, inputs, labels)
        return total

    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Labels, probabilities and ``J_i v``, (B, C, m), piece by piece."""
        with evaluating(self.risk.model), _told("J times a vector"):
            for inputs, labels in self.risk.pieces(vectors.shape[1]):

                def one(vector: Tensor, inputs: Tensor = inputs) -> Tensor:
                    tangent = (self.risk.split(vector),)
                    network = partial(self._logits, inputs)
                    pushed: Tensor = jvp(network, (self.theta,), tangent)[1]
                    return pushed

                probs = probabilities(self._logits(inputs, self.theta))
                yield labels, probs, vmap(one, in_dims=1, out_dims=2)(vectors)

    def pull(self, cotangents: Callable[[Tensor, Tensor], Tensor], num: int) -> Tensor:
        """``sum_i J_i^T w_i``, (P, num), of w (B, C, num) from labels and p."""
        shape = (self.risk.dim, num)
        total = torch.zeros(shape, dtype=self.risk.dtype, device=self.risk.device)
        with evaluating(self.risk.model):
            for inputs, labels in self.risk.pieces(num):
                logits, back, *_ = vjp(partial(self._logits, inputs), self.theta)
                columns = cotangents(labels, probabilities(logits)).to(logits.dtype)

                def one(column: Tensor, back: Any = back) -> Tensor:
                    return self.risk.flatten(list(back(column)[0].values()))

                total += vmap(one, in_dims=2, out_dims=1)(columns)
        return total

    def _logits(self, inputs: Tensor, parameters: Named) -> Tensor:
        return self.risk.logits({**self.fixed, **parameters}, inputs)

    def _share(
        self, kind: Kind, block: Tensor, inputs: Tensor, labels: Tensor
    ) -> Tensor:
        """These examples' share of ``A V``, with the factor 1/N of the whole data."""

        def product(vector: Tensor) -> Tensor:
            tangent = self.risk.split(vector)
            found = self._product(kind, tangent, inputs, labels)
            return self.risk.flatten(list(found.values()))

        with _told(f"{kind} times a vector"):
            if block.shape[1] == 1:
                return product(block[:, 0])[:, None]
            return vmap(product, in_dims=1, out_dims=1)(block)

    def _product(
        self, kind: Kind, tangent: Named, inputs: Tensor, labels: Tensor
    ) -> Named:
        network = partial(self._logits, inputs)
        if kind == "G":
            logits, pull_back, *_ = vjp(network, self.theta)
            push: Tensor = jvp(network, (self.theta,), (tangent,))[1]
            probs = probabilities(logits)
            cotangent = hessian_product(probs, push.double()) / self.risk.num_examples
            pulled: Named = pull_back(cotangent.to(self.risk.dtype))[0]
            return pulled

        # Forward over reverse: torch 2.11 to 2.14 give wrong numbers for layer norm the
        # other way round.
        if kind == "Hess":

            def share(parameters: Named) -> Tensor:
                logits = network(parameters).double()
                return cross_entropy(logits, labels, reduction="sum")

        else:
            residual = loss_gradient(probabilities(network(self.theta)), labels)

            def share(parameters: Named) -> Tensor:
                return (residual * network(parameters).double()).sum()

        def gradient(parameters: Named) -> Named:
            found: Named = grad(share)(parameters)
            return {n: g / self.risk.num_examples for n, g in found.items()}

        product: Named = jvp(gradient, (self.theta,), (tangent,))[1]
        return product


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A sentence where torch knows no derivative of a layer."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise WorkbenchError(
            f"{what}: torch cannot differentiate a layer of this network in forward "
            f"mode ({str(error).splitlines()[0]}); write the layer in operations that "
            "it can."
        ) from error
