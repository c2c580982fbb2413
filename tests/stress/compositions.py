"""Networks at random from the pieces of the zoo, with hooks, caches and tied layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from tests.zoo.case import Call, Case, Situation, shaken
from tests.zoo.hooks import SignThrough, Tanh
from tests.zoo.layers import Context, NormAct, RootMeanSquare
from tests.zoo.weights import LoraLinear

Piece = Callable[[int], nn.Module]  # keeps the width that it is given


class Added(nn.Module):
    """A residual sum."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Again(Added):
    """The same layer twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inside(torch.tanh(self.inside(x))))


class Scale(nn.Module):
    """A parameter without an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Kept(nn.Module):
    """Adds what it made in its first pass, and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None or self.kept.shape != x.shape[-1:]:
            self.kept = torch.arange(x.shape[-1], dtype=x.dtype).cos()
        self.passes += 1
        return x + self.kept


class SortedInside(Added):
    """The batch in another order for one layer."""

    def forward(self, x: Tensor) -> Tensor:
        order = x.flatten(1).sum(1).argsort()
        return self.inside(x[order])[order.argsort()]


class Remade(Added):
    """Its activations are made again on the way back."""

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inside, x, use_reentrant=False)


def hooked(layer: nn.Module, kind: str, hook: Any) -> nn.Module:
    getattr(layer, f"register_{kind}")(hook)
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.3)


def doubled_on_the_way(h: Tensor) -> Tensor:
    h = h * 1.0
    if h.requires_grad:
        h.register_hook(lambda g: 1.5 * g)
    return h


def scaled_without_gradient(h: Tensor) -> Tensor:
    with torch.no_grad():
        size = h.abs().mean(-1, keepdim=True)
    return h / (1 + size)


ANYWHERE: dict[str, Piece] = {
    "relu": lambda w: nn.ReLU(),
    "relu in place": lambda w: nn.Sequential(Call(lambda h: h + 0.1), nn.ReLU(True)),
    "tanh": lambda w: nn.Tanh(),
    "gelu": lambda w: nn.GELU(),
    "silu": lambda w: nn.SiLU(),
    "softplus": lambda w: nn.Softplus(),
    "dropout": lambda w: nn.Dropout(),
    "scale": lambda w: Scale(),
    "tensor hook": lambda w: Call(doubled_on_the_way),
    "detached": lambda w: Call(lambda h: h + h.detach().sin() * h),
    "no function of forward mode": lambda w: Call(Tanh.apply),
    "signs": lambda w: Call(lambda h: h + SignThrough.apply(h)),
}
LAST: dict[str, Piece] = {  # on the last axis
    "linear": lambda w: nn.Linear(w, w),
    "no bias": lambda w: nn.Linear(w, w, bias=False),
    "value": lambda w: Added(nn.Linear(w, 1)),
    "residual": lambda w: Added(nn.Sequential(nn.Linear(w, w), nn.Tanh())),
    "twice": lambda w: Again(nn.Linear(w, w)),
    "layer norm": lambda w: nn.LayerNorm(w, eps=1e-2),
    "rms norm": lambda w: nn.RMSNorm(w, eps=1e-2),
    "norm by hand": lambda w: Added(RootMeanSquare(w)),
    "weight norm": lambda w: parametrizations.weight_norm(nn.Linear(w, w)),
    "spectral norm": lambda w: parametrizations.spectral_norm(nn.Linear(w, w)),
    "pruned": lambda w: pruned(nn.Linear(w, w)),
    "lora": lambda w: LoraLinear(nn.Linear(w, w)),
    "hook": lambda w: hooked(
        nn.Linear(w, w), "forward_hook", lambda m, a, out: out.tanh()
    ),
    "hook before": lambda w: hooked(
        nn.Linear(w, w), "forward_pre_hook", lambda m, a: (a[0].sin(),)
    ),
    "hook backwards": lambda w: hooked(
        nn.Linear(w, w), "full_backward_hook", lambda m, into, out: None
    ),
    "kept": lambda w: Kept(),
    "scale without gradient": lambda w: Call(scaled_without_gradient),
    "sorted inside": lambda w: SortedInside(nn.Linear(w, w)),
    "made again": lambda w: Remade(nn.Sequential(nn.Linear(w, w), nn.Tanh())),
    "softmax": lambda w: nn.Softmax(-1),
    "flipped": lambda w: Call(lambda h: h.flip(-1)),
}
VECTORS: dict[str, Piece] = {
    "batch norm": lambda w: nn.BatchNorm1d(w),
    "group norm": lambda w: nn.GroupNorm(1, w, eps=1e-2),
}
TOKENS: dict[str, Piece] = {
    "attention": lambda w: Added(
        nn.TransformerEncoderLayer(w, 1, 3, batch_first=True, dropout=0.1)
    ),
    "recurrence": lambda w: nn.Sequential(
        nn.GRU(w, w, batch_first=True), Call(lambda out: out[0])
    ),
    "convolution": lambda w: nn.Sequential(
        Call(lambda h: h.transpose(1, 2)),
        nn.Conv1d(w, w, 3, padding=1),
        Call(lambda h: h.transpose(1, 2)),
    ),
    "norm over tokens": lambda w: nn.BatchNorm1d(LENGTH),
}
IMAGES: dict[str, Piece] = {
    "convolution": lambda w: nn.Conv2d(w, w, 3, padding=1),
    "depthwise": lambda w: nn.Conv2d(w, w, 3, padding=1, groups=w, bias=False),
    "circular": lambda w: nn.Conv2d(w, w, 3, padding=1, padding_mode="circular"),
    "residual": lambda w: Added(nn.Conv2d(w, w, 3, padding=1)),
    "context": lambda w: Context(w),
    "batch norm": lambda w: nn.BatchNorm2d(w),
    "norm and activation": lambda w: NormAct(w),
    "group norm": lambda w: nn.GroupNorm(1, w, eps=1e-2),
    "instance norm": lambda w: nn.InstanceNorm2d(w, eps=1e-2, affine=True),
    "max pool": lambda w: nn.MaxPool2d(2, 1, 1),
    "mean pool": lambda w: nn.AvgPool2d(2, 1, 1),
    "upsampling": lambda w: nn.Upsample(scale_factor=2, mode="bilinear"),
    "hook": lambda w: hooked(
        nn.Conv2d(w, w, 1), "forward_hook", lambda m, a, out: softplus(out)
    ),
    "kept": lambda w: Kept(),
}
LENGTH = 3


def _tree(draw: st.DrawFn) -> tuple[Callable[[], nn.Module], Callable[[int], Tensor]]:
    """A network without its head, and what makes its inputs."""
    kind = draw(st.sampled_from(["vectors", "tokens", "words", "images"]))
    width = draw(st.integers(2, 3))
    own = {"vectors": VECTORS, "images": IMAGES}.get(kind, TOKENS)
    pieces = {**ANYWHERE, **own} if kind == "images" else {**ANYWHERE, **LAST, **own}
    names = draw(st.lists(st.sampled_from(sorted(pieces)), min_size=1, max_size=4))
    middle = [pieces[name] for name in names]
    first: dict[str, Callable[[], nn.Module]] = {
        "vectors": lambda: nn.Linear(2, width),
        "tokens": lambda: nn.Linear(2, width),
        "words": lambda: nn.Embedding(4, width),
        "images": lambda: nn.Conv2d(1, width, 2),
    }
    last: dict[str, nn.Module] = {
        "vectors": nn.Identity(),
        "images": Call(lambda h: h.mean((2, 3))),
    }
    end = last.get(kind, Call(lambda h: h.mean(1)))
    shapes = {"vectors": (2,), "tokens": (LENGTH, 2), "images": (1, 4, 4)}

    def inputs(num: int) -> Tensor:
        if kind == "words":
            return torch.randint(0, 4, (num, LENGTH))
        return torch.randn(num, *shapes[kind])

    def body() -> nn.Module:
        return nn.Sequential(first[kind](), *(make(width) for make in middle), end)

    body.width = width  # type: ignore[attr-defined]
    body.words = f"{kind} {width}: {', '.join(names)}"  # type: ignore[attr-defined]
    return body, inputs


LOSSES: dict[str, Callable[[int], Any]] = {
    "smoothed": lambda C: nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": lambda C: nn.CrossEntropyLoss(weight=torch.arange(1, C + 1).double()),
    "summed": lambda C: nn.CrossEntropyLoss(reduction="sum"),
}


@st.composite
def compositions(draw: st.DrawFn) -> Case:
    """A network of up to four pieces and a head, on a few batches."""
    body, inputs = _tree(draw)
    width = body.width  # type: ignore[attr-defined]
    num_classes = draw(st.integers(2, 3))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    extra = draw(st.lists(st.integers(0, num_classes - 1), max_size=3))
    factor = draw(st.sampled_from([0.3, 1.0, 3.0, 30.0]))
    seed, training = draw(st.integers(0, 99)), draw(st.booleans())
    loss = draw(st.sampled_from([None] * 6 + sorted(LOSSES)))
    half = draw(st.booleans())

    def make() -> Situation:
        torch.manual_seed(seed)
        head = nn.Linear(width, num_classes)
        model = shaken(nn.Sequential(body(), head)).train(training)
        with torch.no_grad():
            head.weight.mul_(factor)
        if half:
            head.bias.requires_grad_(False)
        known = torch.arange(num_classes)
        y = torch.cat([known, torch.tensor(extra, dtype=torch.long)])
        y = y.repeat(-(-sum(sizes) // len(y)))[: max(sum(sizes), num_classes)]
        x, total = inputs(len(y)), [*sizes]
        total[-1] += len(y) - sum(total)
        batches = list(zip(x.split(total), y.split(total), strict=True))
        kwargs = {} if loss is None else {"loss": LOSSES[loss](num_classes)}
        return Situation(model, batches, kwargs)

    words = f"{body.words}; {loss}, {sizes}, {extra}, x {factor}, {seed}"  # type: ignore[attr-defined]
    return Case(name=words, make=make, plain=loss is None, tol=1e-8)
