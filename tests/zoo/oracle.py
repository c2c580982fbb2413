"""The truth by plain reverse mode, on another code path than the package's.

Nothing here calls the package. Each example is fed in as a pair of copies, as some
layers of torch are wrong for a batch of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

Pair = tuple[Any, Tensor]  # inputs of one example, its label


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """Derivatives of the whole loss in the outputs of one example, flat, float64."""

    residual: Tensor  # (O,) dL/df
    hessian: Tensor  # (O, O) d^2L/df^2


def cross_entropy_terms(
    logits: list[Tensor], targets: list[Tensor], loss: nn.CrossEntropyLoss
) -> list[Curvature]:
    """Each example's logits are (C, ...), its target (...) or of the logits' shape.

    ``l = -sum_k q_k log p_k`` at each position, over the sum of the weights.
    """
    num_classes = logits[0].shape[0]
    weight = loss.weight
    weight = torch.ones(num_classes) if weight is None else weight.detach()
    weight = weight.double()
    smooth, total, found = loss.label_smoothing, 0.0, []
    for f, target in zip(logits, targets, strict=True):
        f = f.detach().double().reshape(num_classes, -1).T  # (T, C)
        if target.is_floating_point():
            soft = target.double().reshape(num_classes, -1).T
            q = ((1 - smooth) * soft + smooth / num_classes) * weight
            total += len(f)
        else:
            flat = target.long().reshape(-1)
            there = flat != loss.ignore_index
            one_hot = torch.zeros_like(f)
            one_hot[there, flat[there]] = 1.0
            q = (1 - smooth) * one_hot * weight + smooth / num_classes * weight
            q = q * there[:, None]
            total += float(weight[flat[there]].sum())
        found.append((f, q))
    scale = 1 / total if loss.reduction == "mean" else 1.0
    return [_softmax_curvature(f, q, scale) for f, q in found]


def _softmax_curvature(f: Tensor, q: Tensor, scale: float) -> Curvature:
    """Written without a difference of near numbers, for networks that are sure."""
    p = f.log_softmax(1).exp()
    others = 1.0 - torch.eye(f.shape[1])
    p_rest, q_rest = p @ others.double(), q @ others.double()  # 1 - p, Q - q
    residual = (p * q_rest - q * p_rest) * scale
    block = -p[:, :, None] * p[:, None, :]
    block.diagonal(dim1=1, dim2=2).copy_(p * p_rest)
    block = block * q.sum(1)[:, None, None] * scale  # (T, C, C)
    T, C = f.shape
    full = torch.zeros(C, T, C, T, dtype=torch.float64)
    for t in range(T):
        full[:, t, :, t] = block[t]
    return Curvature(residual.T.flatten(), full.reshape(C * T, C * T))


def square_terms(
    outputs: list[Tensor], targets: list[Tensor], loss: nn.MSELoss
) -> list[Curvature]:
    """``sum (f - y)^2``, over the number of outputs."""
    number = sum(f.numel() for f in outputs)
    scale = 1 / number if loss.reduction == "mean" else 1.0
    found = []
    for f, target in zip(outputs, targets, strict=True):
        residual = 2 * scale * (f.detach().double() - target.double()).flatten()
        eye = torch.eye(f.numel(), dtype=torch.float64)
        found.append(Curvature(residual, 2 * scale * eye))
    return found


def binary_terms(
    logits: list[Tensor], targets: list[Tensor], loss: nn.BCEWithLogitsLoss
) -> list[Curvature]:
    """``-w y log s(f) - (1 - y) log s(-f)``, over the number of logits."""
    number = sum(f.numel() for f in logits)
    scale = 1 / number if loss.reduction == "mean" else 1.0
    positive = torch.ones(()) if loss.pos_weight is None else loss.pos_weight
    found = []
    for f, target in zip(logits, targets, strict=True):
        f, target = f.detach().double(), target.double().reshape(f.shape)
        yes, no = positive.double() * target, 1 - target
        s, t = f.sigmoid(), (-f).sigmoid()
        residual = (no * s - yes * t) * scale
        curvature = ((yes + no) * s * t * scale).flatten()
        found.append(Curvature(residual.flatten(), curvature.diag()))
    return found


NAMED: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "mse": nn.MSELoss,
    "bce": nn.BCEWithLogitsLoss,
}


def terms(
    loss: str | nn.Module, outputs: list[Tensor], targets: list[Tensor]
) -> list[Curvature]:
    """Closed-form curvature in the outputs of every example."""
    made = NAMED[loss]() if isinstance(loss, str) else loss
    if isinstance(made, nn.CrossEntropyLoss):
        return cross_entropy_terms(outputs, targets, made)
    if isinstance(made, nn.MSELoss):
        return square_terms(outputs, targets, made)
    assert isinstance(made, nn.BCEWithLogitsLoss)
    return binary_terms(outputs, targets, made)


def batches(data: Any) -> Iterator[tuple[Any, Tensor]]:
    """What a person gave, as pairs of inputs and labels."""
    if hasattr(data, "images"):
        data = (data.images, data.labels)
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if pair and isinstance(data[1], Tensor):
        data = [data]
    for batch in data:
        if isinstance(batch, Mapping):
            rest = {k: v for k, v in batch.items() if k != "labels"}
            yield rest, batch["labels"]
        else:
            yield batch[0], batch[1]


def examples(data: Any) -> list[Pair]:
    """Every example on its own."""
    return [
        (tree_map(lambda t: _row(t, i), inputs), target[i])  # noqa: B023
        for inputs, target in batches(data)
        for i in range(len(target))
    ]


def _row(leaf: Any, i: int) -> Any:
    """Of an example; what has no axis belongs to all of them."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf[i] if leaf.ndim else leaf.item()


