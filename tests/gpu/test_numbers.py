"""The numbers of a GPU against those of the CPU, in float64 and in float32.

Nobody has run these on every kind of card; they need torch, NumPy and SciPy alone but
for the last, which measures a checkpoint.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import CASES, Problem
from tests.oracles import apart
from workbench.curvature.gram.assembly import gram
from workbench.curvature.means.class_means import class_means
from workbench.curvature.products.operators import operators
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import top_eigenpairs

NAMES = [name for name in CASES if name != "recurrent"]  # cuDNN has no second order


def products(problem: Problem, kind: str, device: str, dtype: torch.dtype) -> Tensor:
    """The matrix times three seeded vectors, on the CPU in the end."""
    model = problem.model.to(dtype)
    op = operators(model, problem.data, batch_size=problem.batch_size, device=device)[
        kind
    ]
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(op.dim, 3, generator=generator, dtype=torch.float64)
    found = op.matmat(vectors.to(device, dtype))
    assert found.device.type == device
    return found.cpu().double()


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_the_cpu(name: str, kind: str) -> None:
    exact = products(CASES[name](), kind, "cpu", torch.float64)
    double = products(CASES[name](), kind, "cuda", torch.float64)
    single = products(CASES[name](), kind, "cuda", torch.float32)
    assert apart(double, exact) < 1e-9
    assert apart(single, exact) < 1e-4  # would be 1e-3 with TF32


@pytest.mark.parametrize("weighting", ["slide", "icml", "jmlr"])
@pytest.mark.parametrize("name", ["unequal", "residual", "attention"])
def test_class_means_are_those_of_the_cpu(name: str, weighting: str) -> None:
    def found(device: str) -> Tensor:
        problem = CASES[name]()
        means = class_means(
            problem.model,
            problem.data,
            weighting=weighting,
            level="ck",
            batch_size=problem.batch_size,
            device=device,
        )
        assert means.cross is not None
        assert means.cross.device.type == device
        return means.cross.cpu()

    assert apart(found("cuda"), found("cpu")) < 1e-9


@pytest.mark.parametrize("name", ["unequal", "convolution", "batch_norm", "layer_norm"])
def test_the_dual_has_the_eigenvalues_of_the_cpu(name: str) -> None:
    def found(device: str) -> Tensor:
        problem = CASES[name]()
        matrix = gram(problem.model, problem.data, device=device).matrix
        assert matrix.device.type == device
        assert matrix.dtype == torch.float64
        return torch.linalg.eigvalsh(matrix).cpu()

    assert apart(found("cuda"), found("cpu")) < 1e-9


def test_eigenpairs_and_density_stay_on_the_device_and_agree() -> None:
    values, traces = [], []
    for device in ("cpu", "cuda"):
        problem = CASES["residual"]()
        g = operators(problem.model, problem.data, device=device)["G"]
        pairs = top_eigenpairs(g, 5, tol=1e-8)
        assert pairs.vectors.device.type == device
        values.append(pairs.values.cpu())
        generator = torch.Generator().manual_seed(0)
        density = spectral_density(g, num_steps=8, num_probes=3, generator=generator)
        traces.append(density.trace)
    assert apart(values[1], values[0]) < 1e-8
    assert traces[1] == pytest.approx(traces[0], rel=1e-9)


def test_tf32_is_off_while_products_are_taken() -> None:
    """What the caller has switched on must not cost three digits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        exact = products(CASES["residual"](), "G", "cpu", torch.float64)
        single = products(CASES["residual"](), "G", "cuda", torch.float32)
        assert apart(single, exact) < 1e-4
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before[0]
        torch.backends.cudnn.allow_tf32 = before[1]


def test_memory_of_class_means_does_not_grow_with_the_examples() -> None:
    from tests.benchmarks.clock import peak_memory
    from tests.benchmarks.problems import more, small

    device = torch.device("cuda")
    problem = small(device, "made-up", quick=False, per_class=13)
    peaks = []
    for per_class in (702, 1404):
        grown = more(problem, per_class, "made-up")

        def work(grown: object = grown) -> None:
            class_means(grown.model, grown.batches, level="c", device="cuda")  # type: ignore[attr-defined]

        work()  # cuDNN's workspaces are there from now on
        peaks.append(peak_memory(work, device))
    assert peaks[1] is not None
    assert peaks[0] is not None
    assert peaks[1] <= 1.2 * peaks[0]
