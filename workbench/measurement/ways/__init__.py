"""The methods of measuring, one file each."""

from workbench.measurement.ways.dense import DenseWay
from workbench.measurement.ways.dual import DualWay
from workbench.measurement.ways.krylov import KrylovWay
from workbench.measurement.ways.streamed import StreamedWay
from workbench.measurement.ways.way import Bound, Counted, Way

__all__ = ["WAYS", "Bound", "Counted", "Way"]

WAYS: tuple[type[Way], ...] = (DenseWay, DualWay, KrylovWay, StreamedWay)
