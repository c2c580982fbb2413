"""What is checked before anything is measured, and the loop over the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.utils.data import DataLoader, TensorDataset

from tests.cases import CASES
from tests.oracles import apart
from workbench.curvature.means.class_means import class_means
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.network import Network
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.operators import operators
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control

INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Dropping(nn.Module):
    """Drops at random, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(dropout(x, 0.5))


class Centring(nn.Module):
    """Takes the batch's mean away."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0))


class Pairs(nn.Module):
    """Gives logits and features."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def changed(change: Callable[[nn.Module], Any]) -> nn.Module:
    model = plain()
    with torch.no_grad():
        change(model)
    return model


def unnormed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)
    )


def unnormed_images() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.BatchNorm2d(1, track_running_stats=False),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def spoilt(index: tuple[int, int], value: float) -> Tensor:
    inputs = INPUTS.clone()
    inputs[index] = value
    return inputs


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "none": (nn.Identity, "has no parameter that requires a gradient"),
    "frozen": (
        lambda: plain().requires_grad_(False),
        "has no parameter that requires a gradient",
    ),
    "nan": (
        lambda: changed(lambda m: m[2].weight.fill_(torch.nan)),
        "1 parameters hold NaN or infinite weights, the first is 2.weight",
    ),
    "infinite": (
        lambda: changed(lambda m: [p.fill_(torch.inf) for p in m.parameters()]),
        "4 parameters hold NaN or infinite weights, the first is 0.weight",
    ),
    "overflow": (
        lambda: changed(lambda m: [p.fill_(3e38) for p in m.parameters()]),
        "gives NaN or infinite logits",
    ),
    "nan_frozen": (
        lambda: changed(
            lambda m: m[0].requires_grad_(False).weight.fill_(torch.nan)
        ),
        "gives NaN or infinite logits",
    ),
    "two_dtypes": (
        lambda: changed(lambda m: m[2].double()),
        r"have dtypes \['torch.float32', 'torch.float64'\]",
    ),
    "random": (Dropping, "two passes over the same inputs give different logits"),
    "mixing": (Centring, "depend on the others in its batch"),
    "batch_norm": (unnormed, "set track_running_stats=True"),
    "batch_norm_images": (unnormed_images, "set track_running_stats=True"),
    "shape": (
        lambda: nn.Linear(7, 3),
        r"does not take inputs of shape \(2, 4\), float32 \(",
    ),
    "one_class": (
        lambda: nn.Linear(4, 1),
        r"an output of shape \(12, 1\); expected logits .* at least two classes",
    ),
    "images_out": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3))),
        r"an output of shape \(12, 2, 3\) and labels of shape \(12,\)",
    ),
    "two_outputs": (Pairs, "an output of type tuple"),
    "few_logits": (lambda: nn.Linear(4, 2), "label is 2 but the network has 2 logits"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_cannot_be_measured_gets_a_sentence(name: str) -> None:
    build, sentence = NETWORKS[name]
    with pytest.raises(WorkbenchError, match=sentence) as error:
        empirical_risk(build(), (INPUTS, LABELS))
    assert "\n" not in str(error.value)


DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (lambda: (INPUTS[:0], LABELS[:0]), "hold no example"),
    "no_batch": (list, "hold no example"),
    "nan": (
        lambda: [(INPUTS, LABELS), (spoilt((3, 1), torch.nan), LABELS)],
        "the inputs of examples 12 to 23 hold NaN or infinity",
    ),
    "infinite": (
        lambda: (spoilt((11, 0), torch.inf), LABELS),
        "the inputs of examples 0 to 11 hold NaN or infinity",
    ),
    "unlike": (lambda: (INPUTS, LABELS[:9]), "12 inputs and 9 labels"),
    "unlike_batch": (lambda: [(INPUTS, LABELS[:9])], "12 inputs and 9 labels"),
    "float_labels": (lambda: (INPUTS, LABELS.float()), "have dtype torch.float32"),
    "one_hot": (
        lambda: (INPUTS, torch.nn.functional.one_hot(LABELS)),
        r"shape \(12, 3\)",
    ),
    "negative": (lambda: (INPUTS, LABELS - 1), "minimum -1"),
    "generator": (
        lambda: (pair for pair in [(INPUTS, LABELS)]),
        "the data are a generator, which cannot be gone through several times",
    ),
    "iterator": (
        lambda: iter(DataLoader(TensorDataset(INPUTS, LABELS))),
        "cannot be gone through several times",
    ),
    "nothing": (lambda: None, "the data are a NoneType"),
    "single": (
        lambda: [(x, int(y)) for x, y in zip(INPUTS, LABELS, strict=True)],
        "do not come in pairs of tensors",
    ),
    "unpaired": (lambda: [INPUTS, INPUTS, INPUTS], "do not come in pairs of tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_measured_get_a_sentence(name: str) -> None:
    make, sentence = DATA[name]
    with pytest.raises(WorkbenchError, match=sentence) as error:
        empirical_risk(plain(), make())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("logits", "labels", "sentence"),
    [
        (
            3,
            [0, 2, 0, 2, 2, 2, 0, 0],
            r"classes \[1\] have no example that counts among the 8 given",
        ),
        (5, [0, 1, 2, 0, 1, 2, 0, 0], r"classes \[3, 4\] have no example that counts"),
        (
            900,
            [0, 1, 2, 0, 1, 2, 0, 0],
            r"classes \[3, 4, 5, \.\.\.\] .* \(897 of 900 ",
        ),
    ],
)
def test_only_class_means_need_an_example_of_every_class(
    logits: int, labels: list[int], sentence: str
) -> None:
    model, data = nn.Linear(4, logits), (INPUTS[:8], torch.tensor(labels))
    with pytest.raises(WorkbenchError, match=sentence) as error:
        class_means(model, data)
    assert len(str(error.value)) <= 300
    assert operators(model, data)["G"].dim == 5 * logits


def test_a_batch_of_no_examples_gets_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match="batch_size is 0; expected at least 1"):
        empirical_risk(plain(), (INPUTS, LABELS), batch_size=0)


