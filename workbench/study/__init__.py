"""A study: all results of one measurement, and what follows from them. No torch."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Load `Study`, `load_study` and the other records on first use."""
    try:
        return getattr(import_module(f"{__name__}.records"), name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
