"""A network bound to data: checked, and proven to be a function of each example."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from workbench.curvature.problem.backward import (
    check_gradients,
    narrowest,
    same_when_evaluated,
)
from workbench.curvature.problem.batches import (
    Inputs,
    Repeating,
    as_batches,
    as_targets,
    move,
    num_of,
    take,
    tensors,
)
from workbench.curvature.problem.criterion import CrossEntropy, as_criterion
from workbench.curvature.problem.network import (
    HALVES,
    Network,
    Outputs,
    check_function,
    run,
    same_weights,
    unwrapped,
)
from workbench.curvature.problem.risk import CHECKS, PIECE, EmpiricalRisk, Proven
from workbench.curvature.problem.surroundings import evaluating, random_state
from workbench.curvature.problem.survey import (
    Survey,
    class_weights,
    look_at,
    normaliser,
)
from workbench.curvature.problem.unchanged import bound
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.device import resolve_device
from workbench.machine.distributed import ALONE, World
from workbench.progress.control import Control

CHECKED_ACTIVATIONS = 2**20  # of the batch that tells whether examples mix
MOST_NAMED = 24  # names in an error
QUICK = 2.0  # seconds of a pass over a loader up to which a second is made at once


def empirical_risk(
    model: nn.Module,
    data: Any,
    *,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """Check a network and its data, and bind them.

    The model, or a copy on the device, is used in eval mode: wrap each use in
    `evaluating`. Batch norm then uses its running statistics. Before anything else two
    passes over a batch must agree, and examples must not see each other, on one batch
    (``check="once"``) or on all (``"full"``); a loader must give the same examples
    again. Networks in half precision are computed in float32, a copy.

    Args:
        model: The network.
        data: A `Dataset`, a pair ``(inputs, targets)``, or a re-iterable of such pairs
            or of mappings with ``"labels"``. Inputs: a tensor, or tensors in dicts,
            lists and tuples, the examples on the first axis of each.
        loss: ``"cross_entropy"``, ``"mse"``, ``"bce"``, or one of torch's losses with
            its options, over the whole data as one batch.
        outputs: Takes the logits from what the network returns; by default that is a
            tensor, or has ``logits``.
        parameters: Globs of the names of the parameters to look at, or the names of
            modules; by default all that require a gradient.
        check: ``"once"``, ``"full"`` or ``"off"``: what is proven before use.
        dtype: Compute in this dtype, a copy, if the network can; else in its own.
        batch_size: Examples a batch, of data in memory; by default what keeps the
            inputs of a batch below 4 MB, at most 1,024.
        device: Where to compute; by default where the model is. ``"auto"``: a CUDA
            device if there is one. The CPU in place of mps, which has no float64.
        control: Cancels between batches.
        world: Processes that share the examples; each is given all the data.

    Raises:
        WorkbenchError: If there is no parameter to differentiate, a weight, input or
            logit is not finite, targets do not fit the outputs, the data do not
            repeat, or the network is random or mixes the examples of a batch.
    """
    criterion, module = as_criterion(loss), unwrapped(model)
    if check not in CHECKS:
        raise WorkbenchError(
            f"empirical_risk: check is {check!r}; expected one of {', '.join(CHECKS)}."
        )
    chosen = _chosen(module, parameters)
    own, half = _dtype(module, chosen)
    here = next(iter(chosen.values()))
    target = _with_double(resolve_device(device, near=here.device))
    proven = Proven()
    with random_state(), full_precision(), same_weights(module):
        batches = as_batches(data, batch_size)
        seen = look_at(batches, criterion)
        if isinstance(batches, Repeating):
            batches.look_again(whole=seen.seconds < QUICK or check == "full")
        few = move(take(seen.first, slice(0, 2)), here.device, here.dtype)
        given = network = Network(module, outputs).settled(few)
        note = ""
        if check != "off":
            same_when_evaluated(network, seen.first)
        if target != here.device or half or here.is_inference():
            network = network.in_dtype(target, own)
            note = "half precision is computed in float32" if half else ""
            _compare(given, network, seen.first)
        if dtype is not None and dtype != own:
            better = _converted(network, seen.first, dtype, target)
            network, own = (better, dtype) if better else (network, own)
        few = move(take(seen.first, slice(0, 2)), target, own)
        network = network.settled(few)
        if isinstance(criterion, CrossEntropy):
            network = _oriented(network, seen, target, own)
        copied = network.module is not module  # else they are watched already
        with same_weights(network.module) if copied else nullcontext():
            num_activations = _count_activations(network, few)
            size = max(PIECE, CHECKED_ACTIVATIONS // num_activations)
            first = move(take(seen.first, slice(0, size)), target, own)
            with proven.timed():
                logits = _logits(network, first, check)
    labels = as_targets(seen.targets[:size]).to(target)
    criterion.check(logits, labels)
    for inputs, targets in seen.others:
        with evaluating(network.module):
            found = run(network, move(inputs, target, own))
        criterion.check(found, targets.to(target))
    Z = normaliser(criterion, seen)
    per_class = class_weights(criterion, seen, logits, Z)
    if isinstance(criterion, CrossEntropy) and not seen.ignored:
        criterion = replace(criterion, ignore_index=None)
    weights = dict(network.module.named_parameters())
    named = {name: weights[name] for name in chosen}
    risk = EmpiricalRisk(
        network=network,
        criterion=criterion,
        parameters=named,
        data=batches,
        num_examples=sum(seen.sizes),
        num_classes=logits.shape[1],
        num_columns=criterion.num_columns(logits),
        num_rows=criterion.num_rows(
            seen.num_targets, logits.shape[1], seen.targets.is_floating_point()
        ),
        normaliser=Z,
        class_weights=per_class,
        dim=sum(p.numel() for p in named.values()),
        num_activations=num_activations,
        dtype=own,
        device=target,
        control=control or Control(),
        piece=(move(seen.piece[0], target, own), as_targets(seen.piece[1]).to(target)),
        check=check,  # type: ignore[arg-type]
        note=note,
        world=world,
        num_own=sum(s.stop - s.start for s in map(world.share, seen.sizes)),
        proven=proven,
    )
    proven.bound = bound(network.named(), batches)
    with proven.timed():
        if check != "off":
            check_gradients(risk)
        if check == "full":
            for inputs, targets in risk.whole():
                criterion.check(check_function(network, inputs), targets)
    return risk


def _oriented(
    network: Network, seen: Survey, device: torch.device, dtype: torch.dtype
) -> Network:
    """The network, told where the classes are among the logits of tokens."""
    if seen.targets.ndim == 1 or seen.targets.is_floating_point():
        return network
    first = take(seen.first, slice(0, 2)), seen.targets[:2]
    few = [(move(x, device, dtype), y) for x, y in (first, *seen.others)]
    with evaluating(network.module):
        return network.oriented(few)


def _logits(network: Network, inputs: Inputs, check: str) -> Tensor:
    """Of a batch, which is proven to be a function of each example if asked."""
    if check != "off":
        return check_function(network, inputs)
    with evaluating(network.module):
        return run(network, inputs)


def _chosen(
    module: nn.Module, patterns: str | Sequence[str] | None
) -> dict[str, nn.Parameter]:
    """The parameters to look at, but for those that hold no number."""
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    known = {n: p for n, p in trained.items() if p.numel()}
    if not known:
        raise WorkbenchError(
            "empirical_risk: the network has no parameter that requires a gradient, "
            "and the curvature is taken in the parameters; set requires_grad=True on "
            "some."
        )
    if patterns is not None:
        words = [patterns] if isinstance(patterns, str) else patterns
        listed = isinstance(words, Sequence) and all(isinstance(w, str) for w in words)
        if not (listed and words):
            raise WorkbenchError(
                f"empirical_risk: parameters is {str(patterns)[:60]!r}; expected a "
                "name or glob such as 'layer4.*', or a list of some."
            )
        for word in words:
            if not any(_matches(name, word) for name in known):
                raise WorkbenchError(
                    f"empirical_risk: no parameter is called {str(word)[:60]!r}; give "
                    "globs such as 'layer4.*', or names of parameters or modules: "
                    f"{_listed(list(known))}."
                )
        known = {
            name: p
            for name, p in known.items()
            if any(_matches(name, word) for word in words)
        }
    if bad := [n for n, p in known.items() if not p.detach().isfinite().all()]:
        raise WorkbenchError(
            f"empirical_risk: {len(bad)} parameters hold NaN or infinite weights, the "
            f"first is {bad[0]}; train again with a smaller rate."
        )
    return known


def _listed(names: Sequence[str]) -> str:
    """All names, or if they are many, those of the modules that own them."""
    if len(names) > MOST_NAMED:
        names = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    more = len(names) - MOST_NAMED
    said = ", ".join(name[:60] for name in names[:MOST_NAMED])
    return f"{said} and {more} more" if more > 0 else said


def _matches(name: str, word: str) -> bool:
    """Whether a glob, or a module's name, stands for a parameter."""
    return fnmatchcase(name, word) or name.startswith(f"{word}.")


