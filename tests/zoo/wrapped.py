"""Networks inside something: checkpointing, compilers, wrappers; lazy and empty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.zoo.case import Situation, case, mlp, vectors
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
