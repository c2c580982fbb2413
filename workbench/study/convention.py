"""The three conventions of averaging the gradients, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    r"""How the gradients are averaged over i, then over c', then over c.

    ========= ============================== ========================================
    name      delta_c                        class part of G
    ========= ============================== ========================================
    ``slide`` mean of delta_{c,k}, all k     ``C sum_c n_c/N delta_c delta_c^T``
    ``icml``  mean of delta_{c,k}, k != c    ``(C-1) sum_c n_c/N delta_c delta_c^T``
    ``jmlr``  weighted mean of g_{c,k},      ``sum_c w_c g_c g_c^T``,
              k != c                         ``w_c = sum_{k != c} w_{c,k}``
    ========= ============================== ========================================

    with ``delta_{i,c,k} = sqrt(p_{ik}) g_{i,c,k}``, ``g_{i,c,k} = grad log p_{ik}`` and
    ``w_{c,k} = sum_{i in c} p_{ik} / N``. The parts add up to G, and all but
    ``within_part`` to ``means_part``.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """

    name: str  # in settings, links and files
    label: str  # in a menu
    weighted: bool  # means of g weighted by p, not plain means of delta
    includes_true: bool  # whether delta_c averages over c' = c too
    parts: tuple[str, ...]  # of G, in the order of the hierarchy
    class_part: str  # part of G carried by the delta_c
    cross_part: str  # spread of the delta_{c,c'} about their delta_c
    diagonal_part: str  # part of the delta_{c,c}, where delta_c leaves them out
    means_part: str  # part of all the delta_{c,c'}
    within_part: str  # the rest of G: the spread over the examples

    def sizes(self, probs: Any) -> Any:
        """Return the factor of ``g_{i,c,k}`` in the sums: p, or sqrt(p) as in delta."""
        return probs if self.weighted else probs**0.5

    def single(self, probs: Any) -> Any:
        """Return the factor of ``g_{i,c,k}`` when drawn: 1, or sqrt(p) as in delta."""
        return probs**0.0 if self.weighted else probs**0.5

    def num_averaged(self, num_classes: int) -> int:
        """Return the divisor of the sum over c'; 1 if it is weighted."""
        if self.weighted:
            return 1
        return num_classes if self.includes_true else num_classes - 1

    @property
    def sums_diagonal(self) -> bool:
        """Whether the delta_{c,c} need their own sums besides those of the delta_c.

        Not if weighted, as they then follow from them: ``sum_k p_k (e_k - p) = 0``.
        """
        return not (self.weighted or self.includes_true)


_NAMES: Mapping[str, str] = {
    "class_part": "G_class",
    "cross_part": "G_cross",
    "diagonal_part": "G_diag",
    "means_part": "G_means",
    "within_part": "G_within",
}
SLIDE = Convention(
    name="slide",
    label="slide (all c′)",
    weighted=False,
    includes_true=True,
    parts=("G_class", "G_cross", "G_within"),
    **_NAMES,
)
ICML = Convention(
    name="icml",
    label="icml (c′ ≠ c)",
    weighted=False,
    includes_true=False,
    parts=("G0", "G1", "G2", "G3"),
    class_part="G1",
    cross_part="G2",
    diagonal_part="G0",
    means_part="G12",
    within_part="G3",
)
JMLR = Convention(
    name="jmlr",
    label="jmlr (weighted)",
    weighted=True,
    includes_true=False,
    parts=("G_class", "G_cross", "G_within", "G_diag"),
    **_NAMES,
)
CONVENTIONS: Mapping[str, Convention] = {c.name: c for c in (SLIDE, ICML, JMLR)}


def convention_of(name: object, who: str) -> Convention:
    """Return the convention with this name.

    Raises:
        WorkbenchError: If there is none.
    """
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise WorkbenchError(
            f"{who}: weighting is {name!r}; expected one of {', '.join(CONVENTIONS)}."
        )
    return CONVENTIONS[name]
