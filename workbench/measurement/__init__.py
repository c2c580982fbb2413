"""A measurement: from a network and its data to a `Study`.

The names below are loaded when first used: a page starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.measurement.measurement import measure
    from workbench.measurement.settings import MeasureSettings

__all__ = ["MeasureSettings", "measure"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "measurement" if name == "measure" else "settings"
    return getattr(import_module(f"{__name__}.{home}"), name)