def test_counts_are_those_of_the_network_and_the_data() -> None:
    model = plain()
    model[0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    labels = torch.tensor([0] * 7 + [1] * 4 + [2])
    risk = empirical_risk(model.double(), (INPUTS, labels), batch_size=5)
    assert (risk.num_examples, risk.num_classes, risk.dim) == (12, 3, 20 + 15 + 3)
    assert risk.class_weights is not None
    assert risk.class_weights.tolist() == [7 / 12, 4 / 12, 1 / 12]
    assert (risk.num_rows, risk.num_labelled) == (24, 12)
    assert risk.dtype == torch.float64
    assert list(risk.parameters) == ["0.weight", "2.weight", "2.bias"]
    assert risk.num_activations == 5 + 5 + 3
    assert [len(x) for x, _ in risk.batches()] == [5, 5, 2]
    assert all(x.dtype == torch.float64 for x, _ in risk.batches())


@pytest.mark.parametrize("num_vectors", [1, 10, 10**9])
def test_pieces_are_the_batches_cut_further(num_vectors: int) -> None:
    risk = empirical_risk(plain(), (INPUTS, LABELS), batch_size=5)
    inputs, labels = zip(*risk.pieces(num_vectors), strict=True)
    assert torch.equal(torch.cat(inputs), INPUTS)
    assert torch.equal(torch.cat(labels), LABELS)
    if num_vectors == 10**9:
        assert len(inputs) == 12


def test_a_flat_vector_is_split_in_the_order_of_the_parameters() -> None:
    risk = empirical_risk(plain(), (INPUTS, LABELS))
    vector = torch.arange(float(risk.dim))
    split = risk.split(vector)
    assert [tuple(t.shape) for t in split.values()] == [(5, 4), (5,), (3, 5), (3,)]
    assert torch.equal(risk.flatten(list(split.values())), vector)
    flat = nn.utils.parameters_to_vector(risk.model.parameters())
    assert torch.equal(risk.flatten(list(risk.parameters.values())), flat)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "mps:7"])
def test_a_device_that_is_not_there_gets_a_sentence(device: str) -> None:
    with pytest.raises(
        WorkbenchError, match=f"device '{device}' is not .*; use auto, "
    ):
        empirical_risk(plain(), (INPUTS, LABELS), device=device)


def test_on_another_device_a_copy_is_taken() -> None:
    model = plain()  # meta is on every machine, though no numbers are there
    copy = Network(model).in_dtype(torch.device("meta"), torch.float32).module
    assert {p.device.type for p in copy.parameters()} == {"meta"}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    with pytest.raises(
        WorkbenchError, match="device 'meta' is not available on this machine"
    ):
        empirical_risk(model, (INPUTS, LABELS), device="meta")
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_modes_are_put_back_also_after_an_error() -> None:
    model = CASES["attention"]().model
    list(model.modules())[1].train()
    modes = [module.training for module in model.modules()]
    torch.backends.mha.set_fastpath_enabled(True)
    flash = torch.backends.cuda.flash_sdp_enabled()

    def fail() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == flash


def test_predictions_are_the_probabilities_of_eval_mode_without_a_graph() -> None:
    problem = CASES["batch_norm"]()
    expected = problem.model(problem.inputs).softmax(1).detach()
    risk = empirical_risk(problem.model.train(), problem.data)
    found = risk.predictions(problem.inputs)
    assert not found.requires_grad
    assert apart(found, expected) < 1e-14


def test_cancel_is_obeyed_before_the_next_batch() -> None:
    control = Control()
    risk = empirical_risk(plain(), (INPUTS, LABELS), batch_size=3, control=control)
    going = risk.batches()
    next(going)
    control.cancel()
    with pytest.raises(Cancelled):
        next(going)
