"""The layers of a network: which parameters each module owns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from workbench.curvature.problem.class_subset import ChosenLogits
from workbench.curvature.problem.risk import EmpiricalRisk


@dataclass(frozen=True, slots=True)
class Block:
    """The parameters that one module owns itself: a diagonal block of G and Hess."""

    name: str  # of the module in the network as given; "": the network itself
    kind: str  # its class
    parameters: tuple[str, ...]  # names of the parameters in the risk
    start: int  # of its numbers in a flat vector, which lie side by side
    stop: int

    @property
    def columns(self) -> slice:
        """Its numbers in a flat vector."""
        return slice(self.start, self.stop)

    @property
    def dim(self) -> int:
        """How many they are."""
        return self.stop - self.start


def blocks_of(risk: EmpiricalRisk) -> tuple[Block, ...]:
    """Group the parameters by the module that owns them, in order.

    A parameter that several modules share belongs to the first.
    """
    blocks: list[Block] = []
    sizes = {name: p.numel() for name, p in risk.parameters.items()}
    modules = dict(risk.model.named_modules(remove_duplicate=False))
    start = 0
    for module, names in groupby(sizes, key=lambda name: name.rpartition(".")[0]):
        own = tuple(names)
        stop = start + sum(sizes[name] for name in own)
        kind = type(modules[module]).__name__
        blocks.append(Block(name_as_given(risk, module), kind, own, start, stop))
        start = stop
    return tuple(blocks)


def name_as_given(risk: EmpiricalRisk, name: str) -> str:
    """A module's or parameter's name in the network as given, before `choose_classes`.

    That wraps the network, and the names then begin with ``model``.
    """
    if not isinstance(risk.model, ChosenLogits):
        return name
    return name.removeprefix("model").removeprefix(".")
