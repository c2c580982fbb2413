"""Whatever people bring: right, or refused by a sentence, and left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.zoo.case import CASES, Case, Situation, quiet
from tests.zoo.judge import ASK, check_sentence, close, find, judge, truth
from tests.zoo.networks import FILES, SWEEP
from tests.zoo.oracle import Oracle, by_formula
from tests.zoo.photograph import changes, photograph
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.products.layerwise import read_layers
from workbench.errors import WorkbenchError

assert FILES
LATER = ("exact_spectrum", "dual_operator")  # made of what the others are made of
QUICK = ("mobilenet_v3", "bert", "gpt2")  # of the known architectures


def _marks(case: Case, entry: str) -> list[pytest.MarkDecorator]:
    """Slow, where others look at the same; only all together are they slow."""
    known = case.home == "architectures" and case.name not in QUICK
    same = entry in LATER and case.expect == "right"
    return [pytest.mark.slow] if known or same else []


HOMES = ("layers", "forwards", "hooks", "weights")
ALL = [
    pytest.param(name, entry, marks=_marks(case, entry), id=f"{name}-{entry}")
    for name, case in CASES.items()
    for entry in case.entries
]
SLOW = [(name, entry) for name, case in SWEEP.items() for entry in case.entries]
MEASURED = [name for name, case in CASES.items() if case.measured]
SETTINGS = wb.MeasureSettings(embedding="pca", num_drawn=0)


def answered(name: str, entry: str) -> None:
    """Ask one entry about one case, and judge."""
    case = find(name)
    situation = case.build()
    before = photograph(situation)
    with quiet(), case.around():
        found = ASK[entry](situation)
    changed = changes(before, photograph(situation))
    with quiet():
        judge(case, entry, found)
    assert not changed, f"no longer as it was: {changed}"


@pytest.mark.parametrize(("name", "entry"), ALL)
def test_it_is_right_or_refused_and_changes_nothing(name: str, entry: str) -> None:
    answered(name, entry)


READ = [
    name
    for name, case in CASES.items()
    if case.expect == "right" and case.home in HOMES
]


@pytest.mark.parametrize("name", READ)
def test_it_is_right_layer_by_layer_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if there were many examples; what cannot be read goes as above."""
    situation = find(name).build()
    with quiet():
        risk = empirical_risk(situation.model, situation.data, **situation.kwargs)
        monkeypatch.setattr("workbench.curvature.products.layerwise.SMALL", 0)
        readable = read_layers(risk) is not None
    if readable:
        answered(name, "operators")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "entry"), SLOW)
def test_a_known_architecture_is_right_or_refused(name: str, entry: str) -> None:
    answered(name, entry)


class Picture(nn.Module):
    """A network that takes its inputs as images (B, 1, 1, d)."""

    def __init__(self, inside: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inside, self.shape = inside, shape

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.reshape(len(x), *self.shape))


def as_pictures(case: Case) -> tuple[nn.Module, Tensor, Tensor]:
    """The network of a case in float32, and its examples as images."""
    situation = case.build()
    x, y = situation.data
    model = Picture(situation.model, tuple(x.shape[1:])).float()
    return model, x.float().reshape(len(x), 1, 1, -1), y


@pytest.mark.parametrize("name", MEASURED)
def test_a_study_of_a_checkpoint_holds_the_right_spectra(name: str) -> None:
    case = CASES[name]
    model, x, y = as_pictures(case)
    with quiet():
        checkpoint = wb.train(
            model, wb.Dataset.from_tensors(x, y), wb.TrainConfig(epochs=0)
        )
    module, data = checkpoint.module, checkpoint.data
    assert module is not None
    assert data is not None
    before = photograph(Situation(module, (data.images, data.labels)))
    with quiet(), case.around():
        study = wb.measure(checkpoint, SETTINGS)
    after = photograph(Situation(module, (data.images, data.labels)))
    check_study(study, _oracle_in_double(case), case)
    assert changes(before, after) == []


def _oracle_in_double(case: Case) -> Oracle:
    """The truth of the network in float32, in float64."""
    situation = case.build()
    x, y = situation.data
    model = (situation.truth or situation.model).float().double()
    return Oracle(lambda: model, (x.float().double(), y), hess=case.hess_oracle)


