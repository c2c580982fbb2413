"""Degenerate numbers: sure networks, zeros, few or no examples of a class, labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tests.zoo.case import CASES, Case, Situation, case, labels, mlp, vectors


def _sure(margin: float) -> Situation:
    """Each logit of the true class above the others by this at least."""
    x, y = torch.randn(12, 4), labels(12)
    x = torch.cat([x, 3 * one_hot(y, 3).double()], 1)
    model = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss = loss + 1e-4 * sum((p**2).sum() for p in model.parameters())
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    for p in model.parameters():
        p.grad = None
    with torch.no_grad():
        f = model(x)
        true = f.gather(1, y[:, None])
        best = f.scatter(1, y[:, None], -1e9).max(1, keepdim=True).values
        factor = margin / float((true - best).min())
        model[2].weight.mul_(factor)
        model[2].bias.mul_(factor)
    return Situation(model, (x, y))


@case(measured=True)
def sure_by_twenty() -> Situation:
    return _sure(20)


@case()
def sure_by_thirty() -> Situation:
    return _sure(30)


@case()
def sure_by_forty() -> Situation:
    return _sure(40)


@case()
def sure_by_eighty() -> Situation:
    return _sure(80)


@case(expect="either")
def sure_beyond_every_number() -> Situation:
    return _sure(2000)


@case()
def sure_and_wrong() -> Situation:
    found = _sure(40)
    x, y = found.data
    return Situation(found.model, (x, (y + 1) % 3))


@case(measured=True)
def head_of_zeros() -> Situation:
    model = mlp()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return Situation(model, vectors())


@case(measured=True)
def all_weights_zero() -> Situation:
    model = mlp(nn.ReLU())
    for p in model.parameters():
        nn.init.zeros_(p)
    return Situation(model, vectors())


@case()
def logits_of_tiny_scale() -> Situation:
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(1e-12)
    return Situation(model, vectors())


@case()
def inputs_of_huge_scale() -> Situation:
    x, y = vectors()
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(1e-8)
    return Situation(model, (1e8 * x, y))


@case()
def logits_far_from_zero() -> Situation:
    model = mlp()
    with torch.no_grad():
        model[2].bias += 1000.0
    return Situation(model, vectors())


NO_CLASS = {"class_means": "refused"}


@case(but=NO_CLASS)
def one_example() -> Situation:
    return Situation(mlp(), vectors(1))


@case()
def one_example_a_class() -> Situation:
    return Situation(mlp(), vectors(3))


@case(but=NO_CLASS)
def a_class_without_an_example() -> Situation:
    return Situation(mlp(num_classes=5), vectors())


@case(but=NO_CLASS)
def last_classes_first() -> Situation:
    x, y = vectors()
    return Situation(mlp(num_classes=5), (x, 4 - y))


@case(entries=("operators",))
def two_hundred_logits_and_eight_images() -> Situation:
    data = torch.randn(8, 1), torch.arange(8) * 20
    return Situation(nn.Linear(1, 200, bias=False), data)


@case(but=NO_CLASS)
def forty_logits_and_four_images() -> Situation:
    return Situation(nn.Linear(3, 40), (torch.randn(4, 3), torch.arange(4) * 10))


@case(entries=("class_means",), expect="refused")
def a_thousand_classes_without_an_example() -> Situation:
    data = torch.randn(8, 4), torch.arange(8) * 100
    return Situation(nn.Linear(4, 1000), data)


@case(measured=True)
def two_classes() -> Situation:
    x, _ = vectors(8)
    return Situation(mlp(num_classes=2), (x, labels(8, 2)))


@case()
def more_examples_than_parameters() -> Situation:
    return Situation(nn.Linear(2, 3, bias=False), vectors(60, 2))


@case()
def one_parameter() -> Situation:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.t = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.t).tanh()

    return Situation(One(), vectors(9, 3))


@case()
def the_same_example_again() -> Situation:
    x, y = vectors(3)
    return Situation(mlp(), (x.repeat(3, 1), y.repeat(3)))


@case()
def repeated_eigenvalues() -> Situation:
    """Orthogonal inputs and no preference: G is a multiple of a projection."""
    model = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(model.weight)
    return Situation(model, (torch.eye(3).repeat(3, 1), labels()))


def _labelled(change: Callable[[Tensor], Tensor]) -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x, change(y)))


@case(expect="either")
def labels_of_32_bits() -> Situation:
    return _labelled(lambda y: y.int())


@case(expect="either")
def labels_of_one_byte() -> Situation:
    return _labelled(lambda y: y.to(torch.uint8))


@case(expect="either")
def labels_in_a_column() -> Situation:
    found = _labelled(lambda y: y[:, None])
    x, y = found.data
    return Situation(found.model, (x, y), examples=[(x, y[:, 0])])


@case(expect="refused")
def labels_below_zero() -> Situation:
    return _labelled(lambda y: y - 1)


@case(expect="refused")
def labels_too_large() -> Situation:
    return _labelled(lambda y: y + 1)


@case(expect="refused")
def labels_of_floats() -> Situation:
    return _labelled(lambda y: y.double())


@case(expect="refused")
def labels_too_few() -> Situation:
    return _labelled(lambda y: y[:-1])


@case(expect="refused")
def no_label_that_counts() -> Situation:
    x, y = vectors()
    kwargs = {"loss": nn.CrossEntropyLoss()}
    return Situation(mlp(), (x, torch.full_like(y, -100)), kwargs)


@case(expect="refused")
def inputs_that_are_not_numbers() -> Situation:
    x, y = vectors()
    x[4, 1] = torch.nan
    return Situation(mlp(), (x, y))


@case(expect="refused")
def inputs_infinite() -> Situation:
    x, y = vectors()
    x[8, 3] = torch.inf
    return Situation(mlp(), [(x[:5], y[:5]), (x[5:], y[5:])])


@case(expect="refused")
def no_example() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x[:0], y[:0]))


@case(expect="refused")
def one_logit_under_cross_entropy() -> Situation:
    return Situation(mlp(num_classes=1), (vectors()[0], torch.zeros(9).long()))


@case(expect="refused")
def inputs_of_a_wrong_width() -> Situation:
    return Situation(mlp(), vectors(9, 6))


@case(expect="refused")
def examples_on_the_second_axis() -> Situation:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.r, self.o = nn.RNN(4, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(self.r(x)[0][-1])

    return Situation(Steps(), (torch.randn(5, 9, 4), labels()))


@case(expect="refused")
def an_unknown_loss() -> Situation:
    return Situation(mlp(), vectors(), {"loss": "hinge"})


@case(expect="refused")
def a_loss_of_another_form() -> Situation:
    return Situation(mlp(), vectors(), {"loss": nn.MultiMarginLoss()})


@case(expect="refused")
def a_loss_that_is_not_summed() -> Situation:
    kwargs = {"loss": nn.CrossEntropyLoss(reduction="none")}
    return Situation(mlp(), vectors(), kwargs)


@case(expect="refused")
def targets_that_do_not_fit() -> Situation:
    x, _ = vectors()
    return Situation(mlp(), (x, torch.randn(9, 2)), {"loss": "mse"})


def _targets(loss: Any, *targets: Tensor) -> Situation:
    """Batches of four with such targets."""
    x, _ = vectors(4 * len(targets))
    data = list(zip(x.split(4), targets, strict=True))
    return Situation(mlp(), data, {"loss": loss})


REFUSED: dict[str, Callable[[], Situation]] = {
    "targets_that_are_not_numbers": lambda: _targets(
        "mse", torch.randn(4, 3), torch.full((4, 3), torch.nan)
    ),
    "binary_targets_that_are_not_numbers": lambda: _targets(
        "bce", torch.rand(4, 3), torch.full((4, 3), torch.nan)
    ),
    "binary_targets_too_large_later": lambda: _targets(
        "bce", torch.rand(4, 3), 7 * torch.ones(4, 3)
    ),
    "targets_of_another_shape_later": lambda: _targets(
        "mse", torch.randn(4, 3), torch.randn(4, 2)
    ),
    "labels_in_a_column_later": lambda: _targets(
        "cross_entropy", labels(4), labels(4)[:, None]
    ),
    "soft_labels_later": lambda: _targets(
        "cross_entropy", labels(4), torch.rand(4, 3).softmax(1)
    ),
    "negative_class_weights": lambda: _targets(
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, -0.5, 1.0])), labels(4)
    ),
    "negative_positive_weight": lambda: _targets(
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(-2.0)), torch.rand(4, 3)
    ),
    "no_parameter_chosen": lambda: Situation(mlp(), vectors(), {"parameters": []}),
    "parameters_by_number": lambda: Situation(mlp(), vectors(), {"parameters": 5}),
    "size_of_batches_in_words": lambda: Situation(
        mlp(), vectors(), {"batch_size": "all"}
    ),
}
for name, make in REFUSED.items():
    CASES[name] = Case(
        name=name,
        make=make,
        home="numbers",
        expect="refused",
        entries=("operators", "gram"),
    )


@case(expect="refused", entries=("operators", "gram"))
def regression_of_different_lengths_that_does_not_fit() -> Situation:
    model = nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Flatten(1))
    data = [
        (torch.randn(3, 4, 4), torch.randn(3, 4)),
        (torch.randn(2, 2, 4), torch.randn(2, 3)),
    ]
    return Situation(model, data, {"loss": "mse"})


@case(expect="refused", entries=("operators", "gram"))
def random_but_far_from_zero() -> Situation:
    """In float32, where a thousand hides a tenth."""

    class Far(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.1 * torch.rand(len(x), 3) + 1000

    return Situation(Far(4, 3).float(), (vectors()[0].float(), labels()))


@case(tol=1e-4, as_double=True)
def weights_near_the_least_float32() -> Situation:
    model = mlp().float()
    with torch.no_grad():
        model[2].weight.mul_(1e-18)
    return Situation(model, (vectors()[0].float(), labels()))


class Masked(nn.Module):
    """One class is never to be had; and perhaps noise, or a look at the batch."""

    def __init__(self, noise: float = 0.0, value: float = -1e9) -> None:
        super().__init__()
        self.n = mlp(num_classes=4)
        self.noise, self.value = noise, value

    def forward(self, x: Tensor) -> Tensor:
        f = self.n(x)
        f = f + self.noise * torch.rand_like(f)
        return f.masked_fill(torch.tensor([False, False, False, True]), self.value)


WITHOUT_MEANS = ("operators", "gram", "exact_spectrum", "dual_operator")


@case(entries=WITHOUT_MEANS)
def a_logit_masked() -> Situation:
    return Situation(Masked(), vectors())


@case(expect="refused")
def a_logit_masked_by_infinity() -> Situation:
    return Situation(Masked(value=-torch.inf), vectors())


@case(expect="refused")
def a_logit_masked_and_the_others_random() -> Situation:
    x, y = vectors()
    return Situation(Masked(0.01).float(), (x.float(), y))


class TwoSizes(nn.Module):
    """Of two outputs one is a million times the other, which is to be found out."""

    def __init__(self, second: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = mlp(num_classes=1), mlp(num_classes=1)
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x) * 1e6, self.b(self.second(x))], 1)


def _two_sizes(second: Callable[[Tensor], Tensor]) -> Situation:
    model = TwoSizes(second).float()
    x = torch.randn(9, 4)
    return Situation(model, (x.float(), torch.randn(9, 2).float()), {"loss": "mse"})


@case(entries=WITHOUT_MEANS, expect="refused")
def a_small_output_that_is_random() -> Situation:
    return _two_sizes(lambda x: nn.functional.dropout(x, 0.3, training=True))


@case(entries=WITHOUT_MEANS, expect="refused")
def a_small_output_that_mixes_examples() -> Situation:
    return _two_sizes(lambda x: x - x.mean(0))
