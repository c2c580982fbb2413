"""Plan a measurement: how long each method takes here, and which one to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import nn

from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.operators import curvatures, network_of
from workbench.curvature.products.way import KINDS, Kind
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.distributed import ALONE, World
from workbench.machine.memory import device_memory, say_bytes
from workbench.measurement.cost import (
    Cost,
    Sizes,
    Tally,
    blocks_left_out,
    num_eigenvalues,
    sizes_of,
    whole_hessian,
)
from workbench.measurement.layers import curved_blocks
from workbench.measurement.settings import (
    MAX_PAIRS,
    WISH,
    MeasureSettings,
    chosen_classes,
    settled,
)
from workbench.measurement.snapshots import COST
from workbench.measurement.speeds import Speeds, timed
from workbench.measurement.subject import Subject, subject_of
from workbench.measurement.ways import WAYS, Counted
from workbench.progress.control import Control
from workbench.progress.timing import say_duration
from workbench.training.checkpoint import Checkpoint

DOUBLE_LIMIT = 5_000  # most parameters for measuring everything in float64
ROOM = 0.8  # share of the memory that may be used
FEW = 10  # classes to choose from many, as in the papers
NO_LAST_LAYER = (
    "The logits do not come from a linear layer with its own weight, or the loss "
    "weights examples, so the study will have no record of a last layer."
)
LEAST = 20  # leading eigenvalues; never suggest fewer


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The methods for measuring a network, and the one chosen."""

    sizes: Sizes
    settings: MeasureSettings
    speeds: Speeds
    memory: int  # bytes available
    methods: tuple[Counted, ...]  # all of them
    method: Counted | None  # the one chosen; None if none fits
    products: Mapping[Kind, str]  # G, Hess, H: how products are computed, and why
    proof: float  # seconds for checking the network and all ways of products
    num_processes: int = 1
    num_moments: int = 0  # earlier epochs to measure as well

    def stages(self, method: Counted | None = None) -> dict[str, float]:
        """Predict the seconds of each stage, without earlier epochs."""
        method = method or self.method or self.methods[-1]
        own = self.sizes.num_examples / self.num_processes
        return {k: self.speeds.seconds(c, own) for k, c in method.stages.items()}

    def seconds(self, method: Counted | None = None) -> float:
        """Predict the total seconds; products are checked again for each epoch."""
        stages = sum(self.stages(method).values()) * (1 + COST * self.num_moments)
        return stages + self.proof * (1 + self.num_moments)

    def by_name(self, name: str) -> Counted:
        """Return the method with this name."""
        return next(method for method in self.methods if method.method == name)

    def fits(self, method: Counted) -> bool:
        """Whether it fits the memory and, if given, the time limit."""
        limit = self.settings.max_minutes
        slow = limit is not None and self.seconds(method) > 60 * limit
        return method.memory <= self.memory and not slow

    @property
    def line(self) -> str:
        """What is measured, its duration and the alternatives; or why none fits."""
        if self.method is None:
            return self.refusal
        others = [m for m in self.methods if m is not self.method]
        rest = ", ".join(f"{m.method} {self._price(m)}" for m in others)
        earlier = f", and {self.num_moments} earlier epochs" if self.num_moments else ""
        return (
            f"Plan: {_measured(self.method, self.sizes, self.settings)}{earlier}: "
            f"{self._price(self.method)}. The others: {rest}. {self._products()}"
            f"{'' if self.sizes.num_features else f' {NO_LAST_LAYER}'}"
            f"{self._left_out(self.method)}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The whole plan in plain values, ready for JSON."""

        def priced(method: Counted) -> dict[str, Any]:
            return {
                "seconds": self.seconds(method),
                "stages": self.stages(method),
                "memory": method.memory,
                "fits": self.fits(method),
            }

        return {
            "method": None if self.method is None else self.method.method,
            "line": self.line,
            "methods": {method.method: priced(method) for method in self.methods},
            "products": dict(self.products),
            "proof_seconds": self.proof,
            "memory": self.memory,
            "num_processes": self.num_processes,
            "num_moments": self.num_moments,
        }

    @property
    def refusal(self) -> str:
        """Why nothing fits, and the closest settings that do."""
        asked = self.settings.method
        methods = [m for m in self.methods if asked in (None, m.way.name)]
        nearest = min(methods, key=lambda m: (m.memory, self.seconds(m)))
        limit = self.settings.max_minutes
        bound = "" if limit is None else f" and the limit is {limit:g} minutes"
        price = f"{say_duration(self.seconds(nearest))}, {say_bytes(nearest.memory)}"
        return (
            f"measure: this needs {price} with method {nearest.method}, but "
            f"{say_bytes(self.memory)} is available{bound}: {self.sizes.num_params:,} "
            f"parameters, {self.sizes.num_classes} classes, "
            f"{self.sizes.num_examples:,} examples; {self._way_on()}."
        )

    def _products(self) -> str:
        """How products are computed, and how long checking them takes."""
        kinds: dict[str, list[str]] = {}
        for kind, how in self.products.items():
            kinds.setdefault(how, []).append(kind)
        ways = "; ".join(f"{', '.join(of)} {how}" for how, of in kinds.items())
        return f"Products: {ways}. Checking them takes {say_duration(self.proof)}."

    def _left_out(self, method: Counted) -> str:
        """What of the layers is not measured, and why."""
        if not self.settings.layers:
            return ""
        note = layers_note(self.sizes, self.settings, method.exact)
        return f" {note}" if note else ""

    def _price(self, method: Counted) -> str:
        if method.memory > self.memory:
            return f"{say_bytes(method.memory)} (too much)"
        return f"{say_duration(self.seconds(method))}, {say_bytes(method.memory)}"

    def _way_on(self) -> str:
        """Suggest what fits: fewer eigenvalues, classes or examples."""
        C = self.sizes.num_classes
        free = replace(self, settings=replace(self.settings, method=None))
        if self.settings.method and (others := _choice(free)):
            nearest = min(others, key=lambda m: m.work(self.sizes))
            return f"leave out method, so that {nearest.method} is chosen"

        def fitting(
            per_class: int, num_classes: int = C, num: int | None = None
        ) -> bool:
            all_of = per_class * num_classes
            tokens = self.sizes.num_labelled / self.sizes.num_examples
            sizes = replace(
                self.sizes,
                num_examples=all_of,
                num_classes=num_classes,
                num_rows=round(all_of * tokens) * (num_classes - 1),
            )
            fewer = num or self.settings.num_eigenvalues
            settings = replace(self.settings, num_eigenvalues=fewer)
            ways = [way for way in WAYS if settings.method in (None, way.name)]
            tried = [way.count(sizes, settings) for way in ways]
            return any(replace(self, sizes=sizes).fits(method) for method in tried)

        low, high = 1, max(2, self.sizes.num_examples // C)
        num = num_eigenvalues(self.sizes, self.settings)
        while (num := num * 3 // 4) >= LEAST:
            if fitting(high, num=num):
                return f"ask for {num} eigenvalues (--eigenvalues {num})"
        if C > FEW and fitting(high, FEW):
            return (
                f"measure {FEW} of the classes (--classes {FEW} on the command line, "
                f"classes={FEW} in Python; not possible on the page)"
            )
        if not fitting(low):
            return "use a smaller network or fewer classes"
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fitting(middle) else (low, middle)
        return f"use at most {low} examples per class, or a smaller network"


@full_precision()
def plan(
    subject: Checkpoint | nn.Module,
    data: Any = None,
    settings: MeasureSettings | None = None,
    *,
    control: Control | None = None,
    world: World = ALONE,
    **given: Any,
) -> Plan:
    """Predict the cost of each method on this machine and choose one; measure nothing.

    The ways of computing products are checked, one batch is timed, and everything else
    is counted. If ``min(P, N (C - 1))`` is at most ``exact_limit``, every eigenvalue of
    G is wanted: the exact method with the fewest operations is chosen, provided it fits
    the memory and takes at most ``max_minutes``, or half an hour if that is None.
    Beyond the limit, the method with the fewest operations is chosen; with a limit of
    0, always the iterative one. The choice depends on operations, not seconds, so that
    a measurement and its numbers are the same in every run. With ``method`` given,
    nothing is chosen.

    Args:
        subject: A checkpoint from `train`, or a network.
        data: For a network: a `Dataset`, a pair of tensors ``(inputs, labels)``, or a
            re-iterable of such pairs.
        settings: The settings of the measurement.
        control: Cancels between batches.
        world: Processes that would share the examples.
        **given: Further arguments of `measure`.

    Returns:
        The plan. Its ``line`` sums it up in words, even if nothing fits; its ``facts``
        are plain values.

    Raises:
        WorkbenchError: If a setting, the network or the data cannot be measured.
    """
    if isinstance(data, MeasureSettings):
        data, settings = None, data
    settings, given = settled(settings, given)
    found = subject_of(subject, data, **given)
    risk = bind(found, None, settings, control, world)
    moments = len(found.earlier) if settings.moments else 0
    return make_plan(risk, settings, num_moments=moments)


def bind(
    subject: Subject | Checkpoint | nn.Module,
    data: Any,
    settings: MeasureSettings,
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """Bind the network to its data for measuring; small networks in float64.

    If classes are chosen, both are restricted to them, as by `choose_classes`. A
    `Subject` brings its own data.
    """
    if not isinstance(subject, Subject):
        subject = subject_of(subject, data)
    num_params = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
    risk = as_problem(
        subject.model,
        subject.data,
        classes=classes_of(subject, settings),
        parameters=settings.parameters,
        dtype=torch.float64 if num_params <= DOUBLE_LIMIT else None,
        device=settings.device,
        control=control,
        world=world,
        **subject.options,
    )
    risk.classes("measure")
    risk.same_order("measure")
    return risk


def classes_of(subject: Subject, settings: MeasureSettings) -> tuple[int, ...] | None:
    """Return the indices of the classes to measure; None for all."""
    if settings.classes is None:
        return None
    names = subject.class_names
    if names is None:
        risk = as_problem(subject.model, subject.data, **subject.options)
        names = tuple(map(str, range(risk.num_classes)))
    return chosen_classes(settings, names)


def make_plan(
    risk: EmpiricalRisk,
    settings: MeasureSettings,
    memory: int | None = None,
    num_moments: int = 0,
) -> Plan:
    """Count each method, time one batch, and choose; the same in every process."""
    sizes, world = sizes_of(risk), risk.world
    if settings.layers and not blocks_left_out(sizes, settings, exact=False):
        sizes = replace(sizes, curved=curved_blocks(risk))
    ways = curvatures(risk)
    products = {kind: ways[kind].how for kind in KINDS}  # checked here
    speed = astuple(timed(risk, network_of(ways["G"])))
    told = torch.zeros(world.size, len(speed) + 2, dtype=torch.float64)
    there = device_memory(risk.device)
    told[world.rank] = torch.tensor((*speed, risk.proven.seconds, there))
    *speeds, proof, _ = world.sum(told).mean(0).tolist()
    there = int(told[:, -1].min())
    methods = tuple(way.count(sizes, settings) for way in WAYS)
    made = Plan(
        sizes=sizes,
        settings=settings,
        speeds=Speeds(*speeds),
        memory=memory or int(ROOM * there),
        methods=methods,
        method=None,
        products=products,
        proof=proof,
        num_processes=world.size,
        num_moments=num_moments,
    )
    chosen = min(_choice(made), key=lambda m: m.work(sizes), default=None)
    return replace(made, method=chosen)


def _choice(made: Plan) -> list[Counted]:
    """The methods among which the one with the fewest operations is chosen."""
    sizes, settings = made.sizes, made.settings
    fitting = [method for method in made.methods if made.fits(method)]
    if settings.method is not None:
        return [m for m in fitting if m.way.name == settings.method]
    smaller = min(sizes.num_params, sizes.num_rows)
    soon = 60 * (settings.max_minutes or WISH)
    exact = [m for m in fitting if m.exact and made.seconds(m) <= soon]
    if 0 < smaller <= settings.exact_limit:
        fitting = exact or fitting
    elif settings.exact_limit == 0:
        fitting = [method for method in fitting if not method.exact]
    if sizes.num_classes**2 <= MAX_PAIRS:  # the picture needs all means
        fitting = [m for m in fitting if m.way.forms_pairs] or fitting
    fastest = min((made.seconds(m) for m in fitting), default=0.0)
    # fewer operations may still take longer
    return [m for m in fitting if made.seconds(m) <= max(soon, 2 * fastest)]


def layers_note(sizes: Sizes, settings: MeasureSettings, exact: bool) -> str:
    """Say which blocks are left out, because they would take too many products."""
    kinds = blocks_left_out(sizes, settings, exact)
    if not kinds:
        return ""
    cost = sum(map(Tally(sizes, settings).block_products, kinds), Cost())
    num = cost.g_products + cost.hess_products
    return (
        f"The eigenvalues of {' and '.join(kinds)} in each layer are left out: they "
        f"would take {num:,.0f} products over the data."
    )


def checked(made: Plan) -> Counted:
    """Return the chosen method.

    Raises:
        WorkbenchError: If none fits.
    """
    if made.method is None:
        raise WorkbenchError(made.refusal)
    return made.method


def _measured(method: Counted, sizes: Sizes, settings: MeasureSettings) -> str:
    k = num_eigenvalues(sizes, settings)
    if not method.exact:
        found = f"the leading {k} eigenvalues of G and Hess, the ends of H, densities"
        if not method.way.forms_pairs:
            found += (
                f", pair means through their products only, in {settings.weighting}"
            )
        return found
    rest = f"the leading {k} of Hess, the ends of H"
    if whole_hessian(sizes, settings):
        rest = "and all of Hess and H"
    return f"every eigenvalue of G ({method.method}), {rest}"
