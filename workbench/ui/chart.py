"""The learning curves next to the Train button, as a small SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 100, 44


def curves(history: Mapping[str, Sequence[float]]) -> str:
    """Draw loss and accuracy over the epochs, with the latest numbers; '' if none."""
    if not history.get("epoch"):
        return ""
    loss, accuracy = history["loss"], history["accuracy"]
    return (
        '<div class="wb-curves">'
        + _curve(
            "loss",
            loss,
            f"{loss[-1]:.3g}",
            0.0,
            max(filter(math.isfinite, loss), default=1.0),
        )
        + _curve("accuracy", accuracy, f"{accuracy[-1]:.1%}", 0.0, 1.0)
        + "</div>"
    )


def _curve(
    name: str, values: Sequence[float], latest: str, low: float, high: float
) -> str:
    """Draw one curve over its epochs, without values that are not finite."""
    values = values if len(values) > 1 else (*values, *values)
    step = WIDTH / (len(values) - 1)
    span = (high - low) or 1.0
    points = " ".join(
        f"{n * step:.1f},{2 + (HEIGHT - 4) * (1 - (value - low) / span):.1f}"
        for n, value in enumerate(values)
        if math.isfinite(value)
    )
    said = f"{name} over {len(values)} epochs, now {latest}"
    return (
        f'<figure class="wb-{name}"><figcaption>{name} <b>{latest}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" height="{HEIGHT}" role="img" '
        f'preserveAspectRatio="none" aria-label="{said}">'
        f'<polyline points="{points}"/></svg></figure>'
    )
