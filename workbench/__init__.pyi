"""The public names, for editors and type checkers; `__init__.py` loads them."""

from workbench.curvature.gram.assembly import gram as gram
from workbench.curvature.gram.exact import exact_spectrum as exact_spectrum
from workbench.curvature.gram.gram import Gram as Gram
from workbench.curvature.means.class_means import ClassMeans as ClassMeans
from workbench.curvature.means.class_means import class_means as class_means
from workbench.curvature.problem.class_subset import choose_classes as choose_classes
from workbench.curvature.products.dual import (
    density_in_parameters as density_in_parameters,
)
from workbench.curvature.products.dual import dual_operator as dual_operator
from workbench.curvature.products.operators import operators as operators
from workbench.errors import WorkbenchError as WorkbenchError
from workbench.linalg.density import SpectralDensity as SpectralDensity
from workbench.linalg.density import spectral_density as spectral_density
from workbench.linalg.lanczos import EigenPairs as EigenPairs
from workbench.linalg.lanczos import top_eigenpairs as top_eigenpairs
from workbench.linalg.operator import as_operator as as_operator
from workbench.linalg.trace import hutchpp as hutchpp
from workbench.linalg.trace import inverse_product as inverse_product
from workbench.linalg.trace import xdiag as xdiag
from workbench.linalg.trace import xtrace as xtrace
from workbench.machine.malloc import keep_freed_memory as keep_freed_memory
from workbench.measurement.measurement import MeasureSettings as MeasureSettings
from workbench.measurement.measurement import measure as measure
from workbench.measurement.plan import plan as plan
from workbench.study.records import Study as Study
from workbench.study.records import load_study as load_study
from workbench.sweeps.settings import SweepSettings as SweepSettings
from workbench.sweeps.sweep import sweep as sweep
from workbench.training.checkpoint import Checkpoint as Checkpoint
from workbench.training.checkpoint import load_checkpoint as load_checkpoint
from workbench.training.data import Dataset as Dataset
from workbench.training.data import load_data as load_data
from workbench.training.models import build_model as build_model
from workbench.training.train import TrainConfig as TrainConfig
from workbench.training.train import train as train
from workbench.ui.app import Workbench as Workbench

__version__: str
