"""A plan before the run: how long each way takes here, and which one is taken."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from workbench.control import Control
from workbench.curvature.batches import take
from workbench.curvature.coordinates import STREAMED
from workbench.curvature.layerwise import is_small
from workbench.curvature.operators import Curvature
from workbench.curvature.risk import EmpiricalRisk, empirical_risk, evaluating
from workbench.curvature.subset import choose_classes
from workbench.curvature.way import Kind
from workbench.distributed import ALONE, World
from workbench.errors import WorkbenchError
from workbench.measuring.config import (
    MAX_PAIRS,
    MeasureSettings,
    check_settings,
    chosen_classes,
)
from workbench.measuring.counting import (
    METHODS,
    Cost,
    Counted,
    Sizes,
    count,
    num_eigenvalues,
    sizes_of,
    whole_hessian,
)
from workbench.measuring.moments import COST, earlier_epochs
from workbench.memory import device_memory, say_bytes
from workbench.timing import say_duration
from workbench.training.checkpoint import Checkpoint
from workbench.training.device import resolve_device

DOUBLE_LIMIT = 5_000  # parameters up to which everything is measured in float64
ROOM = 0.8  # of the memory there is may be used
FEW = 10  # classes that are measured of many, as in the papers
LEAST = 20  # leading eigenvalues; fewer are not proposed
_LEAST = 0.1  # of a product's time, is that of its examples, however noisy times are
_TRIAL = 0.3  # seconds that a timed product may take, about
_VECTORS, _TOGETHER = 2, 10  # of a timed block; of a small network's


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one timed batch says of this machine, in seconds."""

    gradient: float  # an example
    g_product: float  # an example and vector, in a block
    hess_product: float  # likewise
    vector: float  # of a block, however few the examples
    algebra: float  # a multiply-add of two float64 matrices

    def seconds(self, cost: Cost, num_examples: float) -> float:
        """How long something counted takes."""
        passes = (
            cost.gradients * self.gradient
            + cost.g_products * self.g_product
            + cost.hess_products * self.hess_product
        )
        vectors = (cost.g_products + cost.hess_products) * self.vector
        return (
            passes * num_examples + vectors + cost.algebra * self.algebra + cost.seconds
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The ways to measure one network, and the one that is taken."""

    sizes: Sizes
    settings: MeasureSettings
    speeds: Speeds
    memory: int  # bytes that may be used
    methods: tuple[Counted, ...]  # all of them
    method: Counted | None  # the one taken; None where none fits
    num_processes: int = 1
    num_moments: int = 0  # earlier epochs that are measured too

    def stages(self, method: Counted | None = None) -> dict[str, float]:
        """Predicted seconds of each stage, the earlier epochs left out."""
        method = method or self.method or self.methods[-1]
        own = self.sizes.num_examples / self.num_processes
        return {k: self.speeds.seconds(c, own) for k, c in method.stages.items()}

    def seconds(self, method: Counted | None = None) -> float:
        """Predicted seconds of all of it."""
        return sum(self.stages(method).values()) * (1 + COST * self.num_moments)

    def fits(self, method: Counted) -> bool:
        """Whether the memory holds it, and the time if that was bounded."""
        limit = self.settings.max_minutes
        slow = limit is not None and self.seconds(method) > 60 * limit
        return method.memory <= self.memory and not slow

    @property
    def line(self) -> str:
        """What is done, in how long, instead of what; or why nothing is."""
        if self.method is None:
            return self.refusal
        others = [m for m in self.methods if m is not self.method]
        rest = ", ".join(f"{m.method} {self._price(m)}" for m in others)
        earlier = f", and {self.num_moments} earlier epochs" if self.num_moments else ""
        return (
            f"Plan: {_found(self.method, self.sizes, self.settings)}{earlier}: "
            f"{self._price(self.method)}. The others: {rest}."
        )

    @property
    def refusal(self) -> str:
        """Why nothing fits, and the nearest settings that do."""
        nearest = min(self.methods, key=lambda m: (m.memory, self.seconds(m)))
        limit = self.settings.max_minutes
        bound = "" if limit is None else f" and at most {limit:g} minutes are asked for"
        price = f"{say_duration(self.seconds(nearest))}, {say_bytes(nearest.memory)}"
        return (
            f"measure: this needs {price}, by the {nearest.method} way, where "
            f"{say_bytes(self.memory)} may be used{bound}: "
            f"{self.sizes.num_params:,} parameters, {self.sizes.num_classes} classes, "
            f"{self.sizes.num_examples:,} examples; {self._way_on()}."
        )

    def _price(self, method: Counted) -> str:
        if method.memory > self.memory:
            return f"{say_bytes(method.memory)} (too much)"
        return f"{say_duration(self.seconds(method))}, {say_bytes(method.memory)}"

    def _way_on(self) -> str:
        """What fits: fewer eigenvalues, ten of many classes, or fewer examples."""
        C = self.sizes.num_classes

        def fitting(
            per_class: int, num_classes: int = C, num: int | None = None
        ) -> bool:
            all_of = per_class * num_classes
            sizes = replace(self.sizes, num_examples=all_of, num_classes=num_classes)
            fewer = num or self.settings.num_eigenvalues
            settings = replace(self.settings, num_eigenvalues=fewer)
            tried = [count(name, sizes, settings) for name in METHODS]
            return any(replace(self, sizes=sizes).fits(method) for method in tried)

        low, high = 1, max(2, self.sizes.num_examples // C)
        num = num_eigenvalues(self.sizes, self.settings)
        while (num := num * 3 // 4) >= LEAST:
            if fitting(high, num=num):
                return f"find {num} eigenvalues (--eigenvalues {num})"
        if C > FEW and fitting(high, FEW):
            return (
                f"measure {FEW} of the classes (--classes {FEW} at the command line, "
                f"classes={FEW} in Python; the page cannot)"
            )
        if not fitting(low):
            return "take a smaller network or fewer classes"
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fitting(middle) else (low, middle)
        return f"take at most {low} examples a class (Per class), or a smaller network"


def plan(
    subject: Checkpoint | nn.Module,
    data: Any = None,
    settings: MeasureSettings | None = None,
    *,
    world: World = ALONE,
) -> Plan:
    """Predict what each way to measure would take here, and choose; measure nothing.

    One batch is timed; the rest is counted. Where ``min(P, N (C - 1))`` is at most
    ``exact_limit`` every eigenvalue of G is asked for, and the exact way of fewest
    operations is taken; beyond it, or where neither fits the memory or
    ``max_minutes``, the way of fewest of all; with a limit of 0 the iterative one,
    always. Operations decide, not seconds, so that a
    measurement and its numbers are the same in every run.

    Args:
        subject: What `train` returned, or a network.
        data: For a network: a `Dataset`, a pair of tensors ``(inputs, labels)``, or a
            re-iterable of such pairs.
        settings: How it would be measured.
        world: Processes that would share the examples.

    Returns:
        The plan; its ``line`` says all in one sentence, also where nothing fits.

    Raises:
        WorkbenchError: If a setting, the network or the data cannot be measured.
    """
    settings = settings or MeasureSettings()
    check_settings(settings)
    risk = bind(subject, data, settings, world=world)
    earlier = earlier_epochs(subject) if isinstance(subject, Checkpoint) else ()
    moments = len(earlier) if settings.moments else 0
    return make_plan(risk, settings, num_moments=moments)


def bind(
    subject: Checkpoint | nn.Module,
    data: Any,
    settings: MeasureSettings,
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """The network on its data, as they are measured: small ones in float64.

    Where classes are chosen, both are restricted to them, as by `choose_classes`.
    """
    if isinstance(subject, Checkpoint):
        model, data = subject.load_model(), subject.load_data()
    else:
        model = subject
    if sum(p.numel() for p in model.parameters() if p.requires_grad) <= DOUBLE_LIMIT:
        model = copy.deepcopy(model).double()
    device = resolve_device(settings.device)
    if device.type == "mps":  # has no float64, which sums and softmax need
        device = torch.device("cpu")
    if settings.classes is not None:
        names = getattr(data, "class_names", None)
        if names is None:
            names = tuple(map(str, range(empirical_risk(model, data).num_classes)))
        chosen = chosen_classes(settings, names)
        assert chosen is not None
        model, data = choose_classes(model, data, chosen)
    return empirical_risk(model, data, device=device, control=control, world=world)


def make_plan(
    risk: EmpiricalRisk,
    settings: MeasureSettings,
    memory: int | None = None,
    num_moments: int = 0,
) -> Plan:
    """Count each way, time one batch, and choose: the same in every process."""
    sizes, world = sizes_of(risk), risk.world
    told = torch.zeros(world.size, 6, dtype=torch.float64)
    told[world.rank] = torch.tensor((*astuple(timed(risk)), device_memory(risk.device)))
    *speeds, _ = world.sum(told).mean(0).tolist()
    there = int(told[:, -1].min())
    methods = tuple(count(name, sizes, settings) for name in METHODS)
    made = Plan(
        sizes=sizes,
        settings=settings,
        speeds=Speeds(*speeds),
        memory=memory or int(ROOM * there),
        methods=methods,
        method=None,
        num_processes=world.size,
        num_moments=num_moments,
    )
    fitting = [method for method in methods if made.fits(method)]
    smaller = min(sizes.num_params, sizes.num_examples * (sizes.num_classes - 1))
    exact = [method for method in fitting if method.exact]
    if smaller <= settings.exact_limit:
        fitting = exact or fitting
    elif settings.exact_limit == 0:
        fitting = [method for method in fitting if not method.exact]
    if sizes.num_classes**2 <= MAX_PAIRS:  # the picture takes all means: have them
        fitting = [m for m in fitting if m.method != STREAMED] or fitting
    return replace(made, method=min(fitting, key=lambda m: m.work(sizes), default=None))


def checked(made: Plan) -> Counted:
    """The way that is taken.

    Raises:
        WorkbenchError: If none fits.
    """
    if made.method is None:
        raise WorkbenchError(made.refusal)
    return made.method


def timed(risk: EmpiricalRisk) -> Speeds:
    """Time a gradient and blocks of products on part of a batch, each once warm."""
    inputs, labels = next(risk.whole())

    def gradient(num: int) -> Callable[[], object]:
        def once() -> object:
            with evaluating(risk.model), torch.enable_grad():
                logits = risk.network(take(inputs, slice(0, num)))
                loss = cross_entropy(logits, labels[:num])
                return risk.gradient(loss, torch.ones_like(loss))

        return once

    num = min(len(labels), 32)
    one = _seconds(gradient(num), risk) / num

    def product(kind: Kind, size: int) -> float:
        few = risk.on([(take(inputs, slice(0, size)), labels[:size])])
        block = torch.ones(risk.dim, width, dtype=risk.dtype, device=risk.device)
        operator = Curvature(few, kind)
        operator.matmat(block[:, :1])
        return _seconds(lambda: operator.matmat(block), risk) / width

    width = _TOGETHER if is_small(risk) else _VECTORS
    most = min(len(labels), max(2, int(_TRIAL / (2 * _VECTORS * one))))
    alone = product("G", 1)
    g, hess = product("G", most), product("Hess", most)
    vector = max(most * alone - g, 0.0) / max(most - 1, 1)
    vector = min(vector, g, hess)  # times are noisy
    matrix = torch.ones(512, 512, dtype=torch.float64, device=risk.device)
    return Speeds(
        gradient=one,
        g_product=max(g - vector, _LEAST * g) / most,
        hess_product=max(hess - vector, _LEAST * hess) / most,
        vector=vector,
        algebra=_seconds(lambda: matrix @ matrix, risk) / 512**3,
    )


def _seconds(work: Callable[[], object], risk: EmpiricalRisk) -> float:
    """How long something takes the second time."""
    for _ in range(2):
        risk.control.check()
        began = time.perf_counter()
        work()
        if risk.device.type == "cuda":
            torch.cuda.synchronize(risk.device)
    return time.perf_counter() - began


def _found(method: Counted, sizes: Sizes, settings: MeasureSettings) -> str:
    k = num_eigenvalues(sizes, settings)
    if not method.exact:
        found = f"the leading {k} eigenvalues of G and Hess, the ends of H, densities"
        if method.method == STREAMED:
            found += f", the means of pairs by their products, in {settings.weighting}"
        return found
    rest = f"the leading {k} of Hess, the ends of H"
    if whole_hessian(sizes, settings):
        rest = "likewise of Hess and H"
    return f"every eigenvalue of G ({method.method}), {rest}"
