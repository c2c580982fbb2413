"""What is planned before a measurement: counted, chosen, said, refused."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.cases import CASES, problem
from tests.worlds import together
from workbench.curvature.products.operators import operators
from workbench.errors import WorkbenchError
from workbench.machine.distributed import World
from workbench.measurement.cost import Cost, sizes_of
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.plan import Plan, bind, checked, make_plan, plan
from workbench.measurement.settings import METHODS
from workbench.measurement.ways import WAYS
from workbench.measurement.ways.dense import DenseWay
from workbench.measurement.ways.krylov import KrylovWay
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

TITLES = [way.title for way in WAYS]


def settings(**values: Any) -> MeasureSettings:
    return MeasureSettings(**{"device": "cpu", "embedding": "pca", **values})


def planned(per_class: int, memory: int | None = None, **values: Any) -> Plan:
    """For a network of 234 parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 10)
    )
    risk = bind(model, load_data("digits", per_class=per_class), settings(**values))
    return make_plan(risk, settings(**values), memory)


@pytest.mark.parametrize(
    ("name", "limit", "method"),
    [
        ("convolution", 10_000, "dual, exact"),  # N (C - 1) = 24 of P = 84
        ("wide_data", 10_000, "dense, exact"),  # P = 8, N (C - 1) = 13
        ("wide_data", 8, "dense, exact"),
        ("convolution", 24, "dual, exact"),
    ],
)
def test_the_exact_way_of_fewest_operations_is_taken(
    name: str, limit: int, method: str
) -> None:
    wide = problem(lambda: nn.Linear(3, 2), (3,), (9, 4))
    found = wide if name == "wide_data" else CASES[name]()
    made = plan(found.model, found.data, settings(exact_limit=limit))
    assert checked(made).method == method


def test_beyond_the_limit_of_exactness_the_cheapest_way_is_taken() -> None:
    made = planned(150, exact_limit=200)
    costs = {method.method: method.work(made.sizes) for method in made.methods}
    assert set(costs) == set(TITLES)
    assert checked(made).method == min(costs, key=costs.__getitem__)
    assert checked(planned(150, exact_limit=0)).method == "block Krylov"
    assert checked(planned(2, exact_limit=100)).exact  # as all here is small


def test_exact_ways_are_taken_up_to_half_an_hour_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hours = {"exact": 41.0, "other": 11.0}
    monkeypatch.setattr(
        Plan,
        "seconds",
        lambda self, m=None: 3600 * hours["exact" if m and m.exact else "other"],
    )
    assert not checked(planned(5)).exact
    hours["exact"] = 0.4
    assert checked(planned(5)).exact
    hours["exact"] = 3.0
    assert checked(planned(5, max_minutes=60 * 12.0)).exact


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ("dense", "dense, exact"),
        ("dual", "dual, exact"),
        ("krylov", "block Krylov"),
        ("streamed", "block Krylov without the means of pairs"),
    ],
)
def test_the_method_that_is_asked_for_is_taken_or_refused(
    asked: str, method: str
) -> None:
    made = planned(20, method=asked)
    assert checked(made).method == method
    tight = planned(20, memory=checked(made).memory - 1, method=asked)
    assert tight.method is None
    assert f"with method {method}" in tight.refusal
    assert "\n" not in tight.refusal


def test_the_settings_name_every_way() -> None:
    assert tuple(way.name for way in WAYS) == METHODS


@pytest.mark.parametrize("method", ["exact", "", 3])
def test_a_method_that_there_is_not_gets_a_sentence(method: object) -> None:
    case = CASES["linear"]()
    with pytest.raises(WorkbenchError, match="there is no method"):
        plan(case.model, case.data, settings(method=method))


def test_what_takes_twice_the_time_is_not_taken() -> None:
    """At 272 a class, all of G takes twice as long as its leading eigenvalues."""
    data = torch.randn(10, 1, 28, 28), torch.arange(10)
    risk = bind(build_model("cnn", (1, 28, 10)), data, settings())
    sizes = replace(sizes_of(risk), num_examples=2720, num_rows=24_480)
    costs = {way.title: way.count(sizes, settings()).work(sizes) for way in WAYS}
    assert min(costs, key=costs.__getitem__) == "block Krylov"


