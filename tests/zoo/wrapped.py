"""Networks inside something: checkpointing, compilers, wrappers; lazy and empty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.zoo.case import Call, Situation, case, mlp, vectors
from tests.zoo.forwards import Net


class Checkpointed(Net):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(lambda t: self.a(t).tanh(), x, use_reentrant=self.reentrant)
        return self.o(h)


@case()
def checkpointed() -> Situation:
    return Situation(Checkpointed(False), vectors())


@case(expect="either")
def checkpointed_in_the_old_way() -> Situation:
    """With an input that asks for a gradient, or it would train nothing."""

    class Old(Checkpointed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach().requires_grad_())

    model, truth = Old(True), Net()
    truth.load_state_dict(model.state_dict())
    return Situation(model, vectors(), truth=truth)


@case()
def scripted() -> Situation:
    model = mlp()
    return Situation(torch.jit.script(model), vectors(), truth=model)


@case()
def traced() -> Situation:
    model, (x, y) = mlp().eval(), vectors()
    return Situation(torch.jit.trace(model, x[:2]), (x, y), truth=model)


@case()
def symbolically_traced() -> Situation:
    model = mlp()
    return Situation(torch.fx.symbolic_trace(model), vectors(), truth=model)


@case()
def compiled() -> Situation:
    model = mlp()
    return Situation(torch.compile(model, backend="eager"), vectors(), truth=model)


@case()
def compiled_inside() -> Situation:
    model = mlp()
    inner = torch.compile(nn.Sequential(*model[:2]), backend="eager")
    return Situation(nn.Sequential(inner, model[2]), vectors(), truth=model)


@case(hess="either")
def compiled_with_its_own_backward() -> Situation:
    """aot_autograd's backward pass cannot be differentiated."""
    model = mlp()
    return Situation(torch.compile(model, backend="aot_eager"), vectors(), truth=model)


@case()
def averaged() -> Situation:
    model = torch.optim.swa_utils.AveragedModel(mlp())
    model.update_parameters(mlp())
    model.update_parameters(mlp())
    return Situation(model, vectors())


@case()
def data_parallel() -> Situation:
    return Situation(nn.DataParallel(mlp()), vectors())


@case(expect="refused")
def lazy() -> Situation:
    layers = nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3)
    return Situation(nn.Sequential(*layers), vectors())


@case()
def lazy_and_made() -> Situation:
    model = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3))
    model(vectors()[0])
    return Situation(model, vectors())


@case(expect="refused")
def without_weights() -> Situation:
    with torch.device("meta"):
        model = mlp()
    return Situation(model, vectors())


class Delegates(nn.Module):
    """Answers for the network inside it, and does something more."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.inner(x)


def _tripled(model: nn.Module) -> nn.Module:
    return nn.Sequential(model, Call(lambda f: 3 * f))


@case()
def wrapper_that_answers_for_a_compiled_network() -> Situation:
    model = mlp()
    inner = torch.compile(model, backend="eager")
    return Situation(Delegates(inner), vectors(), truth=_tripled(model))


@case()
def data_parallel_with_more_in_it() -> Situation:
    class Parallel(nn.DataParallel):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * super().forward(x)

    return Situation(Parallel(mlp()), vectors())


@case()
def data_parallel_with_its_forward_replaced() -> Situation:
    model = nn.DataParallel(mlp())
    old = model.forward
    model.forward = lambda x: 3 * old(x)
    return Situation(model, vectors())


@case()
def scripted_inside() -> Situation:
    model = mlp()
    inner = torch.jit.script(nn.Sequential(*model[:2]))
    return Situation(nn.Sequential(inner, model[2]), vectors(), truth=model)


FEW = ("operators", "gram")


@case(entries=FEW)
def vmap_inside() -> Situation:
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.func.vmap(lambda w: (x @ w).tanh())(self.w).mean(0)

    return Situation(Ensemble(), vectors())


@case(entries=FEW)
def called_with_other_weights_inside() -> Situation:
    class Calls(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: Tensor) -> Tensor:
            other = {n: 1.5 * p for n, p in self.inner.named_parameters()}
            called = torch.func.functional_call(self.inner, other, (x,))
            return called + super().forward(x)

    return Situation(Calls(), vectors())


@torch.library.custom_op("zoo::half_tanh", mutates_args=())
def half_tanh(x: Tensor) -> Tensor:
    return 0.5 * x.tanh()


half_tanh.register_autograd(
    lambda ctx, grad: grad * (0.5 - 2 * ctx.saved_tensors[0] ** 2),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


@case(entries=FEW)
def operation_of_a_library() -> Situation:
    return Situation(mlp(Call(half_tanh)), vectors())


@case(expect="refused", entries=FEW)
def forward_under_no_grad() -> Situation:
    class Frozen(Net):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return Situation(Frozen(), vectors())


@case(expect="refused", entries=FEW)
def forward_in_inference_mode() -> Situation:
    class Frozen(Net):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return Situation(Frozen(), vectors())
