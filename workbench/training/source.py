"""What a place of images hands over before any of them was chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Labels of all there is, and how to read the chosen ones."""

    labels: Tensor  # (M,) int64, in the order of the source
    class_names: tuple[str, ...]
    read: Callable[[Tensor], Tensor]  # indices (n,) -> (n, channels, H, W) in [0, 1]
    words: str  # where the images are, for people
    mean: tuple[float, ...] = ()  # per channel of the whole training set; (): unknown
    std: tuple[float, ...] = ()
    notes: list[str] = field(default_factory=list)  # sentences; reading may add some