def test_of_a_hundred_classes_ten_are_what_fits() -> None:
    def made(memory: int, **values: Any) -> Plan:
        data = torch.randn(200, 40), torch.arange(200) % 100
        chosen = settings(**values)
        return make_plan(bind(nn.Linear(40, 100), data, chosen), chosen, memory)

    refused = made(1_100_000_000)
    assert refused.method is None
    assert "; measure 10 of the classes (--classes 10 on" in refused.refusal
    assert made(1_100_000_000, classes=10).method is not None


def test_the_products_that_are_planned_are_about_those_that_it_takes() -> None:
    data = load_data("digits", per_class=4)
    model = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10)
    )
    done = train(model, data, TrainConfig(epochs=10, device="cpu"))
    study = measure(done, settings(exact_limit=0))
    sizes = sizes_of(bind(done, None, settings()))
    way = KrylovWay.count(sizes, settings())
    for kind, found in study.spectra.items():
        cost = way.stages[kind]
        expected = cost.g_products + cost.hess_products
        assert expected / 2 < found.num_matvecs < expected * 2, kind
    exact = DenseWay.count(sizes, settings())
    assert exact.stages["Hess"].hess_products == study.spectra["Hess"].dim
    assert study.plan.startswith("Plan: the leading 17 eigenvalues")