def _dtype(
    module: nn.Module, parameters: dict[str, nn.Parameter]
) -> tuple[torch.dtype, bool]:
    """What to compute in, and whether that is float32 in place of half precision."""
    dtypes = {p.dtype for p in parameters.values()}
    full = {torch.float32 if dtype in HALVES else dtype for dtype in dtypes}
    if len(full) > 1 or not full <= {torch.float32, torch.float64}:
        raise WorkbenchError(
            f"empirical_risk: the parameters have dtypes {sorted(map(str, dtypes))}; "
            "convert the model to one, for instance model.float()."
        )
    return full.pop(), any(p.dtype in HALVES for p in module.parameters())


def _with_double(device: torch.device) -> torch.device:
    """The device, with its number; the CPU for one that has no float64."""
    return torch.empty(0, device="cpu" if device.type == "mps" else device).device


def _converted(
    network: Network, first: Inputs, dtype: torch.dtype, device: torch.device
) -> Network | None:
    """The network in another dtype; None where it cannot be run in that."""
    few = take(first, slice(0, PIECE))
    try:
        better = network.in_dtype(device, dtype)
        with evaluating(better.module):
            run(better, move(few, device, dtype))
            with torch.enable_grad():
                digits = narrowest(better(move(few, device, dtype)))
        _compare(network, better, few)
    except (WorkbenchError, RuntimeError):
        return None
    return better if digits == dtype else None  # it casts inside


