"""Settings of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.errors import WorkbenchError


def film_epochs(epochs: int, num: int = 6) -> tuple[int, ...]:
    """Choose epochs that show the course of training: 0, then in equal ratios.

    Example:
        >>> film_epochs(30)
        (0, 1, 2, 4, 8, 15)
    """
    later = {round(epochs * 2.0**-n) for n in range(1, num)}
    return (0, *sorted(epoch for epoch in later if 0 < epoch < epochs))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of training. Invalid values raise WorkbenchError."""

    epochs: int = 30  # passes over the data; 0 keeps the initial weights
    lr: float = 0.05  # initial rate; a tenth after 1/3, a hundredth after 2/3
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of every parameter
    batch_size: int = 128  # at most; all batches of an epoch have similar size
    seed: int = 0  # of the order of the examples and of dropout
    device: str = "auto"  # cpu, cuda or mps; auto: cuda, else mps, else cpu
    mixed_precision: bool = True  # bfloat16, on CUDA devices that support it
    snapshots: tuple[int, ...] = ()  # epochs whose weights to keep; 0: the initial ones

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", tuple(self.snapshots))
        for name, low in (("epochs", 0), ("batch_size", 2), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise WorkbenchError(
                    f"TrainConfig: {name} is {value!r}; "
                    f"give a whole number, at least {low}."
                )
        for name, most in (("lr", math.inf), ("momentum", 1.0), ("weight_decay", 1e3)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < most:
                raise WorkbenchError(
                    f"TrainConfig: {name} is {value!r}; give a number >= 0 and < "
                    f"{most:g}."
                )
        for epoch in self.snapshots:
            if not isinstance(epoch, int) or not 0 <= epoch <= self.epochs:
                raise WorkbenchError(
                    f"TrainConfig: snapshots names epoch {epoch!r}; "
                    f"give whole numbers from 0 to epochs={self.epochs}."
                )