def test_the_counted_work_is_that_of_the_operations() -> None:
    data = load_data("digits", per_class=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    done = train(model, data, TrainConfig(epochs=2, device="cpu"))
    chosen = settings(exact_limit=0)
    with FlopCounterMode(display=False) as seen:
        measure(done, chosen)
    made = plan(done, settings=chosen)
    assert made.method is not None
    cost = sum(made.method.stages.values(), Cost())
    passes = 3 * cost.gradients + 5 * cost.g_products + 7 * cost.hess_products
    work = passes * made.sizes.forward * made.sizes.num_examples + cost.algebra
    assert 1 / 4 < seen.get_total_flops() / 2 / work < 4


def test_twice_the_examples_are_twice_the_passes() -> None:
    one, two = planned(5), planned(10)
    for small, large in zip(one.methods, two.methods, strict=True):
        for name, cost in small.stages.items():
            assert large.stages[name].hess_products == cost.hess_products
    assert two.sizes.num_examples == 2 * one.sizes.num_examples
    assert two.speeds.gradient > 0


def test_what_does_not_fit_is_refused_with_the_largest_number_that_does() -> None:
    whole = planned(100)
    least = min(m.memory for m in planned(20).methods)
    assert least < min(m.memory for m in whole.methods)
    tight = planned(100, memory=least)
    assert tight.method is None
    with pytest.raises(WorkbenchError, match="use at most") as error:
        checked(tight)
    assert tight.line == tight.refusal == str(error.value)
    found = re.search(r"at most (\d+) examples per class", str(error.value))
    assert found is not None
    most = int(found[1])
    assert 20 <= most < 100
    assert planned(most, memory=least).method is not None
    assert planned(most + 1, memory=least).method is None


def test_one_way_that_does_not_fit_leaves_the_others() -> None:
    made = planned(100)
    dual = next(m for m in made.methods if m.method == "dual, exact")
    rest = planned(100, memory=dual.memory - 1)
    assert rest.method is not None
    assert "(too much)" in rest.line


def test_more_time_than_was_asked_for_is_refused() -> None:
    made = planned(5, max_minutes=1e-9)
    assert made.method is None
    assert "the limit is 1e-09 minutes" in made.line
    assert made.line.endswith("use a smaller network or fewer classes.")
    slow = replace(planned(5), settings=settings(max_minutes=1e6))
    assert all(slow.fits(method) for method in slow.methods)


class Rounding(torch.autograd.Function):
    """An operation that knows reverse mode only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Rounding.apply(x)


TAKEN = {
    "layer by layer": nn.ReLU,
    "forward mode": nn.Tanh,
    "reverse mode": Sine,
}


@pytest.mark.parametrize("way", TAKEN)
def test_the_plan_says_how_products_are_taken_and_why(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.curvature.products.layerwise.SMALL", 0)
    model = nn.Sequential(nn.Linear(4, 5), TAKEN[way](), nn.Linear(5, 3)).double()
    data = torch.randn(9, 4).double(), torch.arange(9) % 3
    made = plan(model, data, settings())
    ops = operators(model, data)
    assert made.products == {kind: ops[kind].how for kind in ("G", "Hess", "H")}
    assert all(how.startswith(way) for how in made.products.values())
    facts = json.loads(json.dumps(made.facts))
    assert facts["products"] == made.products
    assert facts["method"] == checked(made).method
    if way == "reverse mode":  # and why not faster
        reason = made.products["G"].removeprefix("reverse mode ")
        assert "jvp" in reason
        assert reason in made.line
    else:
        assert f" Products: G, Hess, H {way}. Checking them takes " in made.line
    study = measure(model, data, settings(num_drawn=0))
    assert study.run["products"] == made.products
    assert f"{way}" in study.plan


def test_kinds_that_are_taken_in_different_ways_are_told_apart() -> None:
    """Weight norm, whose second derivative torch has wrong, in forward mode."""
    made = replace(planned(5), products={"G": "a", "Hess": "b (why)", "H": "b (why)"})
    assert made.line.endswith(f" Products: G a; Hess, H b (why). {SHORT}")


SHORT = "Checking them takes 1 s."


def test_the_proof_is_counted_once_for_each_network() -> None:
    made = replace(planned(5), proof=100.0)
    assert made.seconds() - replace(made, proof=0.0).seconds() == pytest.approx(100)
    film = replace(made, num_moments=3)
    assert film.seconds() - replace(film, proof=0.0).seconds() == pytest.approx(400)
    assert made.line.endswith("Checking them takes 2 min.")


def test_what_the_proof_takes_is_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass through the network that takes long makes a proof that takes long."""
    slow = planned(5).proof
    forward = nn.Tanh.forward

    def slowly(self: nn.Tanh, x: Tensor) -> Tensor:
        time.sleep(0.02)
        return forward(self, x)

    monkeypatch.setattr(nn.Tanh, "forward", slowly)
    assert planned(5).proof > slow + 0.2


def test_the_line_names_every_way_and_its_price() -> None:
    line = planned(5).line
    assert line.startswith("Plan: every eigenvalue of G (")
    assert all(name in line for name in TITLES)
    assert line.count(" MB") + line.count(" GB") == len(TITLES)
    assert "\n" not in line


def test_earlier_epochs_are_priced_at_half_each() -> None:
    data = load_data("digits", per_class=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = TrainConfig(epochs=4, device="cpu", snapshots=(0, 1, 2))
    done = train(model, data, config)
    with_them = plan(done, settings=settings())
    assert with_them.num_moments == 3
    stages = sum(with_them.stages().values())
    assert with_them.seconds() == 2.5 * stages + 4 * with_them.proof
    assert ", and 3 earlier epochs: " in with_them.line
    assert plan(done, settings=settings(moments=False)).num_moments == 0


def test_the_network_is_left_in_its_dtype() -> None:
    model = nn.Linear(4, 3)
    plan(model, (torch.randn(6, 4), torch.arange(6) % 3), settings())
    assert model.weight.dtype == torch.float32


def test_processes_plan_the_same() -> None:
    case = CASES["convolution"]()
    risk = bind(case.model, case.data, settings())

    def of(world: World) -> Plan:
        return make_plan(replace(risk, world=world), settings())

    one, two = together(2, of)
    assert one.speeds == two.speeds
    assert one.memory == two.memory
    assert one.num_processes == 2


def test_fewer_eigenvalues_are_proposed_where_those_fit() -> None:
    data = torch.randn(60, 40), torch.arange(60) % 6
    chosen = settings(exact_limit=0, num_eigenvalues=200)

    def made(memory: int | None, **values: Any) -> Plan:
        asked = replace(chosen, **values)
        risk = bind(nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 6)), data, asked)
        return make_plan(risk, asked, memory)

    few = min(m.memory for m in made(None, num_eigenvalues=40).methods)
    tight = made(few + 1)
    assert tight.method is None
    found = re.search(r"ask for (\d+) eigenvalues \(--eigenvalues \1\)", tight.refusal)
    assert found is not None
    assert 20 <= int(found[1]) < 200
    assert made(few + 1, num_eigenvalues=int(found[1])).method is not None


@pytest.mark.parametrize("limit", [0, -1, "soon", float("nan")])
def test_a_bad_time_limit_gets_a_sentence(limit: object) -> None:
    case = CASES["linear"]()
    with pytest.raises(WorkbenchError, match="max_minutes is"):
        plan(case.model, case.data, settings(max_minutes=limit))
