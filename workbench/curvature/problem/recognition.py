"""Whether a layer does what its type says, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import module as hooked

NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
KNOWN: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d, *NORMS)
# As torch has them; a program may replace them on the class later.
FORWARD: dict[type[nn.Module], Callable[..., Any]] = {t: t.forward for t in KNOWN}


def is_altered(module: nn.Module) -> bool:
    """Whether a call of the module does more than its class's forward."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        hooked._global_forward_hooks,
        hooked._global_forward_pre_hooks,
        hooked._global_backward_hooks,
        hooked._global_backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


def plain_type(module: nn.Module | None) -> type[nn.Module] | None:
    """The type of a layer that is known here; None where it may do anything else.

    Known are linear layers, two-dimensional convolutions with zeros around the image,
    and batch norm with running statistics, with weights that are parameters of their
    own: not a subclass, nor what a hook, a parametrization or a program has changed.
    """
    kind = type(module)
    if module is None or kind not in FORWARD or is_altered(module):
        return None
    if kind.forward is not FORWARD[kind]:
        return None
    if any(getattr(module, name, None) is not p for name, p in _own(module).items()):
        return None
    if not set(_own(module)) <= {"weight", "bias"}:
        return None
    if isinstance(module, nn.Conv2d):
        zeros = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return kind if zeros else None
    if kind in NORMS and getattr(module, "running_mean", None) is None:
        return None
    return kind


def _own(module: nn.Module) -> dict[str, nn.Parameter | None]:
    return {name: p for name, p in module._parameters.items() if p is not None}
