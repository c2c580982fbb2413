"""Class means where examples have weights of their own, and where tokens are examples.

Held against loops over plain autograd, with the weights from torch's own loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests import oracles
from tests.oracles import apart, eigenvalues
from tests.zoo.oracle import Oracle
from workbench.errors import WorkbenchError
from workbench.measurement import MeasureSettings

CROSS = nn.CrossEntropyLoss
WEIGHT = torch.tensor([0.5, 2.0, 1.3], dtype=torch.float64)
PARTS = {
    "slide": ("G_class", "G_cross", "G_within"),
    "icml": ("G0", "G1", "G2", "G3"),
    "jmlr": ("G_class", "G_cross", "G_diag", "G_within"),
}
MEANS = {"slide": "G_means", "icml": "G12", "jmlr": "G_means"}


class Network(nn.Module):
    """Logits (B, 3), or (B, 3, T) of sequences of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.o(torch.tanh(self.a(x)))
        if f.ndim == 2:
            return f
        f = f + f.mean(1, keepdim=True)  # tokens see each other
        return f.movedim(-1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    loss: nn.CrossEntropyLoss
    shapes: tuple[tuple[int, ...], ...]  # of the labels of each batch
    ignored: bool = False  # whether some labels are -100


def _each(**options: Any) -> nn.CrossEntropyLoss:
    return CROSS(**options)


ALONE, TOKENS = ((5,), (1,), (4,)), ((2, 3), (3, 3))
LENGTHS, PIXELS = ((2, 4), (1, 2), (3, 3)), ((2, 2, 2), (3, 2, 2))
SITUATIONS = {
    "plain": Situation(_each(), ALONE),
    "weighted": Situation(_each(weight=WEIGHT), ALONE),
    "summed": Situation(_each(reduction="sum"), ALONE),
    "weighted and summed": Situation(_each(weight=WEIGHT, reduction="sum"), ALONE),
    "smoothed": Situation(_each(label_smoothing=0.2), ALONE),
    "smoothed and weighted": Situation(
        _each(label_smoothing=0.2, weight=WEIGHT), ALONE
    ),
    "ignoring": Situation(_each(), ALONE, ignored=True),
    "everything": Situation(
        _each(label_smoothing=0.2, weight=WEIGHT, reduction="sum"), ALONE, ignored=True
    ),
    "tokens": Situation(_each(), TOKENS),
    "tokens, weighted": Situation(_each(weight=WEIGHT), TOKENS),
    "tokens, ignoring": Situation(_each(), TOKENS, ignored=True),
    "tokens, everything": Situation(
        _each(label_smoothing=0.2, weight=WEIGHT), TOKENS, ignored=True
    ),
    "pixels, weighted": Situation(_each(weight=WEIGHT), PIXELS),
    "lengths": Situation(_each(), LENGTHS),
    "lengths, everything": Situation(
        _each(label_smoothing=0.1, weight=WEIGHT), LENGTHS, ignored=True
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    model: nn.Module
    data: list[tuple[Tensor, Tensor]]
    loss: nn.CrossEntropyLoss
    g: Tensor
    gradients: oracles.Gradients

    def parts(self, weighting: str) -> oracles.Parts:
        return oracles.parts(self.gradients, weighting)


@cache
def solve(name: str) -> Solved:
    situation = SITUATIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, data, num = Network().double(), [], 0
        for shape in situation.shapes:
            y = (torch.arange(num, num + torch.Size(shape).numel()) % 3).view(shape)
            num += y.numel()
            if situation.ignored:
                y.view(-1)[0] = -100
            data.append((torch.randn(*shape, 2, dtype=torch.float64), y))
    g = Oracle(lambda: model, data, loss=situation.loss).g
    gradients = oracles.weighted_gradients(model, data, situation.loss)
    return Solved(model, data, situation.loss, g, gradients)


@pytest.fixture(params=SITUATIONS)
def case(request: pytest.FixtureRequest) -> Solved:
    return solve(request.param)


# each way of measuring once, and what is hardest; all pairs are slow
QUICK = {
    ("everything", "dense"),
    ("tokens, everything", "dual"),
    ("lengths, everything", "krylov"),
    ("lengths", "streamed"),
}
METHODS = ("dense", "dual", "krylov", "streamed")


@pytest.fixture(
    params=[
        pytest.param(
            (name, method), marks=[] if (name, method) in QUICK else pytest.mark.slow
        )
        for name in SITUATIONS
        for method in METHODS
    ],
    ids=", ".join,
)
def measured(request: pytest.FixtureRequest) -> tuple[Solved, str]:
    """Each situation in each way, most of them in the slow tests only."""
    name, method = request.param
    return solve(name), method


@pytest.fixture(params=PARTS)
def weighting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_oracles_parts_sum_to_g(case: Solved, weighting: str) -> None:
    total = sum(case.parts(weighting).matrices.values())
    assert isinstance(total, Tensor)
    assert apart(total, case.g) < 1e-11


@pytest.mark.parametrize("level", ["c", "ck", "G"])
def test_means_are_weighted_as_examples_are_in_g(
    case: Solved, weighting: str, level: Any
) -> None:
    found = wb.class_means(
        case.model, case.data, loss=case.loss, weighting=weighting, level=level
    )
    right = case.parts(weighting)
    assert apart(found.everything, right.everything) < 1e-10
    if found.classes is not None:
        assert apart(found.classes, right.classes) < 1e-10
    if found.diagonal is not None:
        assert apart(found.diagonal, right.cross.diagonal().T) < 1e-10
    if found.cross is not None:
        assert apart(found.cross, right.cross) < 1e-10
    for name, values in found.eigenvalues().items():
        matrix = _part(right, name, weighting)
        exact = eigenvalues(matrix)[: len(values)]
        assert apart(values[: len(exact)], exact) < 1e-9, name


def _part(right: oracles.Parts, name: str, weighting: str) -> Tensor:
    if name != MEANS[weighting]:
        return right.matrices[name]
    return sum(m for part, m in right.matrices.items() if part != right.within_part)  # type: ignore[return-value]


def test_pairs_that_are_left_out_hold_what_is_told(case: Solved) -> None:
    found = wb.class_means(case.model, case.data, loss=case.loss, level="ck", skip=0.05)
    assert found.kept is not None
    p = case.gradients.probs
    eye = torch.eye(3, dtype=torch.float64)
    sizes = torch.zeros(3, 3, dtype=torch.float64)
    for i, c in enumerate(case.gradients.labels.tolist()):
        a = p[i].sqrt()[:, None] * (eye - p[i])
        sizes[c] += case.gradients.weight[i] * a.square().sum(1)
    assert found.kept.total == pytest.approx(float(sizes.sum()))
    assert found.kept.lost == pytest.approx(float(sizes[~found.kept.pairs].sum()))


def test_the_dual_has_the_parts_and_knock_outs(case: Solved, weighting: str) -> None:
    found = wb.gram(case.model, case.data, loss=case.loss)
    right = case.parts(weighting)

    def compare(values: Tensor, matrix: Tensor, what: str) -> None:
        exact, size = eigenvalues(matrix), float(case.g.trace())
        num = max(len(values), len(exact))
        both = [torch.cat([v, v.new_zeros(num - len(v))]) for v in (values, exact)]
        both = [v.sort(descending=True).values for v in both]
        assert float((both[0] - both[1]).abs().max()) < 1e-9 * size, what

    compare(found.eigenvalues(), case.g, "G")
    for name in PARTS[weighting]:
        compare(found.part(name, weighting), right.matrices[name], name)
    lowered = case.g - right.matrices[right.class_part]
    compare(found.knock_out(weighting), lowered, "subtract")
    left, sizes, _ = torch.linalg.svd(right.classes.T, full_matrices=False)
    kept = left[:, sizes > 1e-10 * float(sizes[0])]
    out = torch.eye(len(case.g), dtype=torch.float64) - kept @ kept.T
    compare(found.knock_out(weighting, how="project"), out @ case.g @ out, "project")
    values, vectors = torch.linalg.eigh(case.g)
    u = vectors.flip(1)[:, :2]
    overlaps = found.overlaps(2, weighting)
    cosines = (right.classes @ u / right.classes.norm(dim=1, keepdim=True)).square().T
    assert apart(overlaps.values, values.flip(0)[:2]) < 1e-9
    assert apart(overlaps.classes, cosines) < 1e-7
    assert apart(overlaps.span, (kept.T @ u).square().sum(0)) < 1e-7


def test_inner_products_of_chosen_gradients_and_means(
    case: Solved, weighting: str
) -> None:
    chosen = (case.gradients.weight > 0).nonzero().flatten()[[0, 2, 5]]
    right = case.parts(weighting)
    vectors = torch.cat(
        [
            case.gradients.delta[chosen].flatten(0, 1),
            right.cross.flatten(0, 1),
            right.classes,
            right.everything[None],
        ]
    )
    found = wb.gram(case.model, case.data, loss=case.loss).products(chosen, weighting)
    assert apart(found, vectors @ vectors.T) < 1e-9


def test_a_study_holds_the_same_parts(measured: tuple[Solved, str]) -> None:
    case, method = measured
    settings = MeasureSettings(
        method=method, embedding="pca", num_drawn=18, device="cpu", tol=1e-7
    )
    study = wb.measure(case.model, case.data, settings, loss=case.loss)
    exact, size = eigenvalues(case.g), float(case.g.trace())
    values = torch.from_numpy(study.spectra["G"].eigenvalues)
    assert float((values - exact[: len(values)]).abs().max()) < 1e-6 * size
    assert study.spectra["G"].trace == pytest.approx(float(case.g.trace()))
    for name, levels in study.levels.items():
        right = case.parts(name)
        for part in PARTS[name]:
            own = torch.from_numpy(levels.parts[part])
            whole = eigenvalues(right.matrices[part])[: len(own)]
            assert float((own[: len(whole)] - whole).abs().max()) < 1e-5 * size, part
            error = levels.trace_error.get(part, 0.0) + 1e-6 * size
            trace = float(right.matrices[part].trace())
            assert abs(levels.trace[part] - trace) <= 3 * error, part
        lowered = eigenvalues(case.g - right.matrices[right.class_part])
        own = torch.from_numpy(levels.subtracted)
        assert float((own - lowered[: len(own)]).abs().max()) < 1e-5 * size
        everything = float(right.everything.square().sum())
        mass = levels.kept[3] * case.g.trace() / everything
        total = float(sum(case.gradients.weight)) * (3 if name == "slide" else 2)
        if name != "jmlr":
            assert float(mass) == pytest.approx(total, rel=1e-5)
    assert set(study.levels) == ({"icml"} if method == "streamed" else set(PARTS))


def test_the_pictures_points_are_of_the_gradients(
    measured: tuple[Solved, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, method = measured
    seen: list[Tensor] = []

    def embed(gram: Any, **_: Any) -> Any:
        seen.append(torch.from_numpy(gram))
        return gram[:, :2].copy()

    monkeypatch.setattr("workbench.measurement.picture.embed", embed)
    for weighting in ("icml", "jmlr"):
        settings = MeasureSettings(
            method=method, embedding="pca", num_drawn=18, weighting=weighting
        )
        study = wb.measure(case.model, case.data, settings, loss=case.loss)
        picture = study.embedding
        grads, right = case.gradients, case.parts(weighting)
        single = picture.level == 0
        own = torch.from_numpy(picture.example[single])
        k = torch.from_numpy(picture.potential_class[single])
        assert (grads.labels[own].numpy() == picture.true_class[single]).all()
        assert (grads.weight[own] > 0).all()
        delta = grads.delta[own, k]
        if weighting == "jmlr":
            delta = delta / grads.probs[own, k].sqrt()[:, None]
        vectors = torch.cat(
            [delta, right.cross.flatten(0, 1), right.classes, right.everything[None]]
        )
        exact = vectors @ vectors.T
        sketched = bool(picture.note)
        assert sketched == (method == "streamed" or _mixed(case, method))
        root = exact.diagonal().sqrt()
        bound = 0.1 * root[:, None] * root if sketched else 1e-6 * exact.abs().max()
        assert ((seen[-1] - exact).abs() <= bound).all()
        assert picture.num_total == 3 * len(grads.labels)


def _mixed(case: Solved, method: str) -> bool:
    """Whether examples have several shapes, and no dual has their inner products."""
    return len({x.shape[1:] for x, _ in case.data}) > 1 and method != "dual"


@pytest.mark.parametrize("name", ["everything", "tokens, everything", "lengths"])
def test_the_study_says_the_loss_and_the_accuracy(name: str) -> None:
    case = solve(name)
    settings = MeasureSettings(embedding="pca", num_drawn=0)
    study = wb.measure(case.model, case.data, settings, loss=case.loss)
    outputs = [case.model(x).detach() for x, _ in case.data]
    kept = [y != -100 for _, y in case.data]
    flat = torch.cat([f.flatten(2).transpose(1, 2).flatten(0, 1) if f.ndim > 2 else f
                      for f in outputs])  # fmt: skip
    labels = torch.cat([y.flatten() for _, y in case.data])
    right = torch.cat([(f.argmax(1) == y)[k] for f, (_, y), k in
                       zip(outputs, case.data, kept, strict=True)])  # fmt: skip
    assert study.run["loss"] == pytest.approx(float(case.loss(flat, labels)))
    assert study.run["accuracy"] == pytest.approx(float(right.double().mean()))
    assert study.run["num_examples"] == len(labels)


def test_what_does_not_count_has_no_inner_products() -> None:
    case = solve("ignoring")
    found = wb.gram(case.model, case.data, loss=case.loss)
    with pytest.raises(WorkbenchError, match="1 of the 2 chosen examples") as error:
        found.products(torch.tensor([0, 1]))
    assert len(str(error.value)) <= 300


def test_a_class_of_weight_zero_has_no_mean() -> None:
    case = solve("plain")
    loss = CROSS(weight=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(WorkbenchError, match=r"classes \[1\] have no example") as error:
        wb.class_means(case.model, case.data, loss=loss)
    assert len(str(error.value)) <= 300
    assert wb.gram(case.model, case.data, loss=loss).eigenvalues()[0] > 0
    smoothed = CROSS(weight=torch.tensor([1.0, 0.0, 1.0]), label_smoothing=0.1)
    assert wb.class_means(case.model, case.data, loss=smoothed).classes is not None


def _shares(x: Tensor) -> Tensor:
    return torch.rand(len(x), 3, dtype=torch.float64).softmax(1)


NO_CLASSES: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "soft labels": (CROSS(), _shares),
    "squared error": ("mse", _shares),
    "yes or no": ("bce", _shares),
}
ASKED: dict[str, Callable[..., Any]] = {
    "class_means": wb.class_means,
    "measure": wb.measure,
    "part": lambda *given, **options: wb.gram(*given, **options).part("G0", "icml"),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", NO_CLASSES)
def test_without_class_numbers_there_are_no_class_means(name: str, asked: str) -> None:
    loss, targets = NO_CLASSES[name]
    model, (x, _) = solve("plain").model, solve("plain").data[0]
    with pytest.raises(WorkbenchError, match=r"a class number (to|for) each") as error:
        ASKED[asked](model, (x, targets(x)), loss=loss)
    assert len(str(error.value)) <= 300


def test_classes_are_not_chosen_among_tokens() -> None:
    case = solve("tokens")
    with pytest.raises(WorkbenchError, match="expected one class number an example"):
        wb.class_means(case.model, case.data, loss=case.loss, classes=[0, 1])


def test_a_measurement_does_not_go_on_with_another_loss(tmp_path: Any) -> None:
    case = solve("plain")
    settings = MeasureSettings(embedding="pca", num_drawn=0)
    from workbench.measurement.stage_store import fingerprint
    from workbench.measurement.subject import subject_of

    def key(loss: Any) -> str:
        return fingerprint(subject_of(case.model, case.data, loss=loss), settings)

    losses = [
        "cross_entropy",
        CROSS(weight=WEIGHT),
        CROSS(weight=WEIGHT + 1e-9),
        CROSS(label_smoothing=0.1),
        CROSS(reduction="sum"),
        CROSS(ignore_index=1),
    ]
    assert len({key(loss) for loss in losses}) == len(losses)
    assert key(CROSS(weight=WEIGHT)) == key(CROSS(weight=WEIGHT.clone()))


@pytest.mark.parametrize("name", ["weighted", "ignoring", "tokens", "summed"])
def test_no_last_layer_is_told_of_where_examples_are_weighed(name: str) -> None:
    """G of its weights would be that of the plain mean."""
    case = solve(name)
    settings = MeasureSettings(embedding="pca", num_drawn=0)
    study = wb.measure(case.model, case.data, settings, loss=case.loss)
    assert study.last_layer is None
    assert "or the loss weights examples" in study.plan
    plain = solve("plain")
    assert wb.measure(plain.model, plain.data, settings).last_layer is not None