def check_study(study: wb.Study, oracle: Oracle, case: Case) -> None:
    """Each spectrum's eigenvalues are those of the dense matrix."""
    g = oracle.g
    right = {"G": g}
    if case.hess_oracle != "none":
        eye = torch.eye(oracle.dim, dtype=torch.float64)
        right["H"] = oracle.h_times(eye)
        right["Hess"] = g + right["H"]
    size = max(float(m.abs().max()) for m in right.values())
    for kind, matrix in right.items():
        found = torch.from_numpy(study.spectra[kind].eigenvalues)
        values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0)
        zeros = torch.zeros(len(found), dtype=values.dtype)
        near = torch.cat([values, zeros])  # the dual leaves the zeros out
        distance = (found[:, None] - near).abs().min(1).values
        assert float(distance.max()) <= 1e-4 * size, f"{kind}: {found[:3]}"
        largest = max(float(values[0]), 0.0) if len(found) < len(values) else values[0]
        assert abs(float(found[0]) - float(largest)) <= 1e-4 * size, kind


def asked_for_a_study(
    situation: Situation, settings: wb.MeasureSettings = SETTINGS
) -> wb.Study | WorkbenchError:
    """The study of a network and data, or why there is none."""
    measure: Any = wb.measure
    try:
        return measure(
            situation.model, situation.data, settings=settings, **situation.kwargs
        )
    except WorkbenchError as error:
        return error


DIRECT = (
    "float32",
    "global_context",
    "inputs_by_name",
    "batches_by_name",
    "words",
    "logits_by_a_function",
    "batches_of_different_lengths",
    "images_of_different_sizes",
    "language_model_with_ignored_tokens",
    "language_model_of_different_lengths",
    "segmentation",
    "bfloat16",
    "loader",
    "parameters_by_a_glob",
    "a_class_without_an_example",
    "loader_that_shuffles_and_drops",
    "the_same_logits_for_all",
    "sentences_as_long_as_there_are_words",
    "batches_that_overlap",
    "a_state_left_from_the_last_batch",
)


@pytest.mark.parametrize("name", DIRECT)
def test_a_study_of_any_network_holds_the_right_spectra(name: str) -> None:
    case = CASES[name]
    situation = case.build()
    before = photograph(situation)
    study = asked_for_a_study(situation)
    assert changes(before, photograph(situation)) == []
    if isinstance(study, WorkbenchError):
        check_sentence(study)
        assert case.expect == "refused" or "class_means" in case.but, study
    else:
        assert case.expect != "refused"
        check_study(study, truth(name), case)


@pytest.mark.parametrize("method", ["dense", "dual", "krylov", "streamed"])
def test_a_study_of_different_lengths_is_right_in_each_way(method: str) -> None:
    case = CASES["batches_of_different_lengths"]
    settings = wb.MeasureSettings(embedding="pca", num_drawn=18, method=method)
    study = asked_for_a_study(case.build(), settings)
    assert isinstance(study, wb.Study)
    check_study(study, truth(case.name), case)
    assert len(study.embedding.points) == 18 + 9 + 3 + 1


def test_a_study_tells_the_loss_of_the_function_that_it_is_of() -> None:
    """Which is another one where nobody asks for a gradient."""
    case = CASES["rounds_where_no_gradient_is_asked_for"]
    situation = case.build()
    x, y = situation.data
    study = asked_for_a_study(situation)
    assert isinstance(study, wb.Study)
    loss = nn.functional.cross_entropy(situation.model(x), y)
    assert abs(study.run["loss"] - float(loss.detach())) < 1e-12


def test_the_oracles_parts_add_up_to_torchs_own_hessian() -> None:
    for name in ("batch_norm", "einsum", "attention", "tied_and_transposed"):
        situation = CASES[name].build()
        model, (x, y) = situation.model.eval(), situation.data
        parameters = list(model.parameters())
        oracle = Oracle(lambda model=model: model, (x, y))
        with by_formula():
            loss = nn.functional.cross_entropy(model(x), y)
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        v = torch.randn(oracle.dim, 1, dtype=torch.float64)
        flat = torch.cat([g.flatten() for g in first])
        second = torch.autograd.grad(flat @ v[:, 0], parameters)
        product = torch.cat([g.flatten() for g in second])
        close((oracle.g_times(v) + oracle.h_times(v))[:, 0], product, 1e-11, name)
