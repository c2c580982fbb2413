"""What a pass through a network depends on besides its weights and inputs."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.linalg.precision import full_precision

_CONTAINERS = frozenset((dict, OrderedDict, defaultdict, list, set, deque))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and full precision inside; the network as it was again outside.

    The training flags are set, not ``model.eval()`` called: that may merge weights, as
    some adapters do. What a pass leaves behind is undone: buffers, attributes such as
    caches, and the random state. Attention is taken by its formula, since fused kernels
    know no forward mode and no second derivative; compiled modules run as they were
    written.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    modules = list(model.modules())
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        stack.enter_context(random_state())
        stack.enter_context(same_attributes(modules))
        restore_buffers = _buffers(model)
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        modes = [module.training for module in modules]
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            restore_buffers()


@contextmanager
def same_attributes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Outside, the modules' attributes are as before, and what their lists hold.

    For each pass: what one keeps for the next was perhaps made without a graph.
    """
    undo = [_attributes(module) for module in modules]
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

    def set(self) -> None:
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
        before.set()


def _buffers(model: nn.Module) -> Callable[[], None]:
    """Copies of the buffers; calling the result puts back what has changed."""
    before = [(b, b.detach().clone()) for b in model.buffers() if not b.is_meta]

    def restore() -> None:
        with torch.no_grad():
            for buffer, copy in before:
                if not same_bits(buffer, copy):
                    buffer.copy_(copy)

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


def _attributes(module: nn.Module) -> Callable[[], None]:
    """The attributes of a module, and what its lists and dictionaries hold."""
    if isinstance(module, torch.jit.ScriptModule):
        return lambda: None
    own = vars(module)
    before = dict(own)
    held = [v for v in own.values() if type(v) in _CONTAINERS]
    inner = [(v, v.copy() if v else None) for v in held]  # most are empty
    # isinstance asks a metaclass of torch's, for every attribute
    sources = [v for v in own.values() if torch.Generator in type(v).__mro__]
    states = [source.get_state() for source in sources]

    def restore() -> None:
        if not _same_items(own, before):
            own.clear()
            own.update(before)
        for source, state in zip(sources, states, strict=True):
            source.set_state(state)
        for container, copy in inner:
            if copy is None:
                if container:
                    container.clear()
            elif not _same_items(container, copy):
                _refill(container, copy)

    return restore


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
