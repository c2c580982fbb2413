"""Closed forms to compare a measured spectrum with. NumPy only, no torch."""

from workbench.theory.collapsed import (
    Collapse,
    collapse,
    collapse_of,
    collapse_of_study,
)
from workbench.theory.eigenvalues import Eigenvalues
from workbench.theory.logistic import logistic_regression
from workbench.theory.ranks import gauss_newton_rank, residual_rank

__all__ = [
    "Collapse",
    "Eigenvalues",
    "collapse",
    "collapse_of",
    "collapse_of_study",
    "gauss_newton_rank",
    "logistic_regression",
    "residual_rank",
]
