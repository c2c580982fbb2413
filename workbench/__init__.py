"""See why the spectrum of a deep network's Hessian has outliers, and break it.

The names below are loaded when first used: ``import workbench`` is instant and does
not import torch.
"""

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Checkpoint": "workbench.training.checkpoint",
    "ClassMeans": "workbench.curvature.means.class_means",
    "Dataset": "workbench.training.data",
    "EigenPairs": "workbench.linalg.lanczos",
    "Gram": "workbench.curvature.gram.gram",
    "MeasureSettings": "workbench.measurement.measurement",
    "SpectralDensity": "workbench.linalg.density",
    "Study": "workbench.study.records",
    "SweepSettings": "workbench.sweeps.settings",
    "TrainConfig": "workbench.training.train",
    "Workbench": "workbench.ui.app",
    "WorkbenchError": "workbench.errors",
    "as_operator": "workbench.linalg.operator",
    "build_model": "workbench.training.models",
    "choose_classes": "workbench.curvature.problem.class_subset",
    "class_means": "workbench.curvature.means.class_means",
    "density_in_parameters": "workbench.curvature.products.dual",
    "dual_operator": "workbench.curvature.products.dual",
    "exact_spectrum": "workbench.curvature.gram.exact",
    "gram": "workbench.curvature.gram.assembly",
    "hutchpp": "workbench.linalg.trace",
    "inverse_product": "workbench.linalg.trace",
    "keep_freed_memory": "workbench.machine.malloc",
    "load_checkpoint": "workbench.training.checkpoint",
    "load_data": "workbench.training.data",
    "load_study": "workbench.study.records",
    "measure": "workbench.measurement.measurement",
    "operators": "workbench.curvature.products.operators",
    "plan": "workbench.measurement.plan",
    "spectral_density": "workbench.linalg.density",
    "sweep": "workbench.sweeps.sweep",
    "top_eigenpairs": "workbench.linalg.lanczos",
    "train": "workbench.training.train",
    "xdiag": "workbench.linalg.trace",
    "xtrace": "workbench.linalg.trace",
}
__all__ = sorted(_HOME)  # `__init__.pyi` tells type checkers the same


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__


def _draw_studies() -> None:
    """In a notebook, let a study in the last line of a cell draw itself.

    IPython asks whoever registered for a type. So a `Study` stays a value that knows no
    screen, and what draws it is imported when the first one is shown.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if shell and hasattr(shell, "kernel"):  # a terminal draws nothing
        formatter = shell.display_formatter.mimebundle_formatter
        formatter.for_type_by_name("workbench.study.records", "Study", _pictures)


def _pictures(study: Any) -> Any:
    return import_module("workbench.ui.notebook").pictures(study)


_draw_studies()
