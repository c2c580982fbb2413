"""A source of images, before any of them is selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """All labels, and a function to read the selected images."""

    labels: Tensor  # (M,) int64, in the order of the source
    class_names: tuple[str, ...]
    read: Callable[[Tensor], Tensor]  # indices (n,) -> (n, channels, H, W) in [0, 1]
    words: str  # where the images are, in words
    mean: tuple[float, ...] = ()  # per channel of the whole training set; (): unknown
    std: tuple[float, ...] = ()
    notes: list[str] = field(default_factory=list)  # sentences; reading may add some
