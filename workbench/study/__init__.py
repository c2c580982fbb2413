"""A study: all that one measurement found, and what can be told of it. No torch."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`Study`, `load_study` and the other records, when first asked for."""
    from workbench.study import records

    try:
        return getattr(records, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
