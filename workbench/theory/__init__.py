"""Closed forms to compare a measured spectrum with. NumPy only, no torch."""

from workbench.theory.collapsed import Collapse, collapse, collapse_of
from workbench.theory.eigenvalues import Eigenvalues
from workbench.theory.logistic import logistic_regression
from workbench.theory.ranks import gauss_newton_rank, residual_rank

__all__ = [
    "Collapse",
    "Eigenvalues",
    "collapse",
    "collapse_of",
    "gauss_newton_rank",
    "logistic_regression",
    "residual_rank",
]
