"""All cases of the zoo, by name: ``CASES``, and ``SWEEP``, which takes minutes."""

from tests.zoo import (
    architectures,
    forwards,
    hooks,
    inputs,
    kept,
    later,
    layers,
    loaders,
    numbers,
    reported,
    sequences,
    surroundings,
    weights,
    wrapped,
)
from tests.zoo.architectures import SWEEP
from tests.zoo.case import CASES

FILES = (
    hooks,
    inputs,
    kept,
    later,
    weights,
    architectures,
    forwards,
    layers,
    loaders,
    numbers,
    reported,
    sequences,
    surroundings,
    wrapped,
)
__all__ = ["CASES", "FILES", "SWEEP"]
