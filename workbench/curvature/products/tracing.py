"""Reading a network as a `Program`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    dropout,
    max_pool2d,
    relu,
)

from workbench.curvature.problem.recognition import NORMS, is_altered, plain_type
from workbench.curvature.products.layers import (
    Activation,
    Add,
    Convolution,
    FixedLinear,
    Joined,
    Layer,
    Linear,
    MaxPool,
    ReLU,
    Scale,
)
from workbench.curvature.products.program import Program, Step, Weights

_RELU: tuple[Any, ...] = (torch.relu, relu, "relu", "relu_")
_SUM: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEAN: tuple[Any, ...] = (  # and what else is linear, and the same for every example
    *(torch.flatten, torch.mean, avg_pool2d, adaptive_avg_pool2d),
    *("flatten", "mean"),
)


def read_program(model: nn.Module, inputs: Tensor) -> Program | None:
    """Read a network in eval mode; None where one of its layers is not known here.

    Known are linear layers, ungrouped convolutions, batch norm, ReLU, pooling, sums,
    concatenations and flattening, called in an order that does not depend on the data.

    Args:
        model: The network.
        inputs: Some examples, which tell the shapes of what is between the layers.
    """
    if any(is_altered(module) for module in model.modules()):
        return None
    try:
        graph = fx.Tracer().trace(model)
        shapes = _Shapes(model, graph).of(inputs)
    except Exception:  # whatever the network's own code raises when it meets a proxy
        return None
    return _Reader(model, graph, shapes).program()


class _Shapes(fx.Interpreter):
    """Notes the shape of what each node makes."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(model, graph))
        self.shapes: dict[str, tuple[int, ...]] = {}

    def of(self, inputs: Tensor) -> dict[str, tuple[int, ...]]:
        """By the nodes' names."""
        self.run(inputs.clone())
        return self.shapes

    def run_node(self, n: fx.Node) -> Any:
        """Run it, and note the shape."""
        found = super().run_node(n)
        if isinstance(found, Tensor):
            self.shapes[n.name] = tuple(found.shape)
        return found


