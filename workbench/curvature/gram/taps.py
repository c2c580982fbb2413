"""Layers whose gradients are read off their inputs and output cotangents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.curvature.gram.rows import (
    LayerGradients,
    agreeing,
    general_rows,
    random_cotangents,
)
from workbench.curvature.problem.batches import Inputs, join, num_of, take
from workbench.curvature.problem.network import nodes
from workbench.curvature.problem.recognition import NORMS, plain_type
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.progress.control import Cancelled

Reader = Callable[[nn.Module, tuple[str, ...], Tensor, Tensor], LayerGradients]
Tap = tuple[tuple[str, ...], Reader]


def taps_of(risk: EmpiricalRisk, wanted: set[str]) -> dict[nn.Module, Tap]:
    """Layers whose gradients can be read off their inputs and output cotangents."""
    if risk.proven.readable is None:
        found = _readers(risk)
        every = {name for names, _ in found.values() for name in names}
        if risk.check != "off" and every:
            with risk.proven.timed():
                every &= _prove(risk, found)
        risk.proven.readable = frozenset(every)
    readable = risk.proven.readable
    return {
        module: (names, reader)
        for module, (names, reader) in _readers(risk).items()
        if set(names) <= wanted and set(names) <= readable
    }


def _readers(risk: EmpiricalRisk) -> dict[nn.Module, Tap]:
    """Layers of a known type, whose weights are their own."""
    name_of: dict[int, str] = {id(p): name for name, p in risk.parameters.items()}
    owners: Counter[int] = Counter(
        id(p) for m in risk.model.modules() for p in m.parameters(recurse=False)
    )
    taps: dict[nn.Module, Tap] = {}
    for module in risk.model.modules():
        reader = _reader(module)
        own = [id(p) for p in module.parameters(recurse=False)]
        if reader is None or any(owners[p] > 1 or p not in name_of for p in own):
            continue
        names = tuple(name_of[p] for p in own)
        if names:
            taps[module] = names, reader
    return taps


def _reader(module: nn.Module) -> Reader | None:
    """How the gradients of this type of layer are read; None: by the general path."""
    kind = plain_type(module)
    if kind is nn.Linear:
        return _read_linear
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        return _read_convolution if module.groups == 1 else None
    if isinstance(module, _BatchNorm) and kind in NORMS and module.affine:
        return _read_batch_norm
    return None


def _prove(risk: EmpiricalRisk, taps: dict[nn.Module, Tap]) -> set[str]:
    """The parameters whose gradients, read off, are those of plain autograd.

    For some examples, in two orders: a network may sort its batch inside.
    """
    right = set(risk.parameters)
    whole, _ = risk.piece
    num = num_of(whole)
    for order in (list(range(num)), list(range(num))[::-1]):
        inputs = take(whole, order)
        w = random_cotangents(risk, inputs)
        try:
            found = {
                layer.names: layer.rows()[:, 0]
                for layer in read(risk, inputs, w, taps, general=False)
            }
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception:  # whatever a layer raises that is not what it seems
            return set()
        right &= agreeing(risk, inputs, w, found)
    return right


def read(
    risk: EmpiricalRisk,
    inputs: Inputs,
    cotangents: Tensor,
    taps: dict[nn.Module, Tap],
    *,
    general: bool = True,
) -> Iterator[LayerGradients]:
    """Read the layers off; the ``general`` path takes those that cannot be."""
    num = num_of(inputs)
    example = take(inputs, slice(0, 1))
    logits, seen = watch(risk, inputs, taps)
    # another size: the network makes a pair of one example
    _, other = watch(risk, join([example] * 3) if num <= 2 else example, taps)
    used = uses(logits)

    def plain(module: nn.Module) -> bool:
        """Called once, batch first whatever its size, its weights used nowhere else."""
        calls = [(seen[module], max(num, 2)), (other[module], 3 if num <= 2 else 2)]
        return all(
            len(call) == 1 and len(call[0][1]) == size for call, size in calls
        ) and all(used[id(p)] <= 1 for p in module.parameters(recurse=False))

    read = [module for module in taps if plain(module)]
    tensors = [seen[module][0][1] for module in read]
    columns = []
    for column in cotangents.to(logits.dtype).unbind(2) if read else ():
        columns.append(
            torch.autograd.grad(
                logits,
                tensors,
                column.reshape(logits.shape),
                retain_graph=True,
                materialize_grads=True,
            )
        )
    for index, module in enumerate(read):
        names, reader = taps[module]
        outputs = torch.stack([grads[index][:num] for grads in columns], dim=1)
        yield reader(module, names, seen[module][0][0].detach()[:num], outputs)
    rest = [names for module, (names, _) in taps.items() if module not in read]
    if rest and general:
        yield from general_rows(risk, inputs, cotangents, rest)


Calls = dict[nn.Module, list[tuple[Tensor, Tensor]]]


def watch(
    risk: EmpiricalRisk, inputs: Inputs, modules: Iterable[nn.Module]
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
            logits = risk.network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen


def uses(logits: Tensor) -> Counter[int]:
    """How often each parameter, by its id, enters the graph of the logits."""
    uses: Counter[int] = Counter()
    for node in nodes(logits):
        for following, _ in node.next_functions:
            if (parameter := getattr(following, "variable", None)) is not None:
                uses[id(parameter)] += 1
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
