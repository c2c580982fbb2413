"""How to measure."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.embedding import check_names
from workbench.errors import WorkbenchError
from workbench.study import WEIGHTINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """How a checkpoint is measured."""

    weighting: str = "icml"  # convention of the averages: slide, icml or jmlr
    embedding: str = "umap"  # umap, tsne or pca
    metric: str = "cosine"  # distance of two gradients: cosine or euclidean
    num_drawn: int = 1500  # single gradients in the picture, about
    num_eigenvalues: int | None = None  # leading ones; None: C + 7
    tol: float = 1e-3  # largest residual over the largest eigenvalue; for H 20 times it
    num_steps: int = 16  # Lanczos steps a probe of the density
    num_probes: int = 3  # probes of the density: their spread is its error bar
    exact_limit: int = 5_000  # min(P, N (C - 1)) up to which all of G is had exactly
    exact_hessian: bool = True  # all of Hess and H too, where it takes seconds
    moments: bool = True  # the earlier epochs too, where their weights were kept
    max_minutes: float | None = None  # refuse what would take longer; None: nothing
    seed: int = 0  # of probes, start vectors, the drawn sample and the embedding
    device: str = "auto"  # auto, cpu or cuda; mps has no float64 and becomes cpu


def check_settings(settings: MeasureSettings) -> None:
    """Raise a `WorkbenchError` where a value is of no use."""
    if settings.weighting not in WEIGHTINGS:
        raise WorkbenchError(
            f"measure: there is no weighting {settings.weighting!r}; choose one of "
            f"{', '.join(WEIGHTINGS)}."
        )
    check_names(settings.embedding, settings.metric)
    for name, least in (
        ("num_drawn", 0),
        ("num_eigenvalues", 1),
        ("num_steps", 2),
        ("num_probes", 2),
        ("exact_limit", 0),
        ("seed", 0),
    ):
        value = getattr(settings, name)
        if name == "num_eigenvalues" and value is None:
            continue
        if not isinstance(value, int) or value < least:
            raise WorkbenchError(
                f"measure: {name} is {value!r}; give a whole number from {least}."
            )
    limit = settings.max_minutes
    if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
        raise WorkbenchError(
            f"measure: max_minutes is {limit!r}; give a number above 0, or None."
        )
    if not isinstance(settings.tol, (int, float)) or not 0 < settings.tol < 1:
        raise WorkbenchError(
            f"measure: tol is {settings.tol!r}; give a number between 0 and 1."
        )
