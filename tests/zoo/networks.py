"""All cases of the zoo, by name: ``CASES``, and ``SWEEP``, which takes minutes."""

from tests.zoo import (
    architectures,
    forwards,
    layers,
    loaders,
    numbers,
    sequences,
    surroundings,
    wrapped,
)
from tests.zoo.architectures import SWEEP
from tests.zoo.case import CASES

FILES = (
    architectures,
    forwards,
    layers,
    loaders,
    numbers,
    sequences,
    surroundings,
    wrapped,
)
__all__ = ["CASES", "FILES", "SWEEP"]
