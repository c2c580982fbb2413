"""Per-example gradients of the logits, layer by layer, in factored form.

For a linear or convolutional layer the gradient of one number in the weight is a sum
over positions of outer products, ``sum_l outputs[l] inputs[l]^T``: keeping the factors
costs far less than forming the rows, and Gram matrices can be had from either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn.functional import unfold
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.curvature.risk import EmpiricalRisk, evaluating


@dataclass(frozen=True, slots=True, eq=False)
class LayerGradients:
    """Gradients of m numbers an example in the parameters of one layer.

    Factored: the weight's row of example b, number j is
    ``sum_l outputs[b, j, l, :] inputs[b, l, :]^T``, the bias's ``sum_l outputs``.
    Explicit (``inputs`` is None): ``outputs`` holds the rows, (B, m, 1, p).
    """

    names: tuple[str, ...]  # parameters: weight, then bias where there is one
    inputs: Tensor | None  # (B, L, q)
    outputs: Tensor  # (B, m, L, r)

    @property
    def num_parameters(self) -> int:
        """Parameters of the layer, q r (+ r)."""
        if self.inputs is None:
            return self.outputs.shape[-1]
        r = self.outputs.shape[-1]
        return r * self.inputs.shape[-1] + r * (len(self.names) - 1)

    def rows(self) -> Tensor:
        """Explicit gradients, (B, m, p), in the order of ``names``."""
        if self.inputs is None:
            return self.outputs[:, :, 0]
        num_examples, m, positions, r = self.outputs.shape
        flat = self.outputs.permute(0, 1, 3, 2).reshape(num_examples, m * r, positions)
        weight = (flat @ self.inputs).reshape(num_examples, m, -1)
        if len(self.names) == 1:
            return weight
        return torch.cat([weight, self.outputs.sum(2)], dim=2)

    def pieces(self, numbers: int) -> Iterator[Tensor]:
        """`rows` a few columns at a time, so that each has about ``numbers`` entries.

        Yields (B, m, columns), in the order of the rows' columns.
        """
        if self.inputs is None:
            yield from torch.split(
                self.rows(),
                max(1, numbers // max(1, self.outputs[:, :, 0, 0].numel())),
                dim=2,
            )
            return
        num_examples, m, _, r = self.outputs.shape
        channel = num_examples * m * self.inputs.shape[-1]
        step = max(1, numbers // max(1, channel))
        for start in range(0, r, step):
            part = self.outputs[..., start : start + step]
            yield LayerGradients(self.names[:1], self.inputs, part).rows()
        if len(self.names) > 1:
            yield self.outputs.sum(2)

    def squared_norms(self) -> Tensor:
        """Squared length of each gradient, (B, m), in float64."""
        if self.inputs is None or self.outputs.shape[2] > 1:
            norms = [p.double().square().sum(2) for p in self.pieces(2**24)]
            return torch.stack(norms).sum(0)
        outputs = self.outputs.double().square().sum((2, 3))
        inputs = self.inputs.double().square().sum((1, 2)) + (len(self.names) - 1)
        return outputs * inputs[:, None]


def layer_gradients(
    risk: EmpiricalRisk,
    inputs: Tensor,
    cotangents: Tensor,
    names: set[str] | None = None,
) -> Iterator[LayerGradients]:
    r"""Gradients ``J_b^T w_{b,j}`` of a batch for given cotangents, layer by layer.

    Linear, convolutional (ungrouped) and batch-norm layers are read off one forward and
    m backward passes that stop at the layers. Anything else takes the general path, one
    example at a time: other layers, weights used more than once, inputs whose first
    axis is not the batch.

    Args:
        risk: Network and parameters.
        inputs: (B, ...).
        cotangents: w, shape (B, C, m).
        names: Parameters wanted; by default all.

    Yields:
        The gradients of each layer; together each wanted parameter once.
    """
    wanted = set(risk.parameters) if names is None else names
    taps = _taps(risk, wanted)
    tapped = {name for tap_names, _ in taps.values() for name in tap_names}
    with evaluating(risk.model):
        if taps:
            yield from _read(risk, inputs, cotangents, taps)
        left = wanted - tapped
        rest: list[tuple[str, ...]] = [(n,) for n in risk.parameters if n in left]
        if rest:
            yield from _general(risk, inputs, cotangents, rest)


def gradient_rows(risk: EmpiricalRisk, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """``J_b^T w_{b,j}`` as flat vectors, (B, m, P), in the parameters' order."""
    found: dict[str, Tensor] = {}
    for layer in layer_gradients(risk, inputs, cotangents):
        sizes = [risk.parameters[name].numel() for name in layer.names]
        pieces = torch.split(layer.rows(), sizes, dim=2)
        found.update(zip(layer.names, pieces, strict=True))
    return torch.cat([found[name] for name in risk.parameters], dim=2)


