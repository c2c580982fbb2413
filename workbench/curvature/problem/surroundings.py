"""What a pass through a network depends on besides its weights and inputs."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import is_
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from workbench.linalg.precision import full_precision

_CONTAINERS = frozenset((dict, OrderedDict, defaultdict, list, set, deque))
_LARGE = 2**24  # numbers of a tensor, no buffer, that is taken for data: none writes
_DEPTH = 3  # of containers in containers that a network may keep something in


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and full precision inside; the network as it was again outside.

    The training flags are set, not ``model.eval()`` called: that may merge weights, as
    some adapters do. What a pass leaves behind is undone: buffers, attributes such as
    caches, which weights ask for a gradient, and the random state; what
    `parametrize.cached` keeps is not used. Attention is taken by its formula, since
    fused kernels know no forward mode and no second derivative; compiled modules run
    as they were written.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    modules = list(model.modules())
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        stack.enter_context(random_state())
        stack.enter_context(same_attributes(modules))
        stack.enter_context(_parametrized_anew())
        restore_tensors = _tensors(modules)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and it is large
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        modes = [module.training for module in modules]
        trained = [(p, p.requires_grad) for p in model.parameters()]
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for parameter, asks in trained:
                if parameter.requires_grad != asks:
                    parameter.requires_grad = asks
            restore_tensors()


@contextmanager
def _parametrized_anew() -> Iterator[None]:
    """Inside, weights are made of their parameters in each pass."""
    before = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = before


@contextmanager
def same_attributes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Outside, the modules' attributes are as before, and what their lists hold.

    For each pass: what one keeps for the next was perhaps made without a graph.
    """
    known: set[int] = set()
    undo = [_attributes(module, known) for module in modules]
    try:
        yield
    finally:
        for restore in undo:
            restore()


@dataclass(frozen=True, slots=True, eq=False)
class RandomState:
    """Of the random numbers of torch, NumPy and Python."""

    python: Any
    numpy: Any
    torch: Tensor
    devices: list[Tensor]

    @staticmethod
    def now() -> RandomState:
        """As it is."""
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        return RandomState(
            python=random.getstate(),
            numpy=np.random.get_state(),
            torch=torch.get_rng_state(),
            devices=torch.cuda.get_rng_state_all() if cuda else [],
        )

    def restore(self) -> None:
        """Go on from here."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)


@contextmanager
def random_state() -> Iterator[None]:
    """Outside, the random numbers of torch, NumPy and Python go on as if unused."""
    before = RandomState.now()
    try:
        yield
    finally:
        before.restore()


def _tensors(modules: Iterable[nn.Module]) -> Callable[[], None]:
    """Copies of buffers, other tensors and arrays, and sources of random numbers.

    Calling the result puts back what has changed, in place.
    """
    found: dict[int, Tensor] = {}
    arrays: dict[int, np.ndarray[Any, Any]] = {}
    sources: list[Source] = []
    own: set[int] = set()
    buffers: set[int] = set()
    for module in modules:
        own |= {id(p) for p in module._parameters.values()}
        held = {id(b): b for b in module._buffers.values() if b is not None}
        found |= held
        buffers |= held.keys()
        if not isinstance(module, torch.jit.ScriptModule):
            for container in (vars(module), *_held(vars(module), set())):
                for value in _values(container):
                    if isinstance(value, Tensor) and value.grad_fn is None:
                        found[id(value)] = value
                    elif isinstance(value, np.ndarray):
                        arrays[id(value)] = value
                    elif Source.knows(value):
                        sources.append(Source.of(value))
    before = [
        (t, t.detach().clone())
        for t in found.values()
        if id(t) not in own and not t.is_meta and t.layout == torch.strided
        if t.numel() <= _LARGE or id(t) in buffers
    ]
    copies = [(array, array.copy()) for array in arrays.values()]

    def restore() -> None:
        with torch.no_grad():
            for tensor, copy in before:
                if tensor.grad_fn is not None and not tensor._is_view():
                    tensor.detach_()  # numbers with a graph were written to it
                if not same_bits(tensor, copy):
                    tensor.copy_(copy)
        for source in sources[::-1]:
            source.restore()
        for array, kept in copies:
            if array.tobytes() != kept.tobytes():
                array[...] = kept

    return restore


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other):
        return True
    return one.is_floating_point() and torch.equal(
        one.detach().nan_to_num(), other.detach().nan_to_num()
    )


def _attributes(module: nn.Module, known: set[int]) -> Callable[[], None]:
    """The attributes of a module, and what its containers and objects hold."""
    if isinstance(module, torch.jit.ScriptModule):
        return lambda: None
    own = vars(module)
    before = dict(own)
    # most are empty
    inner = [(held, held.copy() if held else None) for held in _held(own, known)]

    def restore() -> None:
        if not _same_items(own, before):
            own.clear()
            own.update(before)
        for container, copy in inner:
            if copy is None:
                if container:
                    container.clear()
            elif not _same_items(container, copy):
                _refill(container, copy)

    return restore


def _held(own: Any, known: set[int], depth: int = _DEPTH) -> Iterator[Any]:
    """The containers in a container, and the attributes of plain objects in it.

    Each once: ``known`` has the ids of those that were seen.
    """
    for value in _values(own):
        if type(value) in _CONTAINERS:
            held = value
        elif depth == _DEPTH and _is_plain(value):
            held = vars(value)
        else:
            continue
        if id(held) not in known:
            known.add(id(held))
            yield held
            if depth > 1:
                yield from _held(held, known, depth - 1)


def _values(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def _is_plain(value: Any) -> bool:
    """Whether this is an object of somebody's own class, with attributes."""
    if isinstance(value, (nn.Module, Tensor, type, ModuleType, FunctionType)):
        return False
    return type(getattr(value, "__dict__", None)) is dict


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A source of random numbers, and where it was."""

    source: Any
    state: Any

    @staticmethod
    def knows(value: Any) -> bool:
        """Whether this is one."""
        kinds = (torch.Generator, np.random.Generator, np.random.RandomState)
        return isinstance(value, (*kinds, random.Random))

    @staticmethod
    def of(source: Any) -> Source:
        """As it is."""
        if isinstance(source, np.random.Generator):
            return Source(source, source.bit_generator.state)
        if isinstance(source, random.Random):
            return Source(source, source.getstate())
        return Source(source, source.get_state())

    def restore(self) -> None:
        """Go on from here."""
        if isinstance(self.source, np.random.Generator):
            self.source.bit_generator.state = self.state
        elif isinstance(self.source, random.Random):
            self.source.setstate(self.state)
        else:
            self.source.set_state(self.state)


def _same_items(one: Any, other: Any) -> bool:
    """Whether two containers of one type hold the same objects in the same order."""
    if len(one) != len(other):
        return False
    if isinstance(one, set):
        return bool(one == other)
    if isinstance(one, dict) and not all(map(is_, one.values(), other.values())):
        return False
    return all(map(is_, one, other))


def _refill(container: Any, copy: Any) -> None:
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(copy)
    else:
        container.extend(copy)