class _Reader:
    """Turns a graph of calls into steps."""

    def __init__(
        self, model: nn.Module, graph: fx.Graph, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.modules = dict(model.named_modules())
        self.graph = graph
        self.shape = shapes
        parameters = dict(model.named_parameters())
        named = {**parameters, **dict(model.named_buffers())}
        self.names = {id(tensor): name for name, tensor in named.items()}
        self.trained = {n for n, p in parameters.items() if p.requires_grad}
        self.steps: list[Step] = []
        self.slots: dict[fx.Node, int] = {}
        self.live = [False]
        self.shapes: set[fx.Node] = set()
        self.lengths: set[fx.Node] = set()  # the number of examples

    def program(self) -> Program | None:
        """The steps, or None."""
        for node in self.graph.nodes:
            if node in self.slots:  # a norm that was folded into the layer below
                continue
            if node.op == "placeholder":
                if self.slots and node.users:
                    return None
                self.slots.setdefault(node, 0)
            elif node.op == "output":
                last = self.slots.get(node.args[0])
                return self._finish() if last == len(self.steps) else None
            elif not (self._length(node) or self._layer(node) or self._link(node)):
                return None
        return None

    def _finish(self) -> Program:
        """The steps, with the last use of each slot that no derivative looks at."""
        last: dict[int, int] = {}
        kept: set[int] = set()
        for index, step in enumerate(self.steps):
            for slot in step.reads:
                last[slot] = index
            if step.needs_inputs:
                kept.update(step.reads)
        dropped: list[list[int]] = [[] for _ in self.steps]
        for slot, index in last.items():
            if slot not in kept:
                dropped[index].append(slot)
        return Program(tuple(self.steps), tuple(map(tuple, dropped)))

    def _layer(self, node: fx.Node) -> bool:
        """Append a layer with a weight, and the norm after it."""
        module = self._module(node)
        if module is None or len(node.args) != 1 or node.kwargs:
            return False
        norm, after, kind = None, self._only_user(node), plain_type(module)
        if kind is nn.Linear:
            rule: Layer = Linear()
        elif isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
            if module.groups > 1 or isinstance(module.padding, str):
                return False
            rule = Convolution(module.stride, module.padding, module.dilation)
        elif kind in NORMS:
            rule, norm, module = Scale(), module, nn.Identity()
        else:
            return False
        # The norm's channels are the layer's outputs: not of a linear layer on tokens.
        channels = len(self.shape[node.name]) == (2 if kind is nn.Linear else 4)
        found = None if after is None or norm else self._module(after)
        if channels and after is not None and plain_type(found) in NORMS:
            norm = found
            self.slots[after] = len(self.steps) + 1
        weights = Weights(
            weight=self._name(module, "weight"),
            bias=self._name(module, "bias"),
            mean=self._name(norm, "running_mean"),
            var=self._name(norm, "running_var"),
            gamma=self._name(norm, "weight"),
            beta=self._name(norm, "bias"),
            eps=getattr(norm, "eps", 0.0),
        )
        return self._append(node, rule, [node.args[0]], weights)

    def _length(self, node: fx.Node) -> bool:
        """Note the number of examples, ``x.size(0)`` or ``x.shape[0]``."""
        if node.op == "call_module" or not node.args:
            return False
        of, *rest = node.args
        size, item = node.target == "size", node.target is operator.getitem
        if (size and not rest) or (node.target is getattr and rest == ["shape"]):
            self.shapes.add(node)
        elif rest == [0] and (size or (item and of in self.shapes)):
            self.lengths.add(node)
        else:
            return False
        return True

    def _link(self, node: fx.Node) -> bool:
        """Append a link, or let the node stand for its input."""
        called: Any = self._module(node) or node.target
        if not node.args:
            return False
        rest: list[Any] = list(node.args)
        first = rest.pop(0)
        options: dict[str, Any] = {**node.kwargs}
        options.pop("inplace", None)
        if called is torch.cat:
            axis: Any = options.get("dim", rest[0] if rest else 0)
            return bool(axis == 1) and self._append(node, Joined(), list(first))
        if called is dropout and options.get("training") is False:
            return self._stands_for(node, first)
        if called is max_pool2d and not options.pop("return_indices", False):
            pool = nn.MaxPool2d(*rest, **options)
            return self._append(node, _max_pool(pool), [first])
        if called in _MEAN:
            function = getattr(torch, called) if isinstance(called, str) else called
            return self._append(
                node, FixedLinear(_Bound(function, rest, options)), [first]
            )
        if options:
            return False
        if called in ("view", "reshape"):
            number, *sizes = rest[0] if isinstance(rest[0], tuple) else rest
            same = number == -1 or number in self.lengths
            function = _Bound(_reshape, sizes)
            return same and self._append(node, FixedLinear(function), [first])
        if type(called) in (nn.Identity, nn.Dropout, nn.Dropout2d):
            return self._stands_for(node, first)
        if called in _SUM:
            alike = self._alike(first, *rest)
            return alike and self._append(node, Add(), [first, *rest])
        if type(called) is nn.ReLU or called in _RELU:
            return self._append(node, ReLU(), [first])
        if type(called) is nn.MaxPool2d and not called.return_indices:
            return self._append(node, _max_pool(called), [first])
        if type(called) in (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten):
            return self._append(node, FixedLinear(called), [first])
        return False

    def _alike(self, *nodes: Any) -> bool:
        """Whether these are two of one shape, so that nothing is broadcast."""
        known = [self.shape.get(n.name) for n in nodes if isinstance(n, fx.Node)]
        return len(nodes) == len(known) == 2 and known[0] == known[1] is not None

    def _append(
        self,
        node: fx.Node,
        rule: Layer | Activation,
        args: list[Any],
        weights: Weights | None = None,
    ) -> bool:
        if not all(isinstance(arg, fx.Node) and arg in self.slots for arg in args):
            return False
        reads = tuple(self.slots[arg] for arg in args)
        live = tuple(self.live[slot] for slot in reads)
        self.live.append(any(live) or weights is not None)
        self.steps.append(Step(rule, reads, live, weights))
        self.slots[node] = len(self.steps)
        return True

    def _stands_for(self, node: fx.Node, first: Any) -> bool:
        """Let the node be what it read."""
        if first not in self.slots:
            return False
        self.slots[node] = self.slots[first]
        return True

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def _only_user(self, node: fx.Node) -> fx.Node | None:
        return next(iter(node.users)) if len(node.users) == 1 else None

    def _name(self, module: nn.Module | None, attribute: str) -> str | None:
        tensor = getattr(module, attribute, None)
        return None if tensor is None else self.names[id(tensor)]


@dataclass(frozen=True, slots=True)
class _Bound:
    """A function with its further arguments."""

    function: Callable[..., Tensor]
    rest: Sequence[Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.rest, **self.options)


def _reshape(x: Tensor, *sizes: int) -> Tensor:
    """Each example in another shape."""
    return x.reshape(len(x), *sizes)


def _max_pool(pool: nn.MaxPool2d) -> MaxPool:
    window = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return MaxPool((*map(_pair, window), pool.ceil_mode))


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)
