"""Weights made of other numbers, shared, frozen or chosen: LoRA, pruning, tying."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, parametrize, prune

from tests.zoo.case import Situation, case, family, labels, mlp, vectors
from tests.zoo.forwards import Net


class LoraLinear(nn.Module):
    """A frozen layer and an adapter."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(2, base.in_features))
        self.B = nn.Parameter(torch.randn(base.out_features, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.A), self.B) * 0.5


@case(measured=True)
def lora() -> Situation:
    model = mlp()
    model[0] = LoraLinear(model[0])
    return Situation(model, vectors())


@case()
def lora_by_a_replaced_forward() -> Situation:
    model = mlp()
    layer = model[0]
    layer.A, layer.B = (
        nn.Parameter(torch.randn(2, 4)),
        nn.Parameter(torch.randn(5, 2)),
    )
    old = layer.forward
    layer.forward = lambda x: old(x) + x @ layer.A.T @ layer.B.T
    return Situation(model, vectors())


class Merging(nn.Linear):
    """As loralib: eval() adds the adapter to the weight, train() takes it away."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.A = nn.Parameter(torch.randn(2, self.in_features))
        self.B = nn.Parameter(torch.randn(self.out_features, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.B @ self.A).data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.A.T @ self.B.T


@case(expect="refused")
def lora_merged_by_eval() -> Situation:
    """In train mode and after eval() it is not one function of its parameters."""
    return Situation(nn.Sequential(Merging(4, 5), *list(mlp())[1:]), vectors())


@case()
def lora_merged_already() -> Situation:
    return Situation(nn.Sequential(Merging(4, 5), *list(mlp())[1:]).eval(), vectors())


@case()
def pruned() -> Situation:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", 0.4)
    prune.ln_structured(model[2], "weight", 0.3, n=2, dim=0)
    return Situation(model, vectors())


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).T


class Moving(nn.Module):
    """Its buffer counts how often the weight was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("looked", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.looked += 1
        return x.tanh()


class MovingValue(Moving):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.01 * self.looked)


def _spectral() -> nn.Module:
    model = mlp()
    parametrizations.spectral_norm(model[0])
    with torch.no_grad():  # as after a step of training
        weight = model[0].parametrizations.weight.original
        weight.add_(torch.randn_like(weight))
    return model.train()


def _old_spectral() -> nn.Module:
    model = mlp()
    nn.utils.spectral_norm(model[0])
    with torch.no_grad():
        model[0].weight_orig.add_(torch.randn(5, 4))
    return model.train()


def _parametrized(*forms: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), *mlp())
    for form in forms:
        parametrize.register_parametrization(model[0], "weight", form)
    return model


def _orthogonal() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), *mlp())
    parametrizations.orthogonal(model[0], orthogonal_map="cayley")
    with torch.no_grad():
        model[0].parametrizations.weight.original.add_(0.2 * torch.randn(4, 4))
    return model


family(
    {
        "weight_norm": lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Linear(4, 5)), *list(mlp())[1:]
        ),
        "old_weight_norm": lambda: nn.Sequential(
            nn.utils.weight_norm(nn.Linear(4, 5)), *list(mlp())[1:]
        ),
    },
    vectors,
)


family(
    {
        "spectral_norm_in_train_mode": _spectral,
        "old_spectral_norm_in_train_mode": _old_spectral,
        "orthogonal_weight": _orthogonal,
        "symmetric_weight": lambda: _parametrized(Symmetric()),
        "two_parametrizations": lambda: _parametrized(Symmetric(), Moving()),
    },
    vectors,
)


@case(expect="refused")
def parametrization_that_moves() -> Situation:
    return Situation(_parametrized(MovingValue()), vectors())


class Shares(Net):
    """A parameter that is a buffer too, and one that also lies in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shared", self.a.weight)
        self.listed = [self.o.weight]

    def between(self, h: Tensor) -> Tensor:
        return h @ self.shared @ self.shared.T + h @ self.listed[0].T @ self.o.weight


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 5)
        self.b.weight = self.a.weight
        self.o = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(self.b(x).tanh(), self.a.weight.T)
        return self.o(self.a(h).tanh())


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.left_out, self.alone = nn.Linear(2, 2), nn.Parameter(torch.randn(3))


class Twice(nn.Module):
    """One layer under two names, called under both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again, self.o = self.first, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.again(self.first(x).tanh()).tanh())


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterList(torch.randn(4, 4) for _ in range(2))
        self.d = nn.ParameterDict({"o": torch.randn(3, 4)})

    def forward(self, x: Tensor) -> Tensor:
        for w in self.w:
            x = (x @ w).tanh()
        return x @ self.d["o"].T


class Whole(Net):
    """A parameter of whole numbers, as quantised networks have."""

    def __init__(self) -> None:
        super().__init__()
        bins = torch.arange(5)
        self.order = nn.Parameter(bins.flip(0), requires_grad=False)

    def between(self, h: Tensor) -> Tensor:
        return h[:, self.order]


family(
    {
        "shared_with_a_buffer_and_a_list": Shares,
        "tied_and_transposed": Tied,
        "parameters_unused": Unused,
        "one_layer_under_two_names": Twice,
        "lists_of_parameters": Lists,
        "a_parameter_of_whole_numbers": Whole,
    },
    vectors,
)


@case(expect="refused")
def frozen() -> Situation:
    return Situation(mlp().requires_grad_(False), vectors())


@case(expect="refused")
def complex_weights() -> Situation:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))

        def forward(self, x: Tensor) -> Tensor:
            return (x.to(self.w.dtype) @ self.w).abs()

    return Situation(Complex(), vectors())


@case()
def partly_frozen_with_gradients_kept() -> Situation:
    model, (x, y) = mlp(), vectors()
    F.cross_entropy(model(x), y).backward()
    model[0].weight.requires_grad_(False)
    return Situation(model, (x, y))


@case()
def dropout_and_mixed_modes() -> Situation:
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(), nn.Linear(5, 3)
    )
    model[1].eval()
    return Situation(model, vectors())


@case()
def parameters_by_a_glob() -> Situation:
    return Situation(mlp(), vectors(), {"parameters": "2.*"})


@case()
def parameters_by_several_globs() -> Situation:
    return Situation(mlp(), vectors(), {"parameters": ["2.*", "0.bias"]})


@case(expect="refused")
def parameters_that_do_not_exist() -> Situation:
    return Situation(mlp(), vectors(), {"parameters": "layer4.*"})


@case(expect="either")
def weights_of_two_precisions() -> Situation:
    class Two(Net):
        def between(self, h: Tensor) -> Tensor:
            return h.float()

    model = Two()
    model.o.float()
    return Situation(model, (vectors()[0], labels()))


@case(expect="refused")
def weights_that_are_not_numbers() -> Situation:
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    return Situation(model, vectors())


@case(around=parametrize.cached)
def parametrization_kept_by_torch() -> Situation:
    return Situation(_orthogonal(), vectors())


@case(entries=("operators",))
def weight_norm_behind_a_tensor_hook() -> Situation:
    """Forward mode does not see the hook, and torch's second derivative is wrong."""

    class Hooked(Net):
        def between(self, h: Tensor) -> Tensor:
            h = h * 1.0
            if h.requires_grad:
                h.register_hook(lambda g: 1.5 * g)
            return h

    model = Hooked()
    parametrizations.weight_norm(model.o)
    return Situation(model, vectors())