def layer_groups(risk: EmpiricalRisk) -> list[tuple[str, ...]]:
    """The parameters by layer, as `layer_gradients` yields them."""
    taps = _taps(risk, set(risk.parameters))
    groups = [names for names, _ in taps.values()]
    tapped = {name for names in groups for name in names}
    return groups + [(name,) for name in risk.parameters if name not in tapped]


Reader = Callable[[nn.Module, tuple[str, ...], Tensor, Tensor], LayerGradients]
Tap = tuple[tuple[str, ...], Reader]


def _taps(risk: EmpiricalRisk, wanted: set[str]) -> dict[nn.Module, Tap]:
    """Layers whose gradients can be read off their inputs and output cotangents."""
    name_of: dict[int, str] = {id(p): name for name, p in risk.parameters.items()}
    owners: Counter[int] = Counter(
        id(p) for m in risk.model.modules() for p in m.parameters(recurse=False)
    )
    taps: dict[nn.Module, Tap] = {}
    for module in risk.model.modules():
        reader = _reader(module)
        own = [id(p) for p in module.parameters(recurse=False)]
        plain = [id(getattr(module, name, None)) for name in ("weight", "bias")]
        if reader is None or own != plain[: len(own)]:  # a weight that is computed
            continue
        if any(owners[p] > 1 or p not in name_of for p in own):
            continue
        names = tuple(name_of[p] for p in own)
        if names and set(names) <= wanted:
            taps[module] = names, reader
    return taps


def _reader(module: nn.Module) -> Reader | None:
    """How the gradients of this type of layer are read; None: by the general path."""
    if type(module) is nn.Linear:
        return _read_linear
    if type(module) is nn.Conv2d and module.groups == 1:
        if module.padding_mode == "zeros" and not isinstance(module.padding, str):
            return _read_convolution
        return None
    if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
        return _read_batch_norm
    return None


def _read(
    risk: EmpiricalRisk,
    inputs: Tensor,
    cotangents: Tensor,
    taps: dict[nn.Module, Tap],
) -> Iterator[LayerGradients]:
    logits, seen = _watch(risk, inputs, taps)
    _, first = _watch(risk, inputs[:1], taps)
    uses = _uses(logits)

    def plain(module: nn.Module) -> bool:
        """Called once, batch first whatever its size, its weights used nowhere else."""
        calls = [(seen[module], len(inputs)), (first[module], 1)]
        return all(
            len(call) == 1 and len(call[0][1]) == size for call, size in calls
        ) and all(uses[id(p)] <= 1 for p in module.parameters(recurse=False))

    read = [module for module in taps if plain(module)]
    tensors = [seen[module][0][1] for module in read]
    columns = []
    for column in cotangents.to(logits.dtype).unbind(2) if read else ():
        columns.append(
            torch.autograd.grad(
                logits, tensors, column, retain_graph=True, materialize_grads=True
            )
        )
    for index, module in enumerate(read):
        names, reader = taps[module]
        outputs = torch.stack([grads[index] for grads in columns], dim=1)
        yield reader(module, names, seen[module][0][0].detach(), outputs)
    rest = [names for module, (names, _) in taps.items() if module not in read]
    if rest:
        yield from _general(risk, inputs, cotangents, rest)


Calls = dict[nn.Module, list[tuple[Tensor, Tensor]]]


def _watch(
    risk: EmpiricalRisk, inputs: Tensor, modules: Iterable[nn.Module]
) -> tuple[Tensor, Calls]:
    """The logits, and the input and output of each call of the modules."""
    seen: Calls = {module: [] for module in modules}

    def remember(
        module: nn.Module, args: tuple[Tensor, ...], named: Any, output: Tensor
    ) -> Tensor:
        seen[module].append((args[0] if args else named["input"], output))
        return output.clone()  # an in-place activation must not touch what we keep

    handles = [m.register_forward_hook(remember, with_kwargs=True) for m in seen]
    try:
        with torch.enable_grad():
            logits: Tensor = risk.model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen


