"""Train one network in several processes, each on its share of every batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from workbench.machine.distributed import World


class _Sum(torch.autograd.Function):
    """The sum over processes; the backward pass sums their gradients."""

    @staticmethod
    def forward(context: object, tensor: Tensor, world: World) -> Tensor:
        context.world = world  # type: ignore[attr-defined]
        return world.sum(tensor.clone())

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return context.world.sum(gradient.clone()), None  # type: ignore[attr-defined]


class JointBatchNorm(_BatchNorm):
    """Batch norm over the batch of all processes, like `torch.nn.SyncBatchNorm`.

    Also works on a CPU. Takes two passes, first the mean and then the variance about
    it, so that single precision suffices.
    """

    def __init__(self, norm: _BatchNorm, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.world = world
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.track_running_stats = norm.track_running_stats

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        pass

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        own = input.new_tensor(float(input.numel() // input.shape[1]))
        count = self.world.sum(own)
        mean = _Sum.apply(input.sum(axes), self.world) / count
        centred = input - mean.view(shape)
        var = _Sum.apply(centred.square().sum(axes), self.world) / count
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            rate = self.momentum
            if rate is None:
                rate = 1 / float(self.num_batches_tracked)
            unbiased = var.detach() * count / (count - 1)
            self.running_mean.lerp_(mean.detach(), rate)
            self.running_var.lerp_(unbiased, rate)
        found = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found


def in_step(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """Wrap a network so that processes together take the step of one process.

    Batch norm uses the whole batch. Weights are shared with ``model``, whose batch
    norms are replaced. Only dropout differs from a single process.
    """
    if world.size == 1:
        return model
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    else:
        _join_norms(model, world)
    found: nn.Module = DistributedDataParallel(model, static_graph=True)
    return found


def _join_norms(model: nn.Module, world: World) -> None:
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, JointBatchNorm(child, world))
        else:
            _join_norms(child, world)
