"""Hooks of all kinds, and functions with a derivative of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Call, Situation, case, family, mlp, vectors
from tests.zoo.forwards import Net


def hooked(model: nn.Module, *arguments: Any, kind: str = "forward_hook") -> nn.Module:
    """The first layer with a hook."""
    getattr(model[0], f"register_{kind}")(*arguments)  # type: ignore[index]
    return model


SEEN: list[Any] = []
family(
    {
        "hook_that_triples_an_output": lambda: hooked(mlp(), lambda m, a, out: 3 * out),
        "hook_on_what_comes_in": lambda: hooked(
            mlp(), lambda m, a: (a[0].sin(),), kind="forward_pre_hook"
        ),
        "hook_that_looks": lambda: hooked(
            mlp(), lambda m, a, out: SEEN.__setitem__(slice(None), [out])
        ),
    },
    vectors,
    measured=("hook_that_triples_an_output",),
)


def _deeper(kind: str, *hook: Any) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), *mlp())
    getattr(model[2], f"register_{kind}")(*hook)
    return model


family(
    {
        "backward_hook_on_what_leaves": lambda: _deeper(
            "full_backward_hook", lambda m, into, out: (2 * into[0],)
        ),
        "backward_hook_on_what_comes": lambda: _deeper(
            "full_backward_pre_hook", lambda m, out: (2 * out[0],)
        ),
        "backward_hook_that_looks": lambda: _deeper(
            "full_backward_hook", lambda m, into, out: None
        ),
    },
    vectors,
)


class Scaled(Net):
    """A tensor hook in forward: gradients are doubled on the way."""

    def between(self, h: Tensor) -> Tensor:
        if h.requires_grad:
            h.register_hook(lambda g: 2 * g)
        return h * 1.5


class Clipped(Net):
    """A tensor hook that is not linear: there is no Jacobian."""

    def between(self, h: Tensor) -> Tensor:
        if h.requires_grad:
            h.register_hook(lambda g: g.clamp(-0.01, 0.01))
        return h * 1.5


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return -grad


class Tanh(torch.autograd.Function):
    """Right and twice differentiable, without forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class ForwardTanh(Tanh):
    """With forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)
        return y

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return tangent * (1 - y * y)


class WrongForwardTanh(ForwardTanh):
    """With a forward mode that does not agree with its backward."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # type: ignore[override]
        return 1.1 * ForwardTanh.jvp(ctx, tangent)


class Once(Tanh):
    """Its backward pass cannot be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class NumpyBackward(Tanh):
    """Leaves torch on the way back, and does not say so."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return grad * torch.from_numpy(1 - y.detach().numpy() ** 2)


class Setup(torch.autograd.Function):
    """In the newer style, with a rule for vmap."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return x.tanh()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class SignThrough(torch.autograd.Function):
    """Binary activations, straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


def _function(function: Any) -> Any:
    return lambda: mlp(Call(function.apply))


family(
    {
        "tensor_hook_in_forward": Scaled,
        "gradient_reversed": _function(Reversal),
        "function_without_forward_mode": _function(Tanh),
        "function_with_forward_mode": _function(ForwardTanh),
        "function_with_a_wrong_forward_mode": _function(WrongForwardTanh),
        "function_in_the_newer_style": _function(Setup),
        "signs_straight_through": _function(SignThrough),
    },
    vectors,
)


@case(expect="refused")
def tensor_hook_that_clips() -> Situation:
    return Situation(Clipped(), vectors())


@case(hess="either", hess_tol=1e-5)
def function_differentiable_once() -> Situation:
    model = mlp(Call(Once.apply))
    return Situation(
        model, vectors(), truth=nn.Sequential(model[0], nn.Tanh(), model[2])
    )


@case(hess="either", hess_tol=1e-5)
def function_that_leaves_torch() -> Situation:
    model = mlp(Call(NumpyBackward.apply))
    return Situation(
        model, vectors(), truth=nn.Sequential(model[0], nn.Tanh(), model[2])
    )


@case()
def gradient_mask_on_a_parameter() -> Situation:
    model, mask = mlp(), (torch.rand(5, 4) > 0.5).double()
    model[0].weight.register_hook(lambda g: g * mask)
    return Situation(model, vectors())


@case()
def hook_after_gradients_are_added_up() -> Situation:
    model = mlp()

    def forget(p: Tensor) -> None:
        p.grad = None

    model[0].weight.register_post_accumulate_grad_hook(forget)
    return Situation(model, vectors())


@case()
def forward_of_the_instance_replaced() -> Situation:
    model = mlp()
    old = model[0].forward
    model[0].forward = lambda t: 3 * old(t)
    return Situation(model, vectors())


@case()
def hook_on_the_whole_network() -> Situation:
    model = mlp()
    model.register_forward_hook(lambda m, a, out: out * out.tanh())
    return Situation(model, vectors())
