"""What people report as bugs of such tools, where it stands in no other file."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.zoo.case import Call, Situation, case, family, labels, mlp, vectors
from tests.zoo.forwards import Net
from tests.zoo.hooks import Setup, Tanh
from tests.zoo.loaders import Again

FEW = ("operators", "gram")
TEMPERATURE = {"value": 2.0, "passes": 0}


class Cooled(Net):
    """Reads a number of the module around it, and counts there."""

    def between(self, h: Tensor) -> Tensor:
        TEMPERATURE["passes"] += 1
        return h / TEMPERATURE["value"]


class Cooling(Net):
    """The number moves with each pass."""

    def between(self, h: Tensor) -> Tensor:
        TEMPERATURE["passes"] += 1
        return h * (1 + 1e-3 * TEMPERATURE["passes"])


class HardWithoutGradients(Net):
    """Rounds where nobody asks for a gradient."""

    def between(self, h: Tensor) -> Tensor:
        return h if torch.is_grad_enabled() else h.round()


class Stateful(nn.Module):
    """Goes on from where the last batch ended, as people write it for long texts."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.o = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None and self.state.shape[1] != len(x):
            self.state = None
        h, state = self.r(x[:, None], self.state)
        self.state = state.detach()
        return self.o(h[:, 0])


class TrainsItsNorm(Net):
    """Batch norm in train mode, whatever mode the network is in."""

    def __init__(self) -> None:
        super().__init__()
        self.n = nn.BatchNorm1d(5)

    def between(self, h: Tensor) -> Tensor:
        self.n.train()
        return self.n(h)


class KeepsItsWeightsPositive(Net):
    def between(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            self.o.weight.clamp_(min=0.0)
        return h


class Bias(nn.Module):
    """The same logits for all, in one place of the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b.expand(len(x), -1)


class RankZero(Net):
    """An adapter of rank zero: weights without a number."""

    def __init__(self) -> None:
        super().__init__()
        self.A, self.B = (nn.Parameter(torch.empty(s)) for s in ((0, 5), (5, 0)))

    def between(self, h: Tensor) -> Tensor:
        return h + h @ self.A.T @ self.B.T


class SameMemory(nn.Module):
    """Two parameters that lie in one place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight.data = self.a.weight.data

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.b(self.a(x).tanh()).tanh())


def _flattened() -> nn.Module:
    """All weights in one flat tensor, as for training in parallel."""
    model = mlp()
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    start = 0
    for p in model.parameters():
        p.data = flat[start : start + p.numel()].view_as(p)
        start += p.numel()
    return model


class Freezes(Net):
    """Says in its forward pass that a weight is no longer trained."""

    def forward(self, x: Tensor) -> Tensor:
        self.a.bias.requires_grad_(False)
        return super().forward(x)


family(
    {
        "a_number_read_from_outside": Cooled,
        "the_same_logits_for_all": Bias,
        "an_adapter_of_rank_zero": RankZero,
        "rounds_where_no_gradient_is_asked_for": HardWithoutGradients,
        "two_parameters_in_one_place": SameMemory,
        "weights_in_one_flat_tensor": _flattened,
        "probabilities_for_logits": lambda: nn.Sequential(mlp(), nn.Softmax(1)),
    },
    vectors,
)
family(
    {
        "a_number_outside_that_moves": Cooling,
        "batch_norm_trained_in_forward": TrainsItsNorm,
        "weights_kept_positive_in_forward": KeepsItsWeightsPositive,
    },
    vectors,
    expect="refused",
)


@case(expect="either")
def a_weight_frozen_in_forward() -> Situation:
    return Situation(Freezes(), vectors())


@case()
def a_state_that_nothing_has_filled() -> Situation:
    model, truth = Stateful(), _Stateless()
    truth.load_state_dict(model.state_dict())
    return Situation(model, vectors(), truth=truth)


class _Stateless(Stateful):
    def forward(self, x: Tensor) -> Tensor:
        self.state = None
        return super().forward(x)


@case(expect="refused")
def a_state_left_from_the_last_batch() -> Situation:
    model, (x, y) = Stateful().eval(), vectors()
    with torch.no_grad():
        model(x)
    return Situation(model, (x, y))


