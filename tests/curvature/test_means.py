"""Class means as a function of their own, at each level, against the loops."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.clock import peak_memory
from tests.cases import CASES, Problem
from tests.curvature.conftest import Solved, solve
from tests.oracles import apart, eigenvalues
from workbench.curvature.means import class_means as module
from workbench.curvature.means import pullback
from workbench.curvature.means.class_means import ClassMeans, class_means
from workbench.curvature.means.count_sketch import count_sketch
from workbench.curvature.means.pair_selection import keep_pairs
from workbench.curvature.problem.binding import empirical_risk
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control

DIAGONAL = {"icml": "G0", "jmlr": "G_diag"}


def found(problem: Problem, **settings: object) -> ClassMeans:
    return class_means(
        problem.model,
        problem.data,
        batch_size=problem.batch_size,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("level", ["c", "ck", "G"])
def test_each_level_gives_the_averages_of_the_definition(
    case: Solved, weighting: str, level: str
) -> None:
    means = found(case.problem, weighting=weighting, level=level)
    expected = case.parts(weighting)
    assert apart(means.everything, expected.everything) < 1e-10
    assert means.level == level
    assert (means.classes is None) == (level == "G")
    assert (means.cross is None) == (level != "ck")
    if means.classes is not None:
        assert apart(means.classes, expected.classes) < 1e-10
    if means.cross is not None:
        assert apart(means.cross, expected.cross) < 1e-10
    if means.diagonal is not None:
        index = torch.arange(case.problem.num_classes)
        assert apart(means.diagonal, expected.cross[index, index]) < 1e-9
    assert (means.diagonal is None) == (level == "G" or weighting == "slide")


@pytest.mark.parametrize("level", ["c", "ck"])
def test_eigenvalues_of_the_parts_are_those_of_their_matrices(
    case: Solved, weighting: str, level: str
) -> None:
    values = found(case.problem, weighting=weighting, level=level).eigenvalues()
    expected = case.parts(weighting)
    top = float(eigenvalues(case.g)[0])
    assert expected.class_part in values
    assert level == "c" or len(values) == (3 if weighting == "slide" else 4)
    for part, ours in values.items():
        if part in expected.matrices:
            theirs = eigenvalues(expected.matrices[part])[: len(ours)]
            assert float((ours[: len(theirs)] - theirs).abs().max()) < 1e-10 * top
    assert (weighting == "slide") or DIAGONAL[weighting] in values


@pytest.mark.parametrize("limit", ["BUFFER", "ACTIVATIONS"])
@pytest.mark.parametrize("name", ["residual", "time_first"])
def test_little_memory_and_any_batches_give_the_same(
    name: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = CASES[name]()
    expected = class_means(problem.model, problem.data, level="ck")
    monkeypatch.setattr(pullback, limit, 1)
    batches = list(zip(*(part.split(4) for part in problem.data), strict=True))
    means = class_means(problem.model, batches, level="ck")
    assert means.cross is not None
    assert expected.cross is not None
    assert apart(means.cross, expected.cross) < 1e-12


def test_the_memory_does_not_grow_with_the_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pullback, "ACTIVATIONS", 2**20)  # 4 MB
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 64, 3), nn.Tanh(), nn.Flatten(2)).eval()
        model.append(nn.AvgPool1d(676)).append(nn.Flatten()).append(nn.Linear(64, 2))
        inputs = torch.randn(600, 1, 28, 28)
    peaks = []
    for num in (60, 600, 60, 600):  # the first two are to warm up
        data = inputs[:num], torch.arange(num) % 2
        run = partial(class_means, model, data, batch_size=num)
        peaks.append(peak_memory(run, torch.device("cpu")))
    few, many = peaks[2:]
    if few is None or many is None:
        pytest.skip("only Linux lets the peak of the memory be read and set back")
    assert many < few + 2**24  # a tenth of what all at once would put out


@pytest.mark.parametrize(("level", "passes"), [("G", 1), ("c", 2), ("ck", 3)])
def test_each_class_takes_one_forward_and_few_backward_passes(
    level: str, passes: int
) -> None:
    calls: list[str] = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            calls.append("forward")
            if out.requires_grad:
                out.register_hook(lambda grad: calls.append("backward"))
            return out

    with torch.random.fork_rng(devices=[]):
        model = Counted(4, 3)
        data = torch.randn(12, 4), torch.arange(12) % 3
    risk = empirical_risk(model, data)
    calls.clear()
    module.risk_means(risk, level=level)  # type: ignore[arg-type]
    assert calls.count("forward") == 3
    assert calls.count("backward") == 3 * passes


def test_the_model_is_left_as_it_was_and_progress_reaches_the_end() -> None:
    problem = CASES["batch_norm"]()
    problem.model.train()
    problem.model[1].eval()  # type: ignore[index,operator]
    before = {n: t.clone() for n, t in problem.model.state_dict().items()}
    modes = [m.training for m in problem.model.modules()]
    shares: list[float] = []
    found(problem, progress=lambda event: shares.append(event.fraction))
    assert [m.training for m in problem.model.modules()] == modes
    assert all(torch.equal(before[n], t) for n, t in problem.model.state_dict().items())
    assert all(p.grad is None for p in problem.model.parameters())
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_cancel_ends_it() -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        found(CASES["unequal"](), control=control)


def test_a_sketch_with_a_bin_for_each_entry_is_exact(weighting: str) -> None:
    problem = CASES["residual"]()
    for level in ("c", "ck"):
        plain = found(problem, weighting=weighting, level=level)
        sketched = found(problem, weighting=weighting, level=level, sketch=problem.dim)
        assert plain.sketch_error == 0.0
        for part, values in plain.eigenvalues().items():
            assert apart(sketched.eigenvalues()[part], values) < 1e-10


def test_inner_products_of_sketches_are_right_on_average_and_within_the_bound() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 130, generator=generator, dtype=torch.float64)
    x[[0, 12, 24]] *= 20  # a few that dominate, alike in place
    y += 0.5 * x
    products = []
    for _ in range(3000):
        sketch = count_sketch(130, 12, generator=generator)
        sx, sy = sketch(torch.stack([x, y]))
        products.append(float(sx @ sy))
    lengths = float(x.norm() * y.norm())
    errors = (torch.tensor(products) - float(x @ y)) / lengths
    rms = float(errors.square().mean().sqrt())
    assert abs(float(errors.mean())) < 4 * rms / 3000**0.5
    assert 0.5 * sketch.error < rms < 1.05 * sketch.error


def test_eigenvalues_from_sketches_err_no_more_than_is_said() -> None:
    problem = CASES["convolution"]()
    exact = found(problem, level="ck").eigenvalues()
    squares: dict[str, list[float]] = {part: [] for part in exact}
    for seed in range(40):
        means = found(problem, level="ck", sketch=16, seed=seed)
        for part, values in means.eigenvalues().items():
            n = max(len(values), len(exact[part]))
            pad = [
                torch.cat([v, v.new_zeros(n - len(v))]) for v in (values, exact[part])
            ]
            error = float((pad[0] - pad[1]).square().sum())
            squares[part].append(error / float(exact[part].sum()) ** 2)
    for part, found_errors in squares.items():
        assert (sum(found_errors) / 40) ** 0.5 < means.sketch_error, part


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("name", ["linear", "sure", "residual", "two_classes"])
def test_what_skipping_loses_stays_below_its_bound(name: str, share: float) -> None:
    case = solve(name)
    kept = keep_pairs(case.risk, share)
    delta, probs, labels = (
        case.gradients.delta,
        case.gradients.probs,
        case.gradients.labels,
    )
    left_out = ~kept.pairs[labels]  # (N, k)
    lost = float(delta[left_out].square().sum()) / len(labels)
    norms = [torch.linalg.matrix_norm(j, 2) for j in jacobians(case.problem)]
    assert lost <= float(max(norms)) ** 2 * kept.lost * (1 + 1e-9)
    assert kept.lost <= share * kept.total * (1 + 1e-9)
    assert kept.lost <= float((2 * probs)[left_out].sum()) / len(labels) + 1e-300
    trace = float((probs * (1 - probs)).sum()) / len(labels)
    assert kept.total == pytest.approx(trace, rel=1e-6)
    assert share > 0 or kept.lost == 0.0


def jacobians(problem: Problem) -> list[Tensor]:
    parameters = list(problem.parameters.values())
    found = []
    for x in problem.inputs:
        rows = [
            torch.autograd.grad(
                f, parameters, retain_graph=True, materialize_grads=True
            )
            for f in problem.model(x[None])[0]
        ]
        found.append(torch.stack([torch.cat([g.flatten() for g in r]) for r in rows]))
    return found


def test_skipped_pairs_are_zero_and_the_others_what_they_were() -> None:
    problem = CASES["sure"]()
    exact = found(problem, level="ck").cross
    means = found(problem, level="ck", skip=0.05)
    assert means.kept is not None
    assert means.cross is not None
    assert exact is not None
    pairs = means.kept.pairs
    assert 0 < int(pairs.sum()) < 9
    assert float(means.cross[~pairs].abs().sum()) == 0.0
    assert apart(means.cross[pairs], exact[pairs]) < 1e-14
    assert "of 9 pairs of classes are left out" in str(means.kept)


def test_chosen_classes_are_a_problem_of_their_own(weighting: str) -> None:
    problem = CASES["linear"]()
    chosen = [3, 1]
    model = nn.Linear(5, 2).double()
    with torch.no_grad():
        model.weight.copy_(problem.model.weight[chosen])  # type: ignore[index]
        model.bias.copy_(problem.model.bias[chosen])  # type: ignore[index]
    inputs = torch.cat([problem.inputs[problem.labels == c] for c in chosen])
    labels = torch.tensor([0] * 3 + [1] * 3)
    expected = class_means(model, (inputs, labels), weighting=weighting)
    batches = list(zip(*(part.split(1) for part in problem.data), strict=True))
    for data in (problem.data, batches):
        means = class_means(problem.model, data, weighting=weighting, classes=chosen)
        assert means.classes is not None
        assert means.classes.shape == (2, problem.dim)
        for part, values in expected.eigenvalues().items():
            assert apart(means.eigenvalues()[part], values) < 1e-10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weighting": "mean"}, "weighting is 'mean'; expected one of slide"),
        ({"level": "k"}, "level is 'k'; expected one of c, ck, G"),
        ({"skip": 0.1}, "skip leaves out pairs of classes, and level 'c' has none"),
        ({"skip": 1.0, "level": "ck"}, "the share of the trace to leave out is 1.0"),
        ({"sketch": 0}, "0 bins; expected at least 1"),
        ({"classes": [1]}, "give at least two different class numbers"),
        ({"classes": [0, 7]}, "class 7 was chosen and the network has 3 logits"),
    ],
)
def test_settings_that_cannot_be_get_a_sentence(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(WorkbenchError, match=words):
        found(CASES["unequal"](), **settings)


def test_means_that_do_not_fit_are_refused_with_a_way_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "device_memory", lambda _: 2**10)
    with pytest.raises(WorkbenchError, match=r"9 means of 83 numbers .* sketch="):
        found(CASES["unequal"](), level="ck")


def test_a_class_without_examples_and_a_frozen_network_get_a_sentence() -> None:
    problem = CASES["unequal"]()
    few = problem.labels < 2
    with pytest.raises(WorkbenchError, match=r"classes \[2\] have no example"):
        class_means(problem.model, (problem.inputs[few], problem.labels[few]))
    problem.model.requires_grad_(False)
    with pytest.raises(WorkbenchError, match="no parameter that requires a gradient"):
        found(problem)
