"""A short description of an object: as text, and as HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, final

FEW = 6  # items that are listed in full


@dataclass(frozen=True, slots=True)
class Card:
    """A title and lines of names and values; lines with an empty value are left out.

    Example:
        >>> print(Card("Shoe", {"size": "42", "colour": "", "laces": "2"}).text())
        Shoe
          size   42
          laces  2
    """

    title: str
    lines: Mapping[str, str]

    def text(self) -> str:
        """Return it as lines of text."""
        told = {name: said for name, said in self.lines.items() if said}
        wide = max(map(len, told), default=0)
        rows = (f"  {name:<{wide}}  {said}" for name, said in told.items())
        return "\n".join([self.title, *rows])

    def html(self) -> str:
        """Return it as a small HTML table."""
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(name)}</th>'
            f'<td style="text-align: left">{escape(said)}</td></tr>'
            for name, said in self.lines.items()
            if said
        )
        return f"<div><strong>{escape(self.title)}</strong><table>{rows}</table></div>"


class Described(ABC):
    """An object with a card, which Python and notebooks show as its repr."""

    __slots__ = ()

    @abstractmethod
    def card(self) -> Card:
        """What it is, in a few lines."""

    @final
    def __repr__(self) -> str:
        return self.card().text()

    @final
    def _repr_html_(self) -> str:
        return self.card().html()


def numbers(values: Iterable[float]) -> str:
    """Format the first few numbers.

    Example:
        >>> numbers([3.14159, 2, 1e-12])
        '3.142, 2, 1e-12'
    """
    return listed(f"{value:.4g}" for value in values)


def listed(words: Iterable[object]) -> str:
    """Join the first few items, with a count if there are more.

    Example:
        >>> listed(range(9))
        '0, 1, 2, 3, 4, 5, ... (9)'
    """
    every = list(map(str, words))
    more = f", ... ({len(every):,})" if len(every) > FEW else ""
    return ", ".join(every[:FEW]) + more


def give_or_take(value: float, error: float) -> str:
    """Format a number with half the width of its interval, if it is not exact.

    Example:
        >>> give_or_take(2.0, 0.25), give_or_take(2.0, 0.0)
        ('2 ± 0.25', '2')
    """
    if not error:
        return f"{value:.4g}"
    return f"{value:.4g} ± {error:{'.2g' if error < 10 else '.0f'}}"


def of_all(run: Mapping[str, Any]) -> str:
    """Say how many parameters the network has, if only some were measured.

    Example:
        >>> of_all({"num_network_params": 1200}), of_all({})
        ('of 1,200 ', '')
    """
    whole = run.get("num_network_params")
    return "" if whole is None else f"of {whole:,} "


def fit_in_words(run: Mapping[str, Any]) -> str:
    """Format the loss and accuracy of a run, as far as they are known.

    Example:
        >>> fit_in_words({"train_loss": 0.0123, "train_accuracy": 0.995})
        'loss 0.0123, accuracy 99.5%'
    """
    loss, accuracy = run.get("train_loss"), run.get("train_accuracy")
    said = [] if loss is None else [f"loss {loss:.4g}"]
    return ", ".join(said + ([] if accuracy is None else [f"accuracy {accuracy:.1%}"]))