def _uses(logits: Tensor) -> Counter[int]:
    """How often each parameter, by its id, enters the graph of the logits."""
    uses: Counter[int] = Counter()
    nodes = [logits.grad_fn]
    visited = set(nodes)
    while nodes:
        node = nodes.pop()
        for following, _ in node.next_functions if node else ():
            if (parameter := getattr(following, "variable", None)) is not None:
                uses[id(parameter)] += 1
            elif following not in visited:
                visited.add(following)
                nodes.append(following)
    return uses


def _read_linear(
    module: nn.Module, names: tuple[str, ...], value: Tensor, outputs: Tensor
) -> LayerGradients:
    """(B, ..., q) inputs and (B, m, ..., r) cotangents."""
    inputs = value.reshape(len(value), -1, value.shape[-1])
    outputs = outputs.reshape(*outputs.shape[:2], -1, outputs.shape[-1])
    return LayerGradients(names, inputs, outputs)


def _read_convolution(
    module: nn.Module, names: tuple[str, ...], value: Tensor, outputs: Tensor
) -> LayerGradients:
    """(B, channels, H, W) inputs as patches, (B, m, channels, H', W') cotangents."""
    assert isinstance(module, nn.Conv2d)
    assert not isinstance(module.padding, str)
    patches = unfold(
        value,
        module.kernel_size,
        dilation=module.dilation,
        padding=module.padding,
        stride=module.stride,
    )
    return LayerGradients(
        names, patches.transpose(1, 2), outputs.flatten(3).transpose(2, 3)
    )


def _read_batch_norm(
    module: nn.Module, names: tuple[str, ...], value: Tensor, outputs: Tensor
) -> LayerGradients:
    """Frozen statistics: the output is affine in the normalised input."""
    assert isinstance(module, _BatchNorm)
    assert module.running_mean is not None
    assert module.running_var is not None
    shape = (1, -1) + (1,) * (value.ndim - 2)
    scale = (module.running_var + module.eps).rsqrt().view(shape)
    normal = (value - module.running_mean.view(shape)) * scale
    outputs = outputs.reshape(*outputs.shape[:3], -1)  # positions last, if only one
    weight = (outputs * normal.reshape(*normal.shape[:2], -1)[:, None]).sum(3)
    bias = outputs.sum(3)
    return LayerGradients(names, None, torch.cat([weight, bias], dim=2)[:, :, None])


def _general(
    risk: EmpiricalRisk,
    inputs: Tensor,
    cotangents: Tensor,
    groups: list[tuple[str, ...]],
) -> Iterator[LayerGradients]:
    """Any parameters of any network, by a Jacobian an example."""
    wanted = [name for names in groups for name in names]
    try:
        jacobian = _jacobians_together(risk, inputs, wanted)
    except RuntimeError:  # recurrent cells and branches on values know no vmap
        jacobian = _jacobians_apart(risk, inputs, wanted)
    columns = cotangents.to(inputs.dtype)
    for names in groups:
        whole = torch.cat([jacobian[name].flatten(2) for name in names], dim=2)
        rows = torch.einsum("bcp,bcm->bmp", whole, columns)
        yield LayerGradients(names, None, rows[:, :, None])


def _jacobians_together(
    risk: EmpiricalRisk, inputs: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """Gradients of the logits of each example, (B, C, ...), by vmap."""
    values = {n: p.detach() for n, p in risk.parameters.items()}

    def network(parameters: dict[str, Tensor], example: Tensor) -> Tensor:
        return risk.logits({**values, **parameters}, example[None])[0]

    chosen = {name: values[name] for name in wanted}
    found: dict[str, Tensor] = vmap(jacrev(network), in_dims=(None, 0), chunk_size=32)(
        chosen, inputs
    )
    return found


def _jacobians_apart(
    risk: EmpiricalRisk, inputs: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """The same by one backward pass for each logit of each example."""
    chosen = [risk.parameters[name] for name in wanted]
    rows = []
    for example in inputs:
        with torch.enable_grad():
            logits = risk.model(example[None])[0]
        rows += [
            torch.autograd.grad(
                logit, chosen, retain_graph=True, materialize_grads=True
            )
            for logit in logits
        ]
    return {
        name: torch.stack(column).unflatten(0, (len(inputs), -1))
        for name, column in zip(wanted, zip(*rows, strict=True), strict=True)
    }
