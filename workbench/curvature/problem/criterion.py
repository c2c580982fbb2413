r"""Losses whose curvature in the outputs is known in closed form.

Each is a sum over the examples of ``l(f, t)``, over a normaliser Z, and for each

.. math:: \mathrm{Hess} = G + H, \quad G = \frac1Z \sum_i J_i^T A_i J_i, \quad
   H = \frac1Z \sum_i \sum_k r_{ik} \nabla^2_\theta f_k(x_i)

with the gradient ``r = dl / df`` and the positive semidefinite ``A = d^2 l / df^2``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from workbench.curvature.problem.cross_entropy import (
    combined_cotangents,
    hessian_product,
    hessian_root,
    loss_gradient,
    probabilities,
)
from workbench.errors import WorkbenchError

NAMES = ("cross_entropy", "mse", "bce")


class Criterion(ABC):
    """A loss of outputs (B, ...) and targets, from its predictions in float64."""

    mean: bool  # whether Z is a number of terms; else 1

    @abstractmethod
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise a `WorkbenchError` where they do not fit each other."""

    def check_targets(self, targets: Tensor) -> None:  # noqa: B027
        """Raise a `WorkbenchError` where no outputs fit them; called for each batch."""

    @abstractmethod
    def num_terms(self, targets: Tensor) -> float:
        """What these targets add to Z in the mean."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Float64, of the outputs' shape; differentiable."""

    @abstractmethod
    def gradient(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The gradient r of each example; differentiable, and without cancellation."""

    @abstractmethod
    def product(self, predictions: Tensor, targets: Tensor, v: Tensor) -> Tensor:
        """``A v`` of each example, of the outputs' shape."""

    @abstractmethod
    def root(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """B with ``B B^T = A``, (B, O, m), of outputs made flat."""

    @abstractmethod
    def num_columns(self, outputs: Tensor) -> int:
        """m, the largest rank that A can have."""

    @abstractmethod
    def num_rows(self, num_targets: int, num_classes: int, soft: bool) -> int:
        """All columns of all examples, from how many numbers their targets are."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class CrossEntropy(Criterion):
    r"""Softmax cross-entropy of logits (B, C, ...), as torch defines it.

    .. math:: l = -\sum_k t_k \log p_k, \quad r = m p - t, \quad
       A = m (\mathrm{diag}\, p - p p^T), \quad m = \sum_k t_k

    with t the label's indicator, smoothed and times the class weights, or the given
    probabilities. Positions whose label is ``ignore_index`` do not count.
    """

    weight: Tensor | None = None  # (C,)
    ignore_index: int | None = -100  # None: no label is ignored
    label_smoothing: float = 0.0
    mean: bool = True

    @property
    def plain(self) -> bool:
        """Whether nothing is weighted or smoothed."""
        return self.weight is None and not self.label_smoothing

    @override
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        C = outputs.shape[1] if outputs.ndim > 1 else 1
        shape = tuple(outputs.shape)
        if outputs.ndim < 2 or C < 2:
            raise WorkbenchError(
                f"empirical_risk: {len(outputs)} inputs give an output of shape "
                f"{shape}; expected logits of shape (B, C), with at least two classes; "
                "one logit is for loss='bce', numbers for loss='mse'."
            )
        if self.weight is not None and len(self.weight) != C:
            raise WorkbenchError(
                f"empirical_risk: {len(self.weight)} class weights and {C} logits; "
                "expected one weight for each class that is looked at."
            )
        if targets.is_floating_point():
            if targets.shape != outputs.shape:
                raise WorkbenchError(
                    f"empirical_risk: the labels have dtype {targets.dtype} and shape "
                    f"{tuple(targets.shape)}; expected class numbers, or probabilities "
                    f"of the logits' shape {shape}."
                )
            return
        if targets.shape != (len(outputs), *outputs.shape[2:]):
            raise WorkbenchError(
                f"empirical_risk: an output of shape {shape} and labels of shape "
                f"{tuple(targets.shape)}; expected class numbers, (B,) beside logits "
                "(B, C), or of tokens (B, T) beside (B, C, T) or (B, T, C)."
            )
        if (largest := int(targets.max())) >= C and largest != self.ignore_index:
            raise WorkbenchError(
                f"empirical_risk: a label is {largest} but the network has {C} logits; "
                f"labels go from 0 to {C - 1}."
            )

    @override
    def num_terms(self, targets: Tensor) -> float:
        if targets.is_floating_point():
            return float(targets.numel() // targets.shape[1])
        counted = targets[self.counted(targets)]
        if self.weight is None:
            return float(counted.numel())
        return float(self.weight.to(counted.device)[counted].sum(dtype=torch.float64))

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        if outputs.ndim == 2:
            return probabilities(outputs)
        return outputs.double().softmax(1)

    @override
    def gradient(self, predictions: Tensor, targets: Tensor) -> Tensor:
        if predictions.ndim == 2 and self._even(targets):
            return loss_gradient(_balanced(predictions), targets)
        t = self._shares(predictions, targets)
        found = -combined_cotangents(_balanced(predictions.movedim(1, -1)), t)
        return found.movedim(-1, 1)

    @override
    def product(self, predictions: Tensor, targets: Tensor, v: Tensor) -> Tensor:
        if predictions.ndim == 2 and self._even(targets):
            return hessian_product(predictions, v)
        found = hessian_product(predictions.movedim(1, -1), v.movedim(1, -1))
        mass = self.mass(targets, predictions.shape[1]).to(found)
        return (mass[..., None] * found).movedim(-1, 1)

    @override
    def root(self, predictions: Tensor, targets: Tensor) -> Tensor:
        C, rest = predictions.shape[1], predictions.shape[2:]
        if not rest and self._even(targets):
            return hessian_root(predictions)
        rows = predictions.movedim(1, -1)
        mass = self.mass(targets, C).to(rows)
        each = hessian_root(rows.reshape(-1, C)) * mass.reshape(-1, 1, 1).sqrt()
        T = rest.numel()
        each = each.view(len(rows), T, C, C - 1)
        whole = each.new_zeros(len(rows), C, T, T, C - 1)
        index = torch.arange(T, device=each.device)
        whole[:, :, index, index] = each.transpose(1, 2)
        return whole.flatten(1, 2).flatten(2)

    @override
    def num_columns(self, outputs: Tensor) -> int:
        C = outputs.shape[1]
        return outputs[0].numel() // C * (C - 1)

    @override
    def num_rows(self, num_targets: int, num_classes: int, soft: bool) -> int:
        num = num_targets // num_classes if soft else num_targets
        return num * (num_classes - 1)

    def mass(self, targets: Tensor, num_classes: int) -> Tensor:
        """``m = sum_k t_k`` of each example or token, (B, ...), float64."""
        C, smooth = num_classes, self.label_smoothing
        weight = torch.ones(C, dtype=torch.float64, device=targets.device)
        if self.weight is not None:
            weight = self.weight.to(weight)
        even = smooth * weight.mean()
        if targets.is_floating_point():
            own = (targets.double().movedim(1, -1) * weight).sum(-1)
            return (1 - smooth) * own + even
        counted = self.counted(targets)
        own = weight[torch.where(counted, targets, 0)]
        return ((1 - smooth) * own + even) * counted

    def _even(self, targets: Tensor) -> bool:
        """Whether every position has the mass 1."""
        soft = targets.is_floating_point()
        return self.plain and self.ignore_index is None and not soft

    def _shares(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """t, (B, ..., C), float64."""
        C, like = predictions.shape[1], predictions.detach()
        weight = torch.ones(C, dtype=like.dtype, device=like.device)
        if self.weight is not None:
            weight = self.weight.to(weight)
        smooth = self.label_smoothing
        if targets.is_floating_point():
            given = targets.to(like).movedim(1, -1)
            return ((1 - smooth) * given + smooth / C) * weight
        counted = self.counted(targets)
        hard = nn.functional.one_hot(torch.where(counted, targets, 0), C).to(like)
        t = ((1 - smooth) * hard + smooth / C) * weight
        return t * counted[..., None]

    def counted(self, targets: Tensor) -> Tensor:
        """Which labels are not ignored."""
        if self.ignore_index is None:
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self.ignore_index


def _balanced(probs: Tensor) -> Tensor:
    """The probabilities, the largest as one less the others.

    The same numbers, whose derivative is without cancellation: that of the softmax
    loses all digits in a probability near one.
    """
    likeliest = probs.detach().argmax(-1, keepdim=True)
    others = probs.scatter(-1, likeliest, 0.0).sum(-1, keepdim=True)
    return probs.scatter(-1, likeliest, 1 - others)


@final
@dataclass(frozen=True, slots=True, eq=False)
class BinaryCrossEntropy(Criterion):
    r"""Sigmoid cross-entropy of single logits, of any shape, as torch defines it.

    .. math:: l = -w t \log \sigma(f) - (1 - t) \log \sigma(-f), \quad
       A = (w t + 1 - t)\, \sigma(f)\, \sigma(-f)

    with targets t from 0 to 1 and w the ``pos_weight``.
    """

    pos_weight: Tensor | None = None
    mean: bool = True

    @override
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        _same_numbers("bce", outputs, targets)

    @override
    def check_targets(self, targets: Tensor) -> None:
        if targets.min() < 0 or targets.max() > 1:
            raise WorkbenchError(
                f"empirical_risk: the targets go from {targets.min().item():g} to "
                f"{targets.max().item():g}; loss='bce' expects 0, 1, or between."
            )

    @override
    def num_terms(self, targets: Tensor) -> float:
        return float(targets.numel())

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.double()

    @override
    def gradient(self, predictions: Tensor, targets: Tensor) -> Tensor:
        t, w = self._targets(predictions, targets)
        return (1 - t) * predictions.sigmoid() - w * t * (-predictions).sigmoid()

    @override
    def product(self, predictions: Tensor, targets: Tensor, v: Tensor) -> Tensor:
        return self._curve(predictions, targets) * v

    @override
    def root(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return self._curve(predictions, targets).flatten(1).sqrt().diag_embed()

    @override
    def num_columns(self, outputs: Tensor) -> int:
        return outputs[0].numel()

    @override
    def num_rows(self, num_targets: int, num_classes: int, soft: bool) -> int:
        return num_targets

    def _targets(
        self, predictions: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        t = targets.to(predictions.detach()).view_as(predictions)
        return t, 1.0 if self.pos_weight is None else self.pos_weight.to(t)

    def _curve(self, predictions: Tensor, targets: Tensor) -> Tensor:
        t, w = self._targets(predictions, targets)
        return (w * t + 1 - t) * predictions.sigmoid() * (-predictions).sigmoid()


@final
@dataclass(frozen=True, slots=True, eq=False)
class SquaredError(Criterion):
    """``l = sum_k (f_k - t_k)^2``, with ``A = 2 I``; Z counts numbers, as in torch."""

    mean: bool = True

    @override
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        _same_numbers("mse", outputs, targets)

    @override
    def num_terms(self, targets: Tensor) -> float:
        return float(targets.numel())

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.double()

    @override
    def gradient(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return 2 * (predictions - targets.to(predictions.detach()).view_as(predictions))

    @override
    def product(self, predictions: Tensor, targets: Tensor, v: Tensor) -> Tensor:
        return 2 * v

    @override
    def root(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return (2**0.5 * torch.ones_like(predictions).flatten(1)).diag_embed()

    @override
    def num_columns(self, outputs: Tensor) -> int:
        return outputs[0].numel()

    @override
    def num_rows(self, num_targets: int, num_classes: int, soft: bool) -> int:
        return num_targets


def _same_numbers(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Raise where targets are not one number an output."""
    one, other = tuple(outputs.shape), tuple(targets.shape)
    if [n for n in one if n != 1] != [n for n in other if n != 1]:
        raise WorkbenchError(
            f"empirical_risk: an output of shape {one} and targets of shape {other}; "
            f"loss={name!r} expects one target for each number."
        )


def as_criterion(loss: Any) -> Criterion:
    """The criterion of a name, or of one of torch's losses with its options.

    Raises:
        WorkbenchError: If it is neither, or has an option that is not known here.
    """
    if isinstance(loss, Criterion):
        return loss
    named: dict[str, type[Criterion]] = {
        "cross_entropy": CrossEntropy,
        "mse": SquaredError,
        "bce": BinaryCrossEntropy,
    }
    if isinstance(loss, str) and loss in named:
        return named[loss]()
    if type(loss) not in (nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss):
        raise WorkbenchError(
            f"empirical_risk: loss is {str(loss)[:60]!r}; expected one of "
            f"{', '.join(NAMES)}, or an instance of torch's CrossEntropyLoss, MSELoss "
            "or BCEWithLogitsLoss."
        )
    if loss.reduction not in ("mean", "sum"):
        raise WorkbenchError(
            f"empirical_risk: the loss has reduction={loss.reduction!r}; expected "
            "'mean' or 'sum', so that it is one number."
        )
    mean = loss.reduction == "mean"
    if type(loss) is nn.CrossEntropyLoss:
        weight = _weights(loss.weight)
        return CrossEntropy(weight, loss.ignore_index, loss.label_smoothing, mean)
    if type(loss) is nn.MSELoss:
        return SquaredError(mean)
    if loss.weight is not None:
        raise WorkbenchError(
            "empirical_risk: the loss has weights of single numbers (weight=); "
            "expected none: pos_weight= weighs the positive ones."
        )
    return BinaryCrossEntropy(_weights(loss.pos_weight), mean)


def _weights(given: Tensor | None) -> Tensor | None:
    """Weights of a loss, float64.

    Raises:
        WorkbenchError: If one is negative or NaN: A would not be positive semidefinite.
    """
    if given is None:
        return None
    weights = given.detach().double()
    if not (weights.isfinite().all() and (weights >= 0).all()):
        raise WorkbenchError(
            "empirical_risk: the loss has weights that are negative or not finite "
            f"({weights.min().item():g} is the least); expected 0 or more."
        )
    return weights
