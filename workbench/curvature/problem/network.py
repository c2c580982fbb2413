"""A network as a function of its inputs, whatever it takes and returns."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from workbench.curvature.problem.batches import (
    Inputs,
    clone,
    each,
    join,
    num_of,
    spread,
    take,
    tensors,
)
from workbench.curvature.problem.surroundings import (
    evaluating,
    same_attributes,
    same_bits,
)
from workbench.errors import WorkbenchError

Outputs = Callable[[Any], Tensor]  # from what a network returns to its logits
HALVES = (torch.float16, torch.bfloat16)
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
APART = 4  # examples that are run apart from their batch


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A module, and how its logits are had from what it returns.

    Inputs are copied, for the module may write to them, and never come alone: torch's
    backward of batch norm is wrong for some batches of one.
    """

    module: nn.Module
    outputs: Outputs | None = None
    whole: bool = False  # whether inputs of several tensors are one argument
    last: bool = False  # whether logits come as (B, ..., C), the classes last

    def __call__(
        self,
        inputs: Inputs,
        weights: dict[str, Tensor] | None = None,
        *,
        paired: bool = True,
    ) -> Tensor:
        """f(x), (B, ...): with the module's own weights, or those given by name.

        One example is run as a pair, but where ``paired`` says no. Logits of tokens
        come out as (B, C, T), whichever way the module has them.
        """
        alone = paired and num_of(inputs) == 1
        given = join([inputs, inputs]) if alone else clone(inputs)
        args, named = self._arguments(given)
        with same_attributes(self.module.modules()):
            if weights is None:
                raw = self.module(*args, **named)
            else:
                raw = functional_call(self.module, weights, args, named)
            found = self._logits(raw)
        if not (isinstance(found, Tensor) and found.ndim):
            raise WorkbenchError(
                "empirical_risk: the network gives an output of type "
                f"{type(found).__name__}; expected a tensor of logits: pass outputs=, "
                "a function that takes them from what the network returns."
            )
        if not found.is_floating_point() or found.layout != torch.strided:
            kind = str(found.dtype if found.layout == torch.strided else found.layout)
            raise WorkbenchError(
                "empirical_risk: the network gives an output of "
                f"{kind.removeprefix('torch.')}; expected dense floating-point logits, "
                "before any argmax or rounding: pass outputs=, a function that takes "
                "them from what the network returns."
            )
        if len(found) != num_of(given):
            raise WorkbenchError(
                f"empirical_risk: {num_of(given)} inputs give an output of shape "
                f"{tuple(found.shape)}; expected logits of shape (B, C), with the "
                "examples on the first axis."
            )
        if type(found) is not Tensor:  # a kind of tensor of somebody's own
            found = found.as_subclass(Tensor)
        found = found[:1] if alone else found
        if found.ndim == 1:
            return found[:, None]
        return found.movedim(-1, 1) if self.last else found

    def named(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, one name each."""
        found: dict[str, Tensor] = dict(self.module.named_parameters())
        known = set(map(id, found.values()))
        for name, buffer in self.module.named_buffers():
            if id(buffer) not in known:
                found[name] = buffer
        return found

    def _logits(self, raw: Any) -> Any:
        if self.outputs is not None:
            return self.outputs(raw)
        if isinstance(raw, Mapping) and "logits" in raw:
            return raw["logits"]
        return raw if isinstance(raw, Tensor) else getattr(raw, "logits", raw)

    def settled(self, inputs: Inputs) -> Network:
        """The same, told how its inputs go in where its signature leaves that open.

        Mappings as keywords, sequences one by one; or either as one argument, where the
        network takes these inputs only so.
        """
        if isinstance(inputs, Tensor) or not _takes(self.module, (inputs,), {}):
            return self
        with evaluating(self.module):
            for whole in (False, True):
                trial = replace(self, whole=whole)
                try:
                    run(trial, inputs)
                except WorkbenchError:  # it does not take them so
                    continue
                return trial
        return self

    def oriented(self, few: Iterable[tuple[Inputs, Tensor]]) -> Network:
        """The same, told where the classes are, which only the labels can say.

        Logits (B, T, C) beside labels (B, T) have them last, as language models do;
        where T is C too they are (B, C, T), as torch's own loss takes them.

        Args:
            few: Some examples of each shape, with their class numbers.
        """
        for inputs, targets in few:
            shape, labelled = run(self, inputs).shape, targets.shape
            first = labelled == (shape[0], *shape[2:])
            last = labelled == shape[:-1]
            if first != last:
                return replace(self, last=last)
        return self

    def _arguments(self, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Mappings as keywords, sequences one by one, where forward takes them so."""
        args: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        elif isinstance(inputs, Sequence):
            args = tuple(inputs)
        if (args or named) and not self.whole and _takes(self.module, args, named):
            return args, named
        return (inputs,), {}

    def in_dtype(self, device: torch.device, dtype: torch.dtype) -> Network:
        """A copy on the device, its floating-point weights and buffers in the dtype.

        Complex ones stay complex, whole numbers as they are.

        Raises:
            WorkbenchError: If the network cannot be copied.
        """

        def converted(tensor: Tensor) -> Tensor:
            kind = COMPLEX.get(dtype, dtype) if tensor.is_complex() else dtype
            whole = not (tensor.is_floating_point() or tensor.is_complex())
            return tensor.to(device, tensor.dtype if whole else kind)

        try:
            module = copy.deepcopy(self.module)._apply(converted)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a module raises when it is copied
            raise WorkbenchError(
                "empirical_risk: the network cannot be copied "
                f"({first_line(error)}); convert it yourself, for instance "
                "model.float().to(device), and pass that."
            ) from error
        pairs = zip(self.module.parameters(), module.parameters(), strict=True)
        for own, other in pairs:
            for hook in (own._backward_hooks or {}).values():
                other.register_hook(hook)
        return replace(self, module=module)


@runtime_checkable
class Trained(Protocol):
    """A `Checkpoint`, as far as the curvature needs one."""

    def load_model(self) -> nn.Module:
        """The network with its weights."""

    def load_data(self) -> Any:
        """What it was trained on."""


def network_and_data(model: Any, data: Any) -> tuple[nn.Module, Any]:
    """The network and its data, out of a checkpoint where one was given.

    Raises:
        WorkbenchError: If it is neither, or a network comes without data.
    """
    if not isinstance(model, nn.Module) and isinstance(model, Trained):
        return model.load_model(), model.load_data() if data is None else data
    if not isinstance(model, nn.Module):
        raise WorkbenchError(
            f"empirical_risk: the network is a {type(model).__name__}; expected a "
            "torch.nn.Module with its data, or a Checkpoint."
        )
    if data is None:
        raise WorkbenchError(
            "empirical_risk: the network came without data; pass a Dataset, a pair of "
            "tensors (inputs, labels), or a list or DataLoader of such pairs."
        )
    return model, data


def _takes(module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether the signature of the module's forward allows these arguments."""
    try:
        inspect.signature(module.forward).bind(*args, **named)
    except (TypeError, ValueError):
        return False
    return True


def unwrapped(model: Any) -> nn.Module:
    """The module that is compiled or run in parallel, whose function is the same.

    Raises:
        WorkbenchError: If it is no module, or one whose weights are not there.
    """
    if not isinstance(model, nn.Module):
        raise WorkbenchError(
            f"empirical_risk: the network is a {type(model).__name__}; expected a "
            "torch.nn.Module."
        )
    whole: nn.Module = model
    while (inner := _inside(whole)) is not None:
        whole = inner
    for name, p in [*whole.named_parameters(), *whole.named_buffers()]:
        if is_lazy(p):
            raise WorkbenchError(
                f"empirical_risk: {name} has no shape yet, as its layer is lazy; "
                "run the network once on a batch first."
            )
        if p.is_meta:
            raise WorkbenchError(
                f"empirical_risk: {name} is on the meta device and holds no numbers; "
                "load the weights first."
            )
    return whole


def _inside(model: nn.Module) -> nn.Module | None:
    """What is compiled or run in parallel, if that is all that the module does."""
    if model._forward_hooks or model._forward_pre_hooks:
        return None
    if type(model) in PARALLEL and "forward" not in vars(model):
        return model._modules["module"]
    if type(model).__name__ == "OptimizedModule":  # of torch.compile
        return model._modules.get("_orig_mod")
    return None


def run(network: Network, inputs: Inputs) -> Tensor:
    """A first pass: numbers of their own, without a graph.

    What the network makes of its parameters meanwhile and keeps has one, as it has when
    it is trained: without, gradients would stop there from then on.

    Raises:
        WorkbenchError: If the network does not take the inputs.
    """
    try:
        with torch.enable_grad():
            return network(inputs).detach().clone()
    except (WorkbenchError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever the network's own code raises
        shapes = [tuple(t.shape) for t in tensors(inputs)]
        kinds = sorted({str(t.dtype).removeprefix("torch.") for t in tensors(inputs)})
        said = shapes[0] if len(shapes) == 1 else shapes[:3]
        raise WorkbenchError(
            f"empirical_risk: the network does not take inputs of shape {said}, "
            f"{'/'.join(kinds)} ({first_line(error)}); pass data of the shape and "
            "dtype that it was made for."
        ) from error


@contextmanager
def same_weights(module: nn.Module) -> Iterator[None]:
    """Raise a `WorkbenchError` where passes change weights, and put them back."""
    before = [
        (n, p, p.detach().clone(), p.grad, None if p.grad is None else p.grad.clone())
        for n, p in module.named_parameters()
    ]
    changed: list[str] = []
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p, copy, grad, its_copy in before:
                if not same_bits(p.detach(), copy):
                    changed.append(name)
                    p.data.copy_(copy)
                if grad is not None and its_copy is not None:
                    grad.copy_(its_copy)
                p.grad = grad
    if changed:
        raise WorkbenchError(
            f"empirical_risk: a pass through the network changes its weights "
            f"({changed[0]}; an embedding with max_norm, say), so no product repeats; "
            "switch that off."
        )


def nodes(outputs: Tensor) -> Iterator[Node]:
    """The nodes of the graph of some outputs, each once."""
    waiting = [outputs.grad_fn]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        for following, _ in node.next_functions:
            if following not in known:
                known.add(following)
                waiting.append(following)


def check_function(network: Network, inputs: Inputs) -> Tensor:
    """Logits of a batch, once it is sure that the network is a function of an example.

    Raises:
        WorkbenchError: If two passes differ, an example's logits depend on the others
            in its batch, or logits are not finite.
    """
    with evaluating(network.module):
        logits = run(network, inputs)
        again = run(network, inputs)
    if not logits.isfinite().all():
        raise WorkbenchError(_not_finite(logits))
    rounding = _rounding(logits)
    if again.shape != logits.shape or _differ(again, logits, rounding):
        raise WorkbenchError(
            "empirical_risk: two passes over the same inputs give different logits in "
            "eval mode; the curvature of a random function is not defined: switch the "
            "randomness (a functional dropout, say) off in eval mode."
        )
    if _mixes(network, inputs, logits, rounding):
        raise WorkbenchError(
            "empirical_risk: an example's logits depend on the others in its batch "
            "even in eval mode (batch norm without running statistics, or a branch on "
            "the whole batch, say), so the per-example gradients are not defined; set "
            "track_running_stats=True, or take that out."
        )
    return logits


def _not_finite(logits: Tensor) -> str:
    masked = not (logits.isnan().any() or (logits == math.inf).any())
    if masked:
        return (
            "empirical_risk: the network gives logits of minus infinity (a mask, "
            "say), of which no derivative is taken; give those a large negative number "
            "in place of it, such as -1e4."
        )
    return (
        "empirical_risk: the network gives NaN or infinite logits; train again with a "
        "smaller rate, or look at the inputs."
    )


def _rounding(logits: Tensor) -> Tensor:
    """How far two passes may be apart, of each output by its own size: (1, C, ...)."""
    middle = logits.mean(0, keepdim=True)
    spread = (logits - middle).abs().amax(0, keepdim=True)
    size = logits.abs().amax(0, keepdim=True)
    return torch.finfo(logits.dtype).eps * (1e3 * spread + 50 * size)


def _differ(one: Tensor, other: Tensor, rounding: Tensor) -> bool:
    return bool(((one - other).abs() > rounding).any())


def _mixes(network: Network, inputs: Inputs, logits: Tensor, rounding: Tensor) -> bool:
    """Whether an example gives other logits beside other examples.

    Each time from the network as it is, not as an earlier pass left it. In its place,
    with others around it, an example is computed as before: to the rounding of each
    output. As a pair it need not be: to that of the largest.
    """
    num, coarse = len(logits), rounding.max()
    if num == 1:  # beside another that is made up
        other = each(lambda t: t.flatten(1).roll(1, 1).view_as(t), inputs)
        try:
            with evaluating(network.module):
                beside = run(network, join([inputs, other]))[:1]
        except WorkbenchError:  # made up as no example is
            return False
        return _differ(beside, logits, coarse)
    half = -(-num // 2)
    stay = [j if j < half else j - half for j in range(num)]
    trials = [(take(inputs, stay), slice(0, half), rounding)]
    for i in spread(num, APART):
        one = take(inputs, slice(i, i + 1))
        trials.append((join([one, one]), slice(i, i + 1), coarse))
    for batch, where, least in trials:
        right = logits[where]
        try:
            with evaluating(network.module):
                found = run(network, batch)[: len(right)]
        except WorkbenchError:  # a batch norm that refuses so few numbers
            return True
        if _differ(found, right, least):
            return True
    return False


def first_line(error: Exception) -> str:
    """What was said, in a few words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 90 else f"{lines[0][:87]}..."