class SavesNumbers(Tanh):
    """Keeps numbers in place of tensors: right once, and wrong a second time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.y = x.detach().tanh()
        return ctx.y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * (1 - ctx.y**2)


class WithoutGraph(Tanh):
    """Goes back under no_grad."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        with torch.no_grad():
            return grad * (1 - y * y)


class WrongBatches(Setup):
    """With a rule for vmap that is of another function."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> Any:  # type: ignore[override]
        return 1.1 * x.tanh(), in_dims[0]


def _as_tanh(function: Any) -> Callable[[], Situation]:
    def situation() -> Situation:
        model = mlp(Call(function.apply))
        truth = nn.Sequential(model[0], nn.Tanh(), model[2])
        return Situation(model, vectors(), truth=truth)

    return situation


for _name, _function, _hess in (
    ("function_that_keeps_numbers", SavesNumbers, "either"),
    ("function_that_goes_back_without_a_graph", WithoutGraph, "either"),
    ("function_with_a_wrong_rule_for_batches", WrongBatches, "right"),
):
    _make = _as_tanh(_function)
    _make.__name__ = _name
    case(hess=_hess, hess_tol=1e-5)(_make)


def _pairs(h: Tensor) -> Tensor:
    return 0.1 * h[:, :, None] * h[:, None].sin()


INSIDE: dict[str, Callable[[Tensor], Tensor]] = {
    "running_product": lambda h: h.relu().cumprod(1) + h.sin(),
    "median": lambda h: h.sin() + h.median(1, keepdim=True).values,
    "quantile": lambda h: h.sin() * h.quantile(0.3, dim=1, keepdim=True),
    "standard_deviation": lambda h: h / (1 + h.std(1, keepdim=True)),
    "determinant": lambda h: h * (torch.eye(5) + _pairs(h)).logdet()[:, None],
    "matrix_exponential": lambda h: torch.linalg.matrix_exp(_pairs(h)).sum(1),
    "pseudo_inverse": lambda h: torch.linalg.pinv(
        torch.stack([h, h.sin(), h.cos()], 2)
    ).sum(1),
    "gathered": lambda h: h.gather(1, h.argsort(1)).sin(),
    "by_remainder": lambda h: h.remainder(1.0).sin(),
}
family(
    {name: lambda f=f: mlp(Call(f)) for name, f in INSIDE.items()},
    vectors,
    entries=FEW,
)


class Shifts(nn.Module):
    """Token numbers, moved where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.o = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, t: Tensor) -> Tensor:
        t.add_(1).remainder_(7)
        return self.o(self.e(t).tanh().mean(1))


@case()
def inputs_and_labels_in_one_tensor_written_to() -> Situation:
    whole = torch.randint(0, 3, (9, 6))
    whole[:, 5] = labels()
    return Situation(
        Shifts(),
        (whole[:, :5], whole[:, 5]),
        examples=[(whole[:, :5].clone(), whole[:, 5].clone())],
        watch=whole,
    )


class Centres(Net):
    def forward(self, x: Tensor) -> Tensor:
        x -= x.mean(1, keepdim=True)
        return super().forward(x)


@case()
def windows_of_one_series_written_to() -> Situation:
    series = torch.randn(12)
    windows = series.unfold(0, 4, 1)
    given = [(windows.clone(), labels())]
    return Situation(Centres(), (windows, labels()), examples=given, watch=series)


@case()
def batches_that_overlap() -> Situation:
    """Views of one tensor that share rows: those examples count twice."""
    x, y = vectors(12)
    return Situation(
        Centres(),
        [(x[:7], y[:7]), (x[5:], y[5:])],
        watch=(x, y),
        examples=[(x[:7].clone(), y[:7]), (x[5:].clone(), y[5:])],
    )


@case()
def loader_that_repeats_some_examples() -> Situation:
    x, y = vectors(12)
    order = [0, 1, 2, 2, 2, 5, 7, 11, 3]
    loader = DataLoader(TensorDataset(x, y), batch_size=4, sampler=order)
    return Situation(mlp(), loader, examples=[(x[order], y[order])], watch=(x, y))


