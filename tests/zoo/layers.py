"""Layers of all kinds: norms, convolutions, pooling, activations, sums, routing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tests.zoo.case import (
    Call,
    Situation,
    case,
    family,
    images,
    labels,
    mlp,
    pooled,
    sequences,
    shaken,
    vectors,
)


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: the activation inside the norm."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


class RootMeanSquare(nn.Module):
    """A norm written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


NORMS: dict[str, Callable[[], nn.Module]] = {
    "norm_with_an_activation_inside": lambda: NormAct(3),
    "batch_norm": lambda: nn.BatchNorm2d(3),
    "batch_norm_without_affine": lambda: nn.BatchNorm2d(3, affine=False),
    "batch_norm_of_all_averages": lambda: nn.BatchNorm2d(3, momentum=None),
    "group_norm": lambda: nn.GroupNorm(3, 3),
    "group_norm_of_one_group": lambda: nn.GroupNorm(1, 3),
    "instance_norm": lambda: nn.InstanceNorm2d(3, affine=True),
    "instance_norm_with_running_statistics": lambda: nn.InstanceNorm2d(
        3, affine=True, track_running_stats=True
    ),
    "local_response_norm": lambda: nn.LocalResponseNorm(2),
    "norm_over_channels_last": lambda: nn.Sequential(
        Call(lambda x: x.permute(0, 2, 3, 1)),
        nn.LayerNorm(3),
        Call(lambda x: x.permute(0, 3, 1, 2)),
    ),
}
MEASURED_NORMS = ("norm_with_an_activation_inside", "batch_norm", "group_norm")
family(
    {
        name: lambda norm=norm: shaken(pooled(nn.Conv2d(1, 3, 3), norm(), nn.Tanh()))
        for name, norm in NORMS.items()
    },
    images,
    measured=MEASURED_NORMS,
)
family(
    {
        "layer_norm": lambda: shaken(mlp(nn.LayerNorm(5), nn.Tanh())),
        "layer_norm_of_two": lambda: shaken(
            mlp(nn.LayerNorm(2, eps=1e-2), nn.Tanh(), width=2)
        ),
        "layer_norm_without_affine": lambda: mlp(
            nn.LayerNorm(5, elementwise_affine=False), nn.Tanh()
        ),
        "rms_norm": lambda: shaken(mlp(nn.RMSNorm(5), nn.Tanh())),
        "norm_written_by_hand": lambda: shaken(mlp(RootMeanSquare(5), nn.Tanh())),
        "batch_norm_1d": lambda: shaken(mlp(nn.BatchNorm1d(5), nn.Tanh())),
    },
    vectors,
)


@case(expect="refused")
def batch_norm_without_running_statistics() -> Situation:
    norm = nn.BatchNorm1d(5, track_running_stats=False)
    return Situation(mlp(norm, nn.Tanh()), vectors())


@case(entries=("operators",), large=True)
def batch_norm_over_as_many_tokens_as_features_many_examples() -> Situation:
    return Situation(_token_norm(16), sequences(4000, 16))


@case()
def batch_norm_over_as_many_tokens_as_features() -> Situation:
    return Situation(_token_norm(5), sequences())


def _token_norm(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        Call(lambda x: x.mean(1)),
        nn.Linear(width, 3),
    )


