"""Per-example gradients of the logits, layer by layer, in factored form.

For a linear or convolutional layer, the gradient of a scalar in the weight is a sum
over positions of outer products, ``sum_l outputs[l] inputs[l]^T``. Storing the factors
costs far less than forming the rows, and Gram matrices follow from either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.functional import unfold
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten, tree_unflatten

from workbench.curvature.problem.batches import Inputs, join, num_of, spread, take
from workbench.curvature.problem.network import nodes, run
from workbench.curvature.problem.recognition import NORMS, plain_type
from workbench.curvature.problem.risk import EmpiricalRisk, evaluating
from workbench.progress.control import Cancelled

CHUNK = 32  # examples per vmap call
TRIED = 4  # examples checked against plain autograd
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # of a gradient's length


@dataclass(frozen=True, slots=True, eq=False)
class LayerGradients:
    """Gradients of m scalars per example in the parameters of one layer.

    Factored: for example b and scalar j, the weight's row is ``sum_l outputs[b, j, l,
        :] inputs[b, l, :]^T`` and the bias's ``sum_l outputs``. Explicit (``inputs`` is
        None): ``outputs`` holds the rows, (B, m, 1, p).
    """

    names: tuple[str, ...]  # parameters: weight, then bias if there is one
    inputs: Tensor | None  # (B, L, q)
    outputs: Tensor  # (B, m, L, r)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the layer, q r (+ r)."""
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
        """Yield `rows` a few columns at a time, with about ``numbers`` entries each.

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
    inputs: Inputs,
    cotangents: Tensor,
    names: set[str] | None = None,
) -> Iterator[LayerGradients]:
    r"""Yield gradients ``J_b^T w_{b,j}`` of a batch for given cotangents, by layer.

    For linear, convolutional (ungrouped) and batch-norm layers, the factors are read
    off one forward and m backward passes that stop at the layers, provided that this
    agrees with plain autograd on some examples. Everything else takes the general path,
    one example at a time: other layers, weights used more than once, inputs whose first
    axis is not the batch, and layers that do more than their type suggests.

    Args:
        risk: The network and parameters.
        inputs: (B, ...).
        cotangents: w, shape (B, O, m), for flattened outputs.
        names: Names of the parameters; by default all.

    Yields:
        The gradients of each layer; every requested parameter occurs once.
    """
    wanted = set(risk.parameters) if names is None else names
    with evaluating(risk.model):
        taps = _taps(risk, wanted)
        tapped = {name for tap_names, _ in taps.values() for name in tap_names}
        if taps:
            yield from _read(risk, inputs, cotangents, taps)
        left = wanted - tapped
        rest: list[tuple[str, ...]] = [(n,) for n in risk.parameters if n in left]
        if rest:
            yield from _general(risk, inputs, cotangents, rest)


def gradient_rows(risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor) -> Tensor:
    """Return ``J_b^T w_{b,j}`` as flat vectors, (B, m, P), in parameter order."""
    found: dict[str, Tensor] = {}
    for layer in layer_gradients(risk, inputs, cotangents):
        sizes = [risk.parameters[name].numel() for name in layer.names]
        pieces = torch.split(layer.rows(), sizes, dim=2)
        found.update(zip(layer.names, pieces, strict=True))
    return torch.cat([found[name] for name in risk.parameters], dim=2)


def layer_groups(risk: EmpiricalRisk) -> list[tuple[str, ...]]:
    """Return the parameters by layer, as yielded by `layer_gradients`."""
    with evaluating(risk.model):
        taps = _taps(risk, set(risk.parameters))
    groups = [names for names, _ in taps.values()]
    tapped = {name for names in groups for name in names}
    return groups + [(name,) for name in risk.parameters if name not in tapped]


Reader = Callable[[nn.Module, tuple[str, ...], Tensor, Tensor], LayerGradients]
Tap = tuple[tuple[str, ...], Reader]


def _taps(risk: EmpiricalRisk, wanted: set[str]) -> dict[nn.Module, Tap]:
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
    """Layers of known type that do not share weights."""
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
    """How to read off the gradients of this type of layer; None: the general path."""
    kind = plain_type(module)
    if kind is nn.Linear:
        return _read_linear
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        return _read_convolution if module.groups == 1 else None
    if isinstance(module, _BatchNorm) and kind in NORMS and module.affine:
        return _read_batch_norm
    return None


def _prove(risk: EmpiricalRisk, taps: dict[nn.Module, Tap]) -> set[str]:
    """The parameters whose gradients, read off, agree with plain autograd.

    Checked on some examples in two orders, because a network may sort its batch.
    """
    right = set(risk.parameters)
    whole, _ = risk.piece
    num = num_of(whole)
    for order in (list(range(num)), list(range(num))[::-1]):
        inputs = take(whole, order)
        w = _cotangents(risk, inputs)
        try:
            found = {
                layer.names: layer.rows()[:, 0]
                for layer in _read(risk, inputs, w, taps, general=False)
            }
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception:  # a layer that is not what it seems may raise anything
            return set()
        right &= _agreeing(risk, inputs, w, found)
    return right


def _cotangents(risk: EmpiricalRisk, inputs: Inputs) -> Tensor:
    """One random cotangent per example, (B, O, 1), float64."""
    outputs = run(risk.network, inputs).flatten(1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(
        outputs.shape, generator=generator, dtype=torch.float64, device="cpu"
    )
    return noise.to(outputs.device)[..., None]


def _agreeing(
    risk: EmpiricalRisk,
    inputs: Inputs,
    w: Tensor,
    found: dict[tuple[str, ...], Tensor],
) -> set[str]:
    """The names whose rows (B, p) agree with plain autograd, example by example."""
    right = {name for names in found for name in names}
    places = spread(len(w), TRIED)
    sizes = dict(zip(risk.parameters, risk.sizes, strict=True))
    for i in places:
        one = take(inputs, slice(i, i + 1))
        with torch.enable_grad():
            outputs = risk.network(one)
            flat = risk.gradient(outputs, w[i, :, 0].view_as(outputs))
        true = {n: g.flatten() for n, g in risk.split(flat).items()}
        floor = 1e3 * torch.finfo(risk.digits).eps * float(flat.double().norm())
        for names, rows in found.items():
            parts = rows[i].split([sizes[name] for name in names])
            for name, part in zip(names, parts, strict=True):
                apart = (part.double() - true[name].double()).norm()
                size = float(true[name].double().norm())
                if not float(apart) <= ROUNDING[risk.digits] * size + floor:
                    right -= set(names)
    return right


def _read(
    risk: EmpiricalRisk,
    inputs: Inputs,
    cotangents: Tensor,
    taps: dict[nn.Module, Tap],
    *,
    general: bool = True,
) -> Iterator[LayerGradients]:
    """Read off the layers; those that cannot be take the ``general`` path."""
    num = num_of(inputs)
    example = take(inputs, slice(0, 1))
    logits, seen = watch(risk, inputs, taps)
    # another size, if the network duplicates a single example
    _, other = watch(risk, join([example] * 3) if num <= 2 else example, taps)
    used = uses(logits)

    def plain(module: nn.Module) -> bool:
        """Called once, batch first for any size, and its weights used nowhere else."""
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
        yield from _general(risk, inputs, cotangents, rest)


Calls = dict[nn.Module, list[tuple[Tensor, Tensor]]]


def watch(
    risk: EmpiricalRisk, inputs: Inputs, modules: Iterable[nn.Module]
) -> tuple[Tensor, Calls]:
    """Return the logits, and the input and output of each call of the modules."""
    seen: Calls = {module: [] for module in modules}

    def remember(
        module: nn.Module, args: tuple[Tensor, ...], named: Any, output: Tensor
    ) -> Tensor:
        seen[module].append((args[0] if args else named["input"], output))
        return output.clone()  # an in-place activation must not modify our copy

    handles = [m.register_forward_hook(remember, with_kwargs=True) for m in seen]
    try:
        with torch.enable_grad():
            logits = risk.network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen


def uses(logits: Tensor) -> Counter[int]:
    """Count how often each parameter, by id, enters the graph of the logits."""
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


def _general(
    risk: EmpiricalRisk,
    inputs: Inputs,
    cotangents: Tensor,
    groups: list[tuple[str, ...]],
) -> Iterator[LayerGradients]:
    """Handle any parameters of any network, by backward passes per example."""
    wanted = [name for names in groups for name in names]
    if risk.proven.together is None:
        with risk.proven.timed():
            risk.proven.together = _vmap_agrees(risk)
    if risk.proven.together:
        rows = _rows_together(risk, inputs, cotangents, wanted)
    else:
        rows = _rows_apart(risk, inputs, cotangents, wanted)
    for names in groups:
        whole = torch.cat([rows[name] for name in names], dim=2)
        yield LayerGradients(names, None, whole[:, :, None])


def _vmap_agrees(risk: EmpiricalRisk) -> bool:
    """Whether vmap agrees with plain autograd on some examples."""
    inputs = take(risk.piece[0], slice(0, TRIED))
    w = _cotangents(risk, inputs)
    names = list(risk.parameters)
    try:
        if risk.check != "off":  # again: state of the first call may be invalid
            _rows_together(risk, inputs, w, names)
        rows = _rows_together(risk, inputs, w, names)
    except (Cancelled, torch.OutOfMemoryError):
        raise
    except Exception:  # vmap does not support recurrent cells or branches on values
        return False
    if risk.check == "off":
        return True
    found: dict[tuple[str, ...], Tensor] = {(n,): rows[n][:, 0] for n in names}
    return _agreeing(risk, inputs, w, found) == set(names)


def _rows_together(
    risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """``J_b^T w_{b,j}`` in each parameter, (B, m, p), by vmap."""
    values = {n: t.detach() for n, t in risk.network.named().items()}
    chosen = {name: values.pop(name) for name in wanted}
    leaves, spec = tree_flatten(inputs)
    own = [i for i, t in enumerate(leaves) if isinstance(t, Tensor) and t.ndim]

    def gradients(example: list[Tensor], columns: Tensor) -> dict[str, Tensor]:
        given = list(leaves)
        for i, tensor in zip(own, example, strict=True):
            given[i] = tensor[None]
        whole = tree_unflatten(given, spec)

        def network(parameters: dict[str, Tensor]) -> Tensor:
            weights = {**values, **parameters}
            return risk.network(whole, weights, paired=False).flatten()

        outputs, back, *_ = vjp(network, chosen)
        pulled = vmap(back)(columns.T.to(outputs.dtype))[0]
        return {name: g.flatten(1) for name, g in pulled.items()}

    examples = [leaves[i] for i in own]
    found: dict[str, Tensor] = vmap(gradients, chunk_size=CHUNK)(examples, cotangents)
    return found


def _rows_apart(
    risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """The same with a backward pass per cotangent and example."""
    chosen = [risk.parameters[name] for name in wanted]
    found: list[list[Tensor]] = []
    for i in range(num_of(inputs)):
        risk.control.check()
        with torch.enable_grad():
            outputs = risk.network(take(inputs, slice(i, i + 1)))
        rows = [
            _gradients(outputs, chosen, column.reshape(outputs.shape))
            for column in cotangents[i].unbind(1)
        ]
        found.append([torch.stack(column) for column in zip(*rows, strict=True)])
    return {
        name: torch.stack(column)
        for name, column in zip(wanted, zip(*found, strict=True), strict=True)
    }


def _gradients(outputs: Tensor, chosen: Sequence[Tensor], w: Tensor) -> list[Tensor]:
    """``J^T w`` in each parameter, flat."""
    if not outputs.requires_grad:
        return [torch.zeros_like(p).flatten() for p in chosen]
    found = torch.autograd.grad(
        outputs, chosen, w.to(outputs.dtype), retain_graph=True, materialize_grads=True
    )
    return [(g.to_dense() if g.is_sparse else g).flatten() for g in found]