@case(expect="refused")
def a_third_pass_that_differs() -> Situation:
    x, y = vectors(12)
    same = [(x[:6], y[:6]), (x[6:], y[6:])]
    return Situation(mlp(), Again(same, same, [(x[:6] + 1, y[:6]), same[1]]))


@case()
def loader_of_whole_batches() -> Situation:
    x, y = vectors(12)
    data = TensorDataset(x.view(3, 4, 4), y.view(3, 4))
    return Situation(mlp(), DataLoader(data, batch_size=None), examples=[(x, y)])


@case()
def an_empty_batch_first() -> Situation:
    x, y = vectors(8)
    return Situation(mlp(), [(x[:0], y[:0]), (x[:1], y[:1]), (x[1:], y[1:])])


class Optional(Net):
    def forward(
        self, x: Tensor, mask: Tensor | None = None, name: Any = None
    ) -> Tensor:
        f = super().forward(x)
        return f if mask is None else f * mask


@case()
def batches_with_none_and_words() -> Situation:
    x, y = vectors()
    words = [f"image {i}" for i in range(9)]
    return Situation(Optional(), [{"x": x, "mask": None, "name": words, "labels": y}])


@case()
def batches_of_a_users_mapping() -> Situation:
    x, y = vectors()
    return Situation(Net(), [UserDict({"x": x, "labels": y})], examples=[({"x": x}, y)])


ONE_HOT = ("operators", "gram", "exact_spectrum", "class_means")


@case(entries=ONE_HOT, plain=False, but={"class_means": "refused"})
def labels_one_hot() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x, nn.functional.one_hot(y, 3).double()))


@case(expect="refused")
def labels_one_hot_of_whole_numbers() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x, nn.functional.one_hot(y, 3)))


@case(expect="either")
def labels_yes_or_no() -> Situation:
    x, y = vectors(8)
    return Situation(mlp(num_classes=2), (x, y > 0))


@case(expect="either")
def labels_of_a_kind_that_torch_hardly_knows() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x, y.to(torch.uint16)), examples=[(x, y)])


@case(expect="either")
def labels_in_a_list() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x, y.tolist()), examples=[(x, y)])


@case(expect="refused")
def log_likelihood_of_log_probabilities() -> Situation:
    kwargs = {"loss": nn.NLLLoss()}
    return Situation(nn.Sequential(mlp(), nn.LogSoftmax(1)), vectors(), kwargs)


class HalfComplex(Net):
    """A complex weight in front of real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.randn(4, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * self.turn).real)


@case()
def complex_weights_that_are_not_looked_at() -> Situation:
    model = HalfComplex()
    return Situation(model, vectors(), {"parameters": ["a.*", "o.*"]})


@case(plain=False)
def class_weights_in_another_precision() -> Situation:
    loss = nn.CrossEntropyLoss(
        weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float32)
    )
    return Situation(mlp(), vectors(), {"loss": loss})


class Sentences(nn.Module):
    """Logits (B, T, C), as language models give them."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.r = nn.Embedding(5, 2), nn.GRU(2, 3, batch_first=True)
        self.o = nn.Linear(3, 5)

    def forward(self, input_ids: Tensor) -> Any:
        return {"logits": self.o(self.r(self.e(input_ids))[0])}


class _FirstAxis(Sentences):
    def forward(self, input_ids: Tensor) -> Any:
        return super().forward(input_ids)["logits"].transpose(1, 2)


@case(plain=False, but={"dual_operator": "refused"})
def sentences_as_long_as_there_are_words() -> Situation:
    """In one batch only, where nothing but the others tells which axis is which."""
    truth = _FirstAxis()
    model = Sentences()
    model.load_state_dict(truth.state_dict())
    data = []
    for num, length in ((3, 5), (2, 3), (1, 2)):
        t = torch.randint(0, 5, (num, length))
        y = torch.arange(num * length).view(num, length) % 5
        y[0, 0] = -100
        data.append({"input_ids": t, "labels": y})
    return Situation(model, data, {"loss": nn.CrossEntropyLoss()}, truth=truth)
