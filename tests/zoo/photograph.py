"""Everything of the user's that a call must leave as it was, as comparable values."""

from __future__ import annotations

import random
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tests.zoo.case import Situation

OWN = {"_parameters", "_buffers", "_modules"}
# What torch keeps there by itself: dynamo's bookkeeping of compiled modules.
TORCHS = {"_compiled_call_impl", "dynamo_ctx", "_torchdynamo_orig_callable"}


def photograph(situation: Situation) -> dict[str, object]:
    """Network, data and surroundings, bit for bit."""
    found = surroundings()
    if isinstance(situation.model, nn.Module):
        found |= network(situation.model)
    for i, leaf in enumerate(tree_leaves((situation.data, situation.watch))):
        if isinstance(leaf, Tensor):
            found[f"data, tensor {i}"] = describe(leaf)
    return found


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of what is no longer as it was."""
    names = dict.fromkeys([*before, *after])
    return [name for name in names if before.get(name) != after.get(name)]


def surroundings() -> dict[str, object]:
    """Random states, and what can be switched in torch."""
    state = np.random.get_state()
    return {
        "torch's random state": bits(torch.get_rng_state()),
        "numpy's random state": (state[0], state[1].tobytes(), state[2:]),
        "Python's random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradients on": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "multithreaded autograd": torch.autograd.is_multithreading_enabled(),
    }


def network(model: nn.Module) -> dict[str, object]:
    """Weights, gradients, flags, hooks and attributes of every module."""
    found: dict[str, object] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        grad = None if p.grad is None else (id(p.grad), describe(p.grad))
        found[f"parameter {name}"] = (id(p), describe(p), p.requires_grad, grad)
        found[f"hooks of {name}"] = tuple(p._backward_hooks or ())
    for name, b in model.named_buffers(remove_duplicate=False):
        found[f"buffer {name}"] = (id(b), describe(b), b.requires_grad)
    for name, module in model.named_modules(remove_duplicate=False):
        found[f"module {name}"] = (id(module), type(module), module.training)
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for key, value in vars(module).items():
            if key not in OWN | TORCHS:
                found[f"attribute {name}.{key}"] = describe(value)
    return found


def describe(value: Any, depth: int = 3) -> object:
    """A value that is equal where the thing has not changed."""
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, weakref.ref):
        return id(value())
    if isinstance(value, torch.Generator):
        return bits(value.get_state())
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.dtype)):
        return repr(value)
    if depth and isinstance(value, Mapping):
        return [(repr(k), describe(v, depth - 1)) for k, v in value.items()]
    if depth and isinstance(value, (list, tuple)):
        return [describe(v, depth - 1) for v in value]
    return id(value)


def bits(tensor: Tensor) -> object:
    """Type, layout and content."""
    head = (type(tensor).__name__, tensor.dtype, tensor.device.type)
    if torch.nn.parameter.is_lazy(tensor):
        return head
    head = (*head, tuple(tensor.shape))
    if tensor.is_meta or tensor.layout != torch.strided:
        return head
    with torch.no_grad():
        flat = tensor.detach().contiguous().reshape(-1)
        if flat.is_complex():
            flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
        return (*head, tensor.stride(), bytes(flat.view(torch.uint8).tolist()))
