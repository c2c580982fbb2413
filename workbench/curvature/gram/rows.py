"""Gradients of single examples as rows, and the path to them that any network takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from workbench.curvature.problem.batches import Inputs, num_of, spread, take
from workbench.curvature.problem.network import run
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.progress.control import Cancelled

CHUNK = 32  # examples whose gradients vmap takes together
TRIED = 4  # examples of the piece whose gradients are held against plain autograd
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # of a gradient's length


@dataclass(frozen=True, slots=True, eq=False)
class LayerGradients:
    """Gradients of m numbers an example in the parameters of one layer.

    Factored: the weight's row of example b, number j is
    ``sum_l outputs[b, j, l, :] inputs[b, l, :]^T``, the bias's ``sum_l outputs``.
    Explicit (``inputs`` is None): ``outputs`` holds the rows, (B, m, 1, p).
    """

    names: tuple[str, ...]  # parameters: weight, then bias where there is one
    inputs: Tensor | None  # (B, L, q)
    outputs: Tensor  # (B, m, L, r)

    @property
    def num_parameters(self) -> int:
        """Parameters of the layer, q r (+ r)."""
        if self.inputs is None:
            return self.outputs.shape[-1]
        r = self.outputs.shape[-1]
        return r * self.inputs.shape[-1] + r * (len(self.names) - 1)

    def rows(self) -> Tensor:
        """Explicit gradients, (B, m, p), in the order of ``names``."""
        if self.inputs is None:
            return self.outputs[:, :, 0]
        num_examples, m, positions, r = self.outputs.shape
        flat = self.outputs.permute(0, 1, 3, 2).reshape(num_examples, m * r, positions)
        weight = (flat @ self.inputs).reshape(num_examples, m, -1)
        if len(self.names) == 1:
            return weight
        return torch.cat([weight, self.outputs.sum(2)], dim=2)

    def pieces(self, numbers: int) -> Iterator[Tensor]:
        """`rows` a few columns at a time, so that each has about ``numbers`` entries.

        Yields (B, m, columns), in the order of the rows' columns.
        """
        if self.inputs is None:
            yield from torch.split(
                self.rows(),
                max(1, numbers // max(1, self.outputs[:, :, 0, 0].numel())),
                dim=2,
            )
            return
        num_examples, m, _, r = self.outputs.shape
        channel = num_examples * m * self.inputs.shape[-1]
        step = max(1, numbers // max(1, channel))
        for start in range(0, r, step):
            part = self.outputs[..., start : start + step]
            yield LayerGradients(self.names[:1], self.inputs, part).rows()
        if len(self.names) > 1:
            yield self.outputs.sum(2)

    def squared_norms(self) -> Tensor:
        """Squared length of each gradient, (B, m), in float64."""
        if self.inputs is None or self.outputs.shape[2] > 1:
            norms = [p.double().square().sum(2) for p in self.pieces(2**24)]
            return torch.stack(norms).sum(0)
        outputs = self.outputs.double().square().sum((2, 3))
        inputs = self.inputs.double().square().sum((1, 2)) + (len(self.names) - 1)
        return outputs * inputs[:, None]


def general_rows(
    risk: EmpiricalRisk,
    inputs: Inputs,
    cotangents: Tensor,
    groups: list[tuple[str, ...]],
) -> Iterator[LayerGradients]:
    """Any parameters of any network, by backward passes for each example."""
    wanted = [name for names in groups for name in names]
    if risk.proven.together is None:
        with risk.proven.timed():
            risk.proven.together = _vmap_agrees(risk)
    if risk.proven.together:
        rows = _rows_together(risk, inputs, cotangents, wanted)
    else:
        rows = _rows_apart(risk, inputs, cotangents, wanted)
    for names in groups:
        whole = torch.cat([rows[name] for name in names], dim=2)
        yield LayerGradients(names, None, whole[:, :, None])


def _vmap_agrees(risk: EmpiricalRisk) -> bool:
    """Whether vmap gives the gradients of plain autograd, of some examples."""
    inputs = take(risk.piece[0], slice(0, TRIED))
    w = random_cotangents(risk, inputs)
    names = list(risk.parameters)
    try:
        if risk.check != "off":  # a second time: what the first one kept may be dead
            _rows_together(risk, inputs, w, names)
        rows = _rows_together(risk, inputs, w, names)
    except (Cancelled, torch.OutOfMemoryError):
        raise
    except Exception:  # recurrent cells and branches on values know no vmap
        return False
    if risk.check == "off":
        return True
    found: dict[tuple[str, ...], Tensor] = {(n,): rows[n][:, 0] for n in names}
    return agreeing(risk, inputs, w, found) == set(names)


def _rows_together(
    risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """``J_b^T w_{b,j}`` in each parameter, (B, m, p), by vmap."""
    values = {n: t.detach() for n, t in risk.network.named().items()}
    chosen = {name: values.pop(name) for name in wanted}
    leaves, spec = tree_flatten(inputs)
    own = [i for i, t in enumerate(leaves) if isinstance(t, Tensor) and t.ndim]

    def gradients(example: list[Tensor], columns: Tensor) -> dict[str, Tensor]:
        given = list(leaves)
        for i, tensor in zip(own, example, strict=True):
            given[i] = tensor[None]
        whole = tree_unflatten(given, spec)

        def network(parameters: dict[str, Tensor]) -> Tensor:
            weights = {**values, **parameters}
            return risk.network(whole, weights, paired=False).flatten()

        outputs, back, *_ = vjp(network, chosen)
        pulled = vmap(back)(columns.T.to(outputs.dtype))[0]
        return {name: g.flatten(1) for name, g in pulled.items()}

    examples = [leaves[i] for i in own]
    found: dict[str, Tensor] = vmap(gradients, chunk_size=CHUNK)(examples, cotangents)
    return found


def _rows_apart(
    risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor, wanted: list[str]
) -> dict[str, Tensor]:
    """The same by a backward pass for each cotangent of each example."""
    chosen = [risk.parameters[name] for name in wanted]
    found: list[list[Tensor]] = []
    for i in range(num_of(inputs)):
        risk.control.check()
        with torch.enable_grad():
            outputs = risk.network(take(inputs, slice(i, i + 1)))
        rows = [
            _gradients(outputs, chosen, column.reshape(outputs.shape))
            for column in cotangents[i].unbind(1)
        ]
        found.append([torch.stack(column) for column in zip(*rows, strict=True)])
    return {
        name: torch.stack(column)
        for name, column in zip(wanted, zip(*found, strict=True), strict=True)
    }


def _gradients(outputs: Tensor, chosen: Sequence[Tensor], w: Tensor) -> list[Tensor]:
    """``J^T w`` in each parameter, flat."""
    if not outputs.requires_grad:
        return [torch.zeros_like(p).flatten() for p in chosen]
    found = torch.autograd.grad(
        outputs, chosen, w.to(outputs.dtype), retain_graph=True, materialize_grads=True
    )
    return [(g.to_dense() if g.is_sparse else g).flatten() for g in found]


def random_cotangents(risk: EmpiricalRisk, inputs: Inputs) -> Tensor:
    """One random cotangent an example, (B, O, 1), float64."""
    outputs = run(risk.network, inputs).flatten(1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(
        outputs.shape, generator=generator, dtype=torch.float64, device="cpu"
    )
    return noise.to(outputs.device)[..., None]


def agreeing(
    risk: EmpiricalRisk,
    inputs: Inputs,
    w: Tensor,
    found: dict[tuple[str, ...], Tensor],
) -> set[str]:
    """The names whose rows (B, p) are those of plain autograd, example by example."""
    right = {name for names in found for name in names}
    places = spread(len(w), TRIED)
    sizes = dict(zip(risk.parameters, risk.sizes, strict=True))
    for i in places:
        one = take(inputs, slice(i, i + 1))
        with torch.enable_grad():
            outputs = risk.network(one)
            flat = risk.gradient(outputs, w[i, :, 0].view_as(outputs))
        true = {n: g.flatten() for n, g in risk.split(flat).items()}
        floor = 1e3 * torch.finfo(risk.digits).eps * float(flat.double().norm())
        for names, rows in found.items():
            parts = rows[i].split([sizes[name] for name in names])
            for name, part in zip(names, parts, strict=True):
                apart = (part.double() - true[name].double()).norm()
                size = float(true[name].double().norm())
                if not float(apart) <= ROUNDING[risk.digits] * size + floor:
                    right -= set(names)
    return right