class Stem(nn.Module):
    """LeViT's: the gradient comes to the norm token by token."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.b = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.q, self.o = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = self.b(self.c(x)).flatten(2).transpose(1, 2)
        return self.o(torch.tanh(self.q(F.layer_norm(t, (4,)))).mean(1))


@case()
def norm_before_tokens_one_example_a_class() -> Situation:
    return Situation(Stem(), images(3, 2, 5))


@case()
def norm_before_tokens_in_batches_of_one() -> Situation:
    x, y = images(6, 2, 5)
    return Situation(Stem(), [(x[i : i + 1], y[i : i + 1]) for i in range(6)])


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "depthwise": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 3, 3, groups=3), nn.Tanh()
    ),
    "circular_padding": lambda: pooled(
        nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), nn.Tanh()
    ),
    "reflect_padding": lambda: pooled(
        nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect"), nn.Tanh()
    ),
    "same_padding": lambda: pooled(
        nn.Conv2d(1, 3, (2, 3), padding="same", dilation=2), nn.Tanh()
    ),
    "transposed_convolution": lambda: pooled(
        nn.ConvTranspose2d(1, 3, 3, stride=2, output_padding=1), nn.Tanh()
    ),
    "strides_and_groups": lambda: pooled(
        nn.Conv2d(1, 4, 3, stride=2, bias=False),
        nn.Tanh(),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Softplus(),
        width=4,
    ),
    "unfold_and_fold": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Unfold(2), nn.Fold((4, 4), 2), nn.Tanh()
    ),
    "max_pool": lambda: pooled(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Tanh()),
    "ceiling_pool": lambda: pooled(
        nn.Conv2d(1, 3, 2), nn.AvgPool2d(2, ceil_mode=True), nn.Tanh()
    ),
    "power_pool": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Softplus(), nn.LPPool2d(2, 2), nn.Tanh()
    ),
    "pixel_shuffle": lambda: pooled(
        nn.Conv2d(1, 4, 3), nn.PixelShuffle(2), nn.Conv2d(1, 3, 3), nn.Tanh()
    ),
    "bilinear_upsampling": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh()
    ),
    "nearest_upsampling": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Upsample(scale_factor=2), nn.Tanh()
    ),
    "bicubic_upsampling": lambda: pooled(
        nn.Conv2d(1, 3, 3), nn.Upsample(scale_factor=2, mode="bicubic"), nn.Tanh()
    ),
}
family(CONVOLUTIONS, images)


@case()
def conv1d() -> Situation:
    layers = nn.Conv1d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    return Situation(nn.Sequential(*layers, nn.Linear(3, 3)), sequences(9, 2, 6))


@case()
def conv3d() -> Situation:
    layers = nn.Conv3d(1, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    data = torch.randn(9, 1, 3, 3, 3), labels()
    return Situation(nn.Sequential(*layers, nn.Linear(3, 3)), data)


@case()
def max_pool_with_ties() -> Situation:
    model = pooled(nn.MaxPool2d(2), nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.Tanh())
    x = torch.randint(0, 2, (9, 1, 6, 6)).double()
    return Situation(model, (x, labels()))


@case()
def largest_of_ties() -> Situation:
    model = mlp(Call(lambda h: h.relu().amax(1, keepdim=True) + h.tanh()))
    x, y = vectors()
    x[:3] = 0.0
    with torch.no_grad():
        model[0].bias.fill_(0.5)
    return Situation(model, (x, y))


@case()
def kinks_hit_exactly() -> Situation:
    model = mlp(nn.ReLU())
    with torch.no_grad():
        model[0].bias.zero_()
    x, y = vectors()
    x[::2] = 0.0
    return Situation(model, (x, y))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu_in_place": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "gelu_by_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "prelu": nn.PReLU,
    "hardtanh": nn.Hardtanh,
    "softmax_inside": lambda: nn.Softmax(1),
    "log_softmax_inside": lambda: nn.LogSoftmax(1),
    "power": lambda: Call(lambda h: h**3 - h),
    "sine": lambda: Call(torch.sin),
    "cosine_similarity": lambda: Call(lambda h: F.normalize(h, dim=1)),
    "sorted_features": lambda: Call(lambda h: h.tanh().sort(1).values),
    "best_features": lambda: Call(lambda h: h.tanh().topk(5, 1).values),
    "running_sum": lambda: Call(lambda h: h.tanh().cumsum(1)),
    "fourier": lambda: Call(
        lambda h: torch.fft.irfft(torch.fft.rfft(h, dim=1).tanh(), n=5, dim=1)
    ),
    "complex_inside": lambda: Call(lambda h: torch.polar(h.tanh(), h).real + h),
    "scatter": lambda: Call(
        lambda h: torch.zeros_like(h).index_add(1, torch.tensor([0, 0, 2, 3, 1]), h)
    ),
    "written_into_a_slice": lambda: Call(lambda h: _written(h)),
    "solved": lambda: Call(
        lambda h: torch.linalg.solve(
            torch.eye(5) * 4 + h[:, :, None] * h[:, None, :].tanh(), h
        )
    ),
    "numbers_made_in_forward": lambda: Call(
        lambda h: (h + torch.linspace(0, 1, 5, dtype=h.dtype)).tanh()
    ),
}


def _written(h: Tensor) -> Tensor:
    out = h.tanh()
    out = out.clone()
    out[:, 1:3] = h[:, :2].sin()
    out[:, 0] *= 2
    return out


family({k: lambda a=a: mlp(a()) for k, a in ACTIVATIONS.items()}, vectors)


BY_DIFFERENCES: dict[str, Any] = {"hess_tol": 1e-5, "hess_oracle": "differences"}
family(
    {
        "hardswish": lambda: mlp(nn.Hardswish()),
        "hardsigmoid": lambda: mlp(nn.Hardsigmoid()),
    },
    vectors,
    **BY_DIFFERENCES,
)


class MobileBlock(nn.Module):
    """MobileNetV3's: hard activations, depthwise, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.d = nn.Conv2d(4, 4, 3, groups=4, padding=1)
        self.s, self.e = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.o = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.hardswish(self.d(F.hardswish(self.n(self.a(x)))))
        gate = self.e(self.s(h.mean((2, 3), keepdim=True)).relu())
        return self.o((h * F.hardsigmoid(gate)).mean((2, 3)))


