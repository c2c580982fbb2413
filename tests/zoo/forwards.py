"""Unusual forward passes: routing, mixing, stopped gradients, caches, randomness."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tests.zoo.case import Call, Situation, case, family, images, labels, mlp, vectors


class Net(nn.Module):
    """Two linear layers, for subclasses that do something in between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.between(torch.tanh(self.a(x))))

    def between(self, h: Tensor) -> Tensor:
        return h


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = (
            nn.Parameter(torch.randn(4, 3, 2)),
            nn.Parameter(torch.randn(5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.einsum("bi,ijk->bjk", x, self.u).tanh()
        return torch.einsum("bjk,l->bj", h, self.v) + h.sum(2)


class Mixture(nn.Module):
    """Each example goes to one expert."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.o = nn.Linear(4, 3), nn.Linear(5, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).softmax(1)
        best, which = scores.max(1)
        h = x.new_zeros(len(x), 5)
        for number, expert in enumerate(self.experts):
            mine = which == number
            h[mine] = expert(x[mine]).tanh() * best[mine, None]
        return self.o(h)


class HyperNetwork(nn.Module):
    """The weights of a layer are made of each example."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.o = nn.Linear(4, 8), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.make(x).tanh().view(-1, 2, 4)
        return self.o(torch.bmm(w, x[:, :, None])[:, :, 0])


class Sorted(Net):
    """The batch sorted for one layer, and back again."""

    def forward(self, x: Tensor) -> Tensor:
        order = x.norm(dim=1).argsort(descending=True)
        h = torch.tanh(self.a(x[order]))
        return self.o(h[order.argsort()])


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Bilinear(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x, x.tanh())


class ZeroDim(Net):
    """A temperature and a gate without an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.gate = (nn.Parameter(torch.tensor(v)) for v in (1.5, 0.3))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale + self.gate.tanh() * x[:, :3]


class Branch(Net):
    """A path in Python that does not depend on the data."""

    def between(self, h: Tensor) -> Tensor:
        for turn in range(3):
            if turn % 2 == 0:
                h = h + torch.tanh(h)
        return h


family(
    {
        "einsum": Einsum,
        "mixture_of_experts": Mixture,
        "weights_made_by_a_network": HyperNetwork,
        "batch_sorted_inside": Sorted,
        "bilinear": Bilinear,
        "parameters_without_an_axis": ZeroDim,
        "a_loop_in_python": Branch,
    },
    vectors,
    measured=(
        "mixture_of_experts",
        "batch_sorted_inside",
        "parameters_without_an_axis",
    ),
)


class MeanOfBatch(Net):
    def between(self, h: Tensor) -> Tensor:
        return h - 0.01 * h.mean(0)


class SoftmaxOverBatch(Net):
    def between(self, h: Tensor) -> Tensor:
        return h.softmax(0)


class Reversed(Net):
    def between(self, h: Tensor) -> Tensor:
        return h.flip(0)


class Dropped(Net):
    def between(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.1)


class OwnNoise(Net):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def between(self, h: Tensor) -> Tensor:
        return h + 1e-3 * torch.randn(h.shape, generator=self.generator).to(h)


class NoisePerRow(OwnNoise):
    """The same in each pass, but it depends on the place in the batch."""

    def between(self, h: Tensor) -> Tensor:
        self.generator.manual_seed(1)
        return super().between(h)


class Counting(Net):
    """A buffer that moves in each pass and is used."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def between(self, h: Tensor) -> Tensor:
        self.calls += 1
        return h * (1 + 0.1 * self.calls)


family(
    {
        "mean_of_the_batch_inside": MeanOfBatch,
        "softmax_over_the_batch": SoftmaxOverBatch,
        "batch_reversed": Reversed,
        "dropout_in_eval_mode": Dropped,
        "noise_of_an_own_generator": OwnNoise,
        "noise_by_place_in_the_batch": NoisePerRow,
        "a_buffer_that_moves_and_counts": Counting,
    },
    vectors,
    expect="refused",
)


class FixedNoise(OwnNoise):
    def between(self, h: Tensor) -> Tensor:
        self.generator.manual_seed(1)
        return h + torch.randn(h.shape[1:], generator=self.generator).to(h)


class Reseeding(Net):
    def between(self, h: Tensor) -> Tensor:
        torch.manual_seed(5)
        return h + torch.randn(h.shape[1:]).to(h)


class Counted(Net):
    """Counts its passes, in a buffer and in a number, and uses neither."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.number, self.seen = 0, []

    def between(self, h: Tensor) -> Tensor:
        self.calls += 1
        self.number += 1
        self.seen.append(len(h))
        return h


class Remembers(Net):
    """Keeps what it saw last, with its graph."""

    def between(self, h: Tensor) -> Tensor:
        self.last = h
        return h * 2


class Detached(Net):
    def between(self, h: Tensor) -> Tensor:
        return h + h.detach().sin() * h


class NoGradient(Net):
    def between(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            scale = h.abs().amax(1, keepdim=True)
        return h / (scale + 1)


class Quantised(Net):
    """Vector quantisation, straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(6, 5))

    def between(self, h: Tensor) -> Tensor:
        q = self.codes[torch.cdist(h, self.codes).argmin(1)]
        return h + (q - h).detach()


class NumberOfParameter(Net):
    """A parameter is used as a plain number, so it has no gradient there."""

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor(1.5))

    def between(self, h: Tensor) -> Tensor:
        return h * float(self.t) + self.t * h.square()


class DataOfParameter(Net):
    def between(self, h: Tensor) -> Tensor:
        return h + F.linear(h, self.a.weight.data @ self.a.weight.T)


class GradientInside(nn.Module):
    """A score: the gradient of an energy in the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.o(torch.tanh(self.a(x))).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]


@case(but={"class_means": "either"})
def gradient_of_an_energy() -> Situation:
    return Situation(GradientInside(), vectors(8))


family(
    {
        "the_same_noise_always": FixedNoise,
        "seeds_torch_in_forward": Reseeding,
        "counts_its_passes": Counted,
        "remembers_its_activations": Remembers,
        "detached_factor": Detached,
        "scale_under_no_grad": NoGradient,
        "quantised_straight_through": Quantised,
        "number_of_a_parameter": NumberOfParameter,
        "data_of_a_parameter": DataOfParameter,
    },
    vectors,
)


class Normalises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x /= 0.25
        return self.n(x).tanh()


@case(measured=True)
def inputs_normalised_in_place() -> Situation:
    return Situation(Normalises(), vectors())


@case()
def relu_in_place_on_the_input() -> Situation:
    return Situation(nn.Sequential(nn.ReLU(inplace=True), *mlp()), vectors())


@case()
def dictionary_of_inputs_changed() -> Situation:
    class Popping(Net):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            batch["h"] = super().forward(batch.pop("x"))
            return batch["h"]

    x, y = vectors()
    return Situation(Popping(), ({"x": x}, y))


@case()
def bytes_normalised_inside() -> Situation:
    class Bytes(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.uint8
            return super().forward(x.flatten(1).to(self.a.weight.dtype) / 255)

    x = torch.randint(0, 256, (9, 1, 2, 2), dtype=torch.uint8)
    return Situation(Bytes(), (x, labels()))


class Warped(nn.Module):
    """A spatial transformer; torch has no second derivative of grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.c = nn.Linear(36, 6), nn.Conv2d(1, 3, 3)
        self.o = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        theta = 0.1 * self.theta(x.flatten(1)).view(-1, 2, 3)
        theta = theta + torch.eye(2, 3, dtype=x.dtype)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False)
        return self.o(torch.tanh(self.c(x)).mean((2, 3)))


@case(hess="either", hess_oracle="none")
def spatial_transformer() -> Situation:
    return Situation(Warped(), images())


@case(expect="refused")
def infinite_gradient_of_finite_logits() -> Situation:
    """The branch that is not taken is 0 * inf backwards."""

    def root(h: Tensor) -> Tensor:
        return torch.where(h > 0, h.sqrt(), h)

    return Situation(mlp(Call(root)), vectors())


@case(expect="refused")
def logits_that_are_not_finite() -> Situation:
    return Situation(mlp(Call(torch.log)), vectors())


@case(expect="either")
def nothing_depends_on_the_parameters() -> Situation:
    class Constant(Net):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3]

    truth = Net()
    nn.init.zeros_(truth.o.weight)
    truth.between = lambda h: 0 * h  # type: ignore[method-assign]
    truth.o.bias.register_hook(lambda g: 0 * g)
    return Situation(Constant(), vectors(), truth=truth)


@case(expect="refused")
def the_network_raises() -> Situation:
    class Raises(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("something long that a network says\nof itself " * 20)

    return Situation(Raises(), vectors())


@case(expect="refused")
def a_function_instead_of_a_network() -> Situation:
    model: Any = mlp().forward
    return Situation(model, vectors())
