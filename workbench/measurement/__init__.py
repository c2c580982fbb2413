"""A measurement: from a network and its data to a `Study`."""

from workbench.measurement.measurement import measure
from workbench.measurement.settings import MeasureSettings

__all__ = ["MeasureSettings", "measure"]
