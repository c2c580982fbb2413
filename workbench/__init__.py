"""See why the spectrum of a deep network's Hessian has outliers, and break it.

The names below are loaded when first used: ``import workbench`` is instant and does
not import torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Checkpoint": "workbench.training.checkpoint",
    "ClassMeans": "workbench.curvature.means",
    "Dataset": "workbench.training.data",
    "EigenPairs": "workbench.linalg.lanczos",
    "Gram": "workbench.curvature.dual",
    "MeasureSettings": "workbench.measurement",
    "SpectralDensity": "workbench.linalg.density",
    "Study": "workbench.study",
    "TrainConfig": "workbench.training.train",
    "Workbench": "workbench.ui.app",
    "WorkbenchError": "workbench.errors",
    "build_model": "workbench.training.models",
    "choose_classes": "workbench.curvature.subset",
    "class_means": "workbench.curvature.means",
    "density_in_parameters": "workbench.curvature.rows",
    "dual_operator": "workbench.curvature.rows",
    "exact_spectrum": "workbench.curvature.exact",
    "gram": "workbench.curvature.gram",
    "hutchpp": "workbench.linalg.trace",
    "inverse_product": "workbench.linalg.trace",
    "keep_freed_memory": "workbench.heap",
    "load_checkpoint": "workbench.training.checkpoint",
    "load_data": "workbench.training.data",
    "load_study": "workbench.study",
    "measure": "workbench.measurement",
    "operators": "workbench.curvature.operators",
    "plan": "workbench.measuring.plan",
    "spectral_density": "workbench.linalg.density",
    "top_eigenpairs": "workbench.linalg.lanczos",
    "train": "workbench.training.train",
    "xdiag": "workbench.linalg.trace",
    "xtrace": "workbench.linalg.trace",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