def _twice(leaf: Any) -> Any:
    return torch.stack([leaf, leaf]) if isinstance(leaf, Tensor) else leaf


def chosen(
    model: nn.Module, parameters: str | list[str] | None
) -> dict[str, nn.Parameter]:
    """Those that require a gradient, or of these the ones whose names match."""
    globs = [parameters] if isinstance(parameters, str) else parameters
    return {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad
        and (globs is None or any(fnmatchcase(name, glob) for glob in globs))
    }


def forward(model: nn.Module, inputs: Any, outputs: Callable[..., Any] | None) -> Any:
    """The network as a person would call it."""
    if isinstance(inputs, Mapping):
        names = set(inspect.signature(model.forward).parameters)
        inputs = dict(inputs)
        found = model(**inputs) if set(inputs) <= names else model(inputs)
    else:
        found = model(inputs)
    if outputs is not None:
        return outputs(found)
    if isinstance(found, Tensor):
        return found
    return found["logits"] if isinstance(found, Mapping) else found.logits


def doubled(tree: Any) -> Any:
    """Floating tensors in float64; tokens stay tokens."""
    return tree_map(
        lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t,
        tree,
    )


class WeightNorm(TorchFunctionMode):
    """``g v / |v|`` in steps: the second derivative of torch's own is wrong."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is not torch._weight_norm:
            return func(*args, **(kwargs or {}))
        v, g, dim = (*args, 0)[:3]
        axes = [axis for axis in range(v.ndim) if axis != dim % v.ndim]
        return g * v / torch.sqrt((v * v).sum(axes, keepdim=True))


@contextmanager
def by_formula() -> Iterator[None]:
    """Attention and weight norm by their formulas: torch's own have no right second
    derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad(), WeightNorm():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Oracle:
    """G, H and Hess of a network on examples, and its class means."""

    def __init__(
        self,
        network: Callable[[], nn.Module],
        data: Any,
        *,
        loss: str | nn.Module = "cross_entropy",
        outputs: Callable[..., Any] | None = None,
        parameters: str | list[str] | None = None,
        hess: str = "double backward",
        **_: Any,
    ) -> None:
        self.network = network  # called once a forward pass; may return the same
        self.loss, self.outputs, self.hess = loss, outputs, hess
        self.globs = parameters
        self.pairs = examples(data)
        self.dim = sum(p.numel() for p in chosen(network(), parameters).values())

    def _pass(self, inputs: Any) -> tuple[Tensor, list[nn.Parameter]]:
        """Outputs of one example, and the parameters that they depend on."""
        model = self.network().eval()
        twice = tree_map(_twice, inputs)
        with by_formula():
            f = forward(model, twice, self.outputs)[0]
        return f, list(chosen(model, self.globs).values())

    @cached_property
    def outputs_and_rows(self) -> tuple[list[Tensor], list[Tensor]]:
        """f_i as it comes, and J_i (O, P) in float64, row by row."""
        values, rows = [], []
        for inputs, _ in self.pairs:
            f, parameters = self._pass(inputs)
            found = [gradient(k, parameters) for k in f.reshape(-1)]
            values.append(f.detach())
            rows.append(torch.stack(found).double())
        return values, rows

    @cached_property
    def curvatures(self) -> list[Curvature]:
        """Of the loss in the outputs of each example."""
        values, _ = self.outputs_and_rows
        return terms(self.loss, values, [label for _, label in self.pairs])

    @cached_property
    def g(self) -> Tensor:
        """``sum_i J_i^T A_i J_i``, (P, P)."""
        total = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        for J, A in zip(self.outputs_and_rows[1], self.curvatures, strict=True):
            total += J.T @ A.hessian @ J
        return total

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Of G, descending; from the smaller of G and its dual."""
        _, rows = self.outputs_and_rows
        if sum(len(J) for J in rows) >= self.dim:
            return torch.linalg.eigvalsh(self.g).flip(0)
        roots = []
        for J, A in zip(rows, self.curvatures, strict=True):
            values, vectors = torch.linalg.eigh(A.hessian)
            roots.append((vectors * values.clamp(min=0).sqrt()).T @ J)
        root = torch.cat(roots)
        return torch.linalg.eigvalsh(root @ root.T).flip(0)

    def g_times(self, vectors: Tensor) -> Tensor:
        """G V without the matrix."""
        total = torch.zeros_like(vectors)
        for J, A in zip(self.outputs_and_rows[1], self.curvatures, strict=True):
            total += J.T @ (A.hessian @ (J @ vectors))
        return total

    def h_times(self, vectors: Tensor) -> Tensor:
        """H V: each gradient of ``<r_i, f_i>``, r_i held fast, differentiated again."""
        if self.hess == "differences":
            return self._h_by_differences(vectors)
        total = torch.zeros_like(vectors)
        for (inputs, _), A in zip(self.pairs, self.curvatures, strict=True):
            f, parameters = self._pass(inputs)
            with by_formula():
                first = gradient(
                    (A.residual.to(f.dtype) * f.reshape(-1)).sum(), parameters, True
                )
                if not first.requires_grad:
                    continue
                for j, v in enumerate(vectors.T):
                    again = gradient((first * v.to(first.dtype)).sum(), parameters)
                    total[:, j] += again.double()
        return total

    def _h_by_differences(self, vectors: Tensor, step: float = 1e-4) -> Tensor:
        """Central differences of fourth order; the error is about 1e-10 of H."""
        found = []
        for v in vectors.T:
            unit = step * v / v.norm()
            a = self._pulled(unit) - self._pulled(-unit)
            b = self._pulled(2 * unit) - self._pulled(-2 * unit)
            found.append((8 * a - b) / (12 * step) * v.norm())
        return torch.stack(found, dim=1)

    def _pulled(self, change: Tensor) -> Tensor:
        """``sum_i J_i(theta + change)^T r_i``, r_i that of theta."""
        total = torch.zeros(self.dim, dtype=torch.float64)
        parameters = list(chosen(self.network(), self.globs).values())
        with displaced(parameters, change):
            for (inputs, _), A in zip(self.pairs, self.curvatures, strict=True):
                f, _ = self._pass(inputs)
                inner = (A.residual * f.reshape(-1)).sum()
                total += gradient(inner, parameters).double()
        return total

    def class_means(self) -> dict[str, Tensor]:
        """Means by the slide's formula in the convention ``icml``.

        Of tokens each is an example. One that the loss weighs w times enters the means
        w times.
        """
        values, rows = self.outputs_and_rows
        num_classes = values[0].shape[0]
        others = 1.0 - torch.eye(num_classes, dtype=torch.float64)
        sums = torch.zeros(2, num_classes, self.dim, dtype=torch.float64)
        mass = torch.zeros(num_classes, dtype=torch.float64)
        loss = NAMED[self.loss]() if isinstance(self.loss, str) else self.loss
        assert isinstance(loss, nn.CrossEntropyLoss)
        weight = torch.ones(num_classes) if loss.weight is None else loss.weight
        smooth = loss.label_smoothing
        for f, J, (_, label) in zip(values, rows, self.pairs, strict=True):
            each = J.unflatten(0, (num_classes, -1)).unbind(1)
            for t, c in enumerate(label.flatten().tolist()):
                if c == loss.ignore_index:
                    continue
                w = (1 - smooth) * weight[c] + smooth * weight.mean()
                p = f.reshape(num_classes, -1)[:, t].double().log_softmax(0).exp()
                inner = -p.expand(num_classes, -1).clone()  # row k: e_k - p
                inner.diagonal().copy_(others @ p)
                delta = p.sqrt()[:, None] * (inner @ each[t])  # (C, P)
                mass[c] += w
                sums[0, c] += w * delta[c]
                sums[1, c] += w * (delta.sum(0) - delta[c]) / (num_classes - 1)
        diagonal, classes = sums / mass[:, None]
        share = mass / mass.sum()
        return {
            "classes": classes,
            "diagonal": diagonal,
            "everything": share @ classes,
        }


class LargeOracle(Oracle):
    """The same for many examples: all at once, and products only."""

    def g_times(self, vectors: Tensor) -> Tensor:
        """Reverse mode twice: J v is the derivative of J^T w in w."""
        f, parameters, y = self._whole()
        w = torch.zeros_like(f, requires_grad=True)
        pulled = gradient((w * f).sum(), parameters, True)
        p, found = f.detach().softmax(1), []
        for v in vectors.T:
            jv = torch.autograd.grad(pulled @ v, w, retain_graph=True)[0]
            u = p * (jv - (p * jv).sum(1, keepdim=True)) / len(y)
            found.append(gradient((u.detach() * f).sum(), parameters))
        return torch.stack(found, dim=1)

    def h_times(self, vectors: Tensor) -> Tensor:
        f, parameters, y = self._whole()
        residual = f.detach().softmax(1)
        residual[torch.arange(len(y)), y] -= 1
        first = gradient((residual / len(y) * f).sum(), parameters, True)
        found = [gradient(first @ v, parameters) for v in vectors.T]
        return torch.stack(found, dim=1)

    def _whole(self) -> tuple[Tensor, list[nn.Parameter], Tensor]:
        model = self.network().eval()
        x = torch.stack([x for x, _ in self.pairs])
        y = torch.stack([y for _, y in self.pairs])
        return model(x), list(chosen(model, self.globs).values()), y


def gradient(value: Tensor, parameters: list[Any], again: bool = False) -> Tensor:
    """Flat gradient (P,), zero where there is none."""
    found = torch.autograd.grad(
        value, parameters, retain_graph=True, create_graph=again, allow_unused=True
    )
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g.to_dense()).reshape(-1)
            for g, p in zip(found, parameters, strict=True)
        ]
    )


@contextmanager
def displaced(parameters: list[nn.Parameter], change: Tensor) -> Iterator[None]:
    """The parameters elsewhere inside, as they were outside."""
    before = [p.data for p in parameters]
    parts = change.split([p.numel() for p in parameters])
    for p, part in zip(parameters, parts, strict=True):
        p.data = p.data + part.view_as(p)
    try:
        yield
    finally:
        for p, old in zip(parameters, before, strict=True):
            p.data = old