@case(measured=True, **BY_DIFFERENCES)
def mobile_block() -> Situation:
    return Situation(shaken(MobileBlock()), images())


class Context(nn.Module):
    """Global context, added back by broadcasting."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p, self.t = nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.t(self.p(x))


@case(measured=True)
def global_context() -> Situation:
    return Situation(pooled(nn.Conv2d(1, 3, 3), Context(3), nn.ReLU()), images())


class Dueling(nn.Module):
    """A value for all classes plus an advantage of each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.v = nn.Linear(4, width), nn.Linear(width, 1)
        self.o = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.v(h).tanh() * self.o(h) + self.v(h)


@case(measured=True)
def value_and_advantages() -> Situation:
    return Situation(Dueling(5), vectors())


@case(entries=("operators",), large=True)
def value_and_advantages_many_examples() -> Situation:
    return Situation(Dueling(40), vectors(16000))


class Standardised(nn.Conv2d):
    """As timm's: the weight goes through a batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, len(self.weight), -1)
        norm = F.batch_norm(flat, None, None, training=True, momentum=0.0)
        return F.conv2d(x, norm.reshape_as(self.weight), self.bias)


def _matrix(h: Tensor) -> Tensor:
    """A symmetric matrix of each example, with eigenvalues apart."""
    return h[:, :, None] * h[:, None, :] + torch.arange(1.0, 6.0).to(h).diag()


FEW = ("operators", "gram")
family(
    {
        "weights_standardised": lambda: pooled(Standardised(1, 3, 3), nn.Tanh()),
        "synchronised_batch_norm": lambda: shaken(
            pooled(nn.Conv2d(1, 3, 3), nn.SyncBatchNorm(3), nn.Tanh())
        ),
    },
    images,
    entries=FEW,
)
MORE: dict[str, Callable[[Tensor], Tensor]] = {
    "distances": lambda h: torch.cdist(h, torch.eye(5).to(h)).neg().exp(),
    "eigenvalues_inside": lambda h: torch.linalg.eigvalsh(_matrix(h)),
    "cholesky_inside": lambda h: torch.linalg.cholesky(_matrix(h)).sum(1),
    "running_maximum": lambda h: h.cummax(1).values,
    "products_with_zeros": lambda h: h.relu().prod(1, keepdim=True) + h.sin(),
    "branch_on_a_number": lambda h: h.sin() if h.abs().sum().item() > -1 else h,
}
family(
    {name: lambda f=f: mlp(Call(f)) for name, f in MORE.items()}, vectors, entries=FEW
)
# torch's second backward pass of it is NaN; its forward mode is right
family(
    {"running_log_sum": lambda: mlp(Call(lambda h: h.logcumsumexp(1)))},
    vectors,
    entries=FEW,
    hess_oracle="differences",
    hess_tol=1e-6,
)
