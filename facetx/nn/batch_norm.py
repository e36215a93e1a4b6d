"""Batch norm whose statistics are those of the images of all processes of a training."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facetx.errors import ConfigError, some
from facetx.nn.memory import no_autocast
from facetx.processes import count, total


class SyncedBatchNorm(_BatchNorm):
    """Batch norm (arXiv 1502.03167) over the batches of all processes, which bring as many images each.

    As ``nn.SyncBatchNorm`` computes, also on CPUs. In evaluation, and in one process, it is the layer that it was.

    Shapes: (B, C) or (B, C, ...) -> the same.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # the layer that this one was made of has been given inputs that fit

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or count() == 1:
            return super().forward(x)
        with no_autocast(x.device.type):
            values = x.to(torch.promote_types(x.dtype, torch.float32))
            others = [0, *range(2, x.ndim)]
            mean = _AllMean.apply(values.mean(others, keepdim=True))
            centered = values - mean
            var = _AllMean.apply(centered.square().mean(others, keepdim=True))
            normal = centered * (var + self.eps).rsqrt()
            if self.affine:
                normal = normal * self.weight.view_as(mean[0]) + self.bias.view_as(mean[0])
            if self.track_running_stats:
                self._follow(mean.detach().flatten(), var.detach().flatten(), x.numel() // x.shape[1] * count())
            return normal.to(x.dtype)

    def _follow(self, mean: Tensor, var: Tensor, number: int) -> None:
        """Moves the running statistics, as PyTorch does: the variance is that of a sample of ``number``."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight: Any = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_((var * (number / max(number - 1, 1))).to(self.running_var), weight)


class _AllMean(torch.autograd.Function):
    """The mean over processes. The gradient is that of the sum of all losses, as for ``processes.all_rows``."""

    @staticmethod
    def forward(ctx: Any, part):
        return total(part) / count()

    @staticmethod
    def backward(ctx: Any, grad):
        return total(grad) / count()


def sync_batch_norm(module: nn.Module) -> None:
    """Makes the batch norms that are trained ``SyncedBatchNorm``, in place; names and values stay.

    Raises ``ConfigError`` for those of a class of another library, which may do more than batch norm.
    """
    norms = {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm) and m.training}
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if others := [f"{name} ({type(m).__name__})" for name, m in norms.items() if type(m) not in plain]:
        raise ConfigError(
            f"train.sync_batch_norm: is known for PyTorch's own batch norm, and not for {some(others, show=2)}; leave "
            "it out, with enough images in each process, or choose a backbone without"
        )
    for norm in norms.values():
        norm.__class__ = SyncedBatchNorm