def _compare(one: Network, copy: Network, inputs: Inputs) -> None:
    """Make sure that a copy computes what the network does, and from its own weights.

    Raises:
        WorkbenchError: If it does not: a function that was put into the network still
            uses the weights of the original.
    """
    few = take(inputs, slice(0, PIECE))
    found = []
    for network in (one, copy):
        trained = [p for p in network.module.parameters() if p.requires_grad]
        like = trained[0]
        with evaluating(network.module), torch.enable_grad():
            try:
                logits = network(move(few, like.device, like.dtype))
                grads = torch.autograd.grad(
                    logits.sum(), trained, retain_graph=True, allow_unused=True
                )
            except RuntimeError:  # an operation that half precision does not have
                return
        found.append([logits.detach(), *grads])
    rough = [t is not None and bool(t.any()) for t in found[0]]
    other = [t is not None and bool(t.any()) for t in found[1]]
    logits, copied = (tensors[0].double().cpu() for tensors in found)
    if rough != other or (logits - copied).norm() > 0.2 * logits.norm():
        raise WorkbenchError(
            "empirical_risk: a copy of the network in another dtype or on another "
            "device computes something else (a forward replaced on an instance keeps "
            "the old weights, say); convert the network yourself."
        )


def _count_activations(network: Network, inputs: Inputs) -> int:
    """Numbers that the leaf modules put out for one example."""
    total = 0

    def add(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += sum(t.numel() for t in tensors(output))

    model = network.module
    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    hooked = [m for m in leaves if not isinstance(m, torch.jit.ScriptModule)]
    with evaluating(model):
        handles = [leaf.register_forward_hook(add) for leaf in hooked]
        try:
            run(network, inputs)
        finally:
            for handle in handles:
                handle.remove()
    return max(total // max(num_of(inputs), 2), 1)
