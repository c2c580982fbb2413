"""Networks that are differentiated layer by layer, against explicit matrices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import relu

from tests import oracles
from tests.cases import EVEN, Problem, problem
from tests.oracles import apart
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products import layerwise as module
from workbench.curvature.products.forward_mode import General
from workbench.curvature.products.layerwise import KEPT_NUMBERS, LayerWise, read_layers
from workbench.curvature.products.operators import KINDS, operators
from workbench.curvature.products.way import Kind
from workbench.errors import WorkbenchError
from workbench.training.models import build_model


class Joining(nn.Module):
    """The image beside its features, as DenseNet has it; norms alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.conv = nn.Conv2d(2, 2, (3, 1), padding=(1, 0), bias=False)
        self.over = nn.BatchNorm2d(5, affine=False)
        self.last = nn.Linear(5, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        y = self.conv(relu(self.norm(x)))
        joined = torch.cat([x, image, y], dim=1)
        return self.last(torch.relu(self.over(joined)).mean((2, 3)))


class Twice(nn.Module):
    """A layer called twice, once under a norm; its weight is also another's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.layer.weight
        self.norm = nn.BatchNorm1d(4)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.layer(x)))
        out = self.layer(x)
        out += self.tied(x)
        return self.last(self.relu(out))


class Halves(nn.Module):
    """Parameters frozen one by one, under a norm and without."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(4, 6).requires_grad_(False)
        self.norm = nn.BatchNorm1d(6)
        self.norm.bias.requires_grad_(False)
        self.free = nn.Linear(6, 5)
        self.free.weight.requires_grad_(False)
        self.last = nn.Linear(5, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(relu(self.free(relu(self.norm(self.fixed(x))))))


class Spelled(nn.Module):
    """Methods and functions where others have modules, as scripts spell them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.size = nn.Conv2d(2, 2, 1)
        self.wide = nn.Linear(4, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x), inplace=True)
        x = functional.max_pool2d(x.add(self.size(x)).relu(), 2, stride=1)
        x = functional.dropout(functional.avg_pool2d(x, 2), 0.5, self.training)
        x = functional.adaptive_avg_pool2d(x, (2, 1)).relu_()
        x = self.wide(x.view(x.size(0), -1)).relu()
        x = x.reshape((x.shape[0], 5, 1)).mean(dim=2)
        return self.last(x.view(-1, 5).flatten(1))


def _pools() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3, padding=1, dilation=1), nn.BatchNorm2d(2),
        nn.ReLU(), nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(2, 3, 2), nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True), nn.Dropout(0.5), nn.Conv2d(3, 3, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3),
    )  # fmt: skip


def _tokens() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Flatten(), nn.Linear(8, 3)
    )


NETWORKS: dict[str, Callable[[], Problem]] = {
    "joining": lambda: problem(Joining, (1, 4, 3), EVEN, batch_size=5, smooth=False),
    "twice": lambda: problem(Twice, (4,), EVEN, smooth=False),
    "halves": lambda: problem(Halves, (4,), (2, 6, 3), batch_size=4, smooth=False),
    "spelled": lambda: problem(Spelled, (1, 6, 5), EVEN, batch_size=5, smooth=False),
    "pools": lambda: problem(_pools, (1, 6, 5), EVEN, batch_size=5, smooth=False),
    "tokens": lambda: problem(_tokens, (4, 3), EVEN, smooth=False),
}


@pytest.fixture(autouse=True)
def _no_network_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)


def risk_of(found: Problem) -> EmpiricalRisk:
    return empirical_risk(found.model, found.data, batch_size=found.batch_size)


def read(found: Problem) -> LayerWise:
    layers = read_layers(risk_of(found))
    assert layers is not None
    return layers


@pytest.fixture(params=[KEPT_NUMBERS, 0], ids=["kept", "anew"])
def _memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_NUMBERS", request.param)


@pytest.mark.usefixtures("_memory")
@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_with_the_explicit_matrices(name: str) -> None:
    found = NETWORKS[name]()
    layers = read(found)
    vectors = torch.randn(found.dim, 9, dtype=torch.float64)
    unused = 6 if name == "halves" else 0
    g, hess = _explicit(found, unused)
    for _ in range(2):  # the second time from what was kept
        assert apart(layers.product("H", vectors), (hess - g) @ vectors) < 1e-12
        assert apart(layers.product("G", vectors), g @ vectors) < 1e-12
        assert apart(layers.product("Hess", vectors), hess @ vectors) < 1e-12


def _explicit(found: Problem, unused: int) -> tuple[Tensor, Tensor]:
    if not unused:
        return oracles.gauss_newton(found), oracles.hessian_by_autograd(found)
    general = General(risk_of(found), *risk_of(found).snapshot())
    eye = torch.eye(found.dim, dtype=torch.float64)
    g, hess = general.product("G", eye), general.product("Hess", eye)
    assert float(g[-unused:].abs().max()) == 0.0
    return g, hess


@pytest.mark.parametrize("name", ["mlp", "vgg11", "resnet18", "densenet40"])
def test_the_networks_by_name_are_read(name: str) -> None:
    data = torch.randn(6, 1, 4, 4), torch.arange(6) % 3
    assert read_layers(empirical_risk(build_model(name, (1, 4, 3)), data)) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_networks_by_name_give_what_torch_gives(name: str, kind: Kind) -> None:
    model = build_model(name, (1, 4, 3)).double()
    data = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    risk = empirical_risk(model, data)
    layers = read_layers(risk)
    assert layers is not None
    vectors = torch.randn(risk.dim, 2, dtype=torch.float64)
    expected = General(risk, *risk.snapshot()).product(kind, vectors)
    assert apart(layers.product(kind, vectors), expected) < 1e-11


def test_small_networks_go_through_torch_in_whole_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    risk = risk_of(NETWORKS["twice"]())
    monkeypatch.setattr(module, "SMALL", risk.num_activations * risk.num_examples)
    assert read_layers(risk) is not None
    monkeypatch.setattr(module, "SMALL", risk.num_activations * risk.num_examples + 1)
    assert read_layers(risk) is None


def test_blocks_that_do_not_fit_are_multiplied_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = NETWORKS["twice"]()
    vectors = torch.randn(found.dim, 5, dtype=torch.float64)
    expected = read(found).product("Hess", vectors)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 2 * found.dim + 1)
    assert apart(read(found).product("Hess", vectors), expected) < 1e-13


class Images:
    """Batches made anew in each pass, in another order."""

    def __init__(self, found: Problem) -> None:
        self.found, self.passes = found, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        order = torch.randperm(len(self.found.labels))
        for index in order.split(5):
            yield self.found.inputs[index], self.found.labels[index]


def test_only_tensors_are_kept_from_product_to_product() -> None:
    found = NETWORKS["twice"]()
    data = Images(found)
    ops = operators(found.model, data)
    before = data.passes
    vector = torch.ones(found.dim, dtype=torch.float64)
    first, again = ops["Hess"].matvec(vector), ops["Hess"].matvec(vector)
    assert data.passes == before + 2
    assert apart(first, again) < 1e-13
    assert apart(first, read(found).product("Hess", vector[:, None])[:, 0]) < 1e-13


@pytest.mark.parametrize("name", ["twice", "general"])
def test_operators_are_of_the_weights_they_were_made_from_or_none(name: str) -> None:
    build = Twice if name == "twice" else lambda: nn.Sequential(nn.Linear(4, 3))
    found = problem(build, (4,), EVEN, smooth=False)
    ops = operators(found.model, found.data)
    vector = torch.ones(found.dim, dtype=torch.float64)
    before = {kind: ops[kind].matvec(vector) for kind in KINDS}
    state = copy.deepcopy(found.model.state_dict())
    with torch.no_grad():
        for tensor in [*found.model.parameters(), *found.model.buffers()]:
            tensor.mul_(2)
    for kind in KINDS:
        with pytest.raises(WorkbenchError, match="has changed since it was bound"):
            ops[kind].matvec(vector)
    found.model.load_state_dict(state)
    for kind in KINDS:
        assert torch.equal(ops[kind].matvec(vector), before[kind])


class Swapped(nn.Module):
    """Reads like a sum of two layers, but changes one of them in place first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(self.relu(hidden) + hidden)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].register_forward_hook(lambda module, args, output: 2 * output)
    return model


def replaced() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].forward = torch.sin  # type: ignore[method-assign]
    return nn.Sequential(nn.Linear(4, 3), model)


class Merged(nn.Module):
    """Views that take an example apart and put it together again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(-1, 2)).relu().view(x.size(0), 2, 3).mean(1)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x if x.sum() > -1e9 else -x)


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "changed_in_place": Swapped,
    "hooked": hooked,
    "replaced": replaced,
    "merged": Merged,
    "branching": Branching,
    "smooth": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_that_does_more_than_its_layers_takes_the_general_path(
    name: str,
) -> None:
    found = problem(OTHERS[name], (4,), EVEN, smooth=False)
    assert read_layers(risk_of(found)) is None
    hess = operators(found.model, found.data)["Hess"].to_dense()
    assert apart(hess, oracles.hessian_by_autograd(found)) < 1e-9


def test_vectors_of_another_length_get_a_sentence() -> None:
    found = NETWORKS["twice"]()
    operator = operators(found.model, found.data)["G"]
    with pytest.raises(WorkbenchError, match=r"G times vectors of shape \(7, 2\); exp"):
        operator.matmat(torch.ones(7, 2))
