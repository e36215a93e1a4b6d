"""Buffers that follow the training, such as batch norm's means, and how a bad step is kept out of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class LargeStatistics(nn.Module, ABC):
    """A module whose buffers are too large to be copied before each step; it takes a bad update back itself."""

    @abstractmethod
    def settle(self, finite: Tensor) -> None:
        """Ends a step: takes its update back where ``finite``, a bool on the device, is false. A second call is none.

        It must not look at the value, which would stop the device's queue.
        """


class Remembered:
    """The statistics of a module as they are now, for a step that may turn out bad.

    These are the buffers of its state dict. Those that it leaves out are constants.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.large = [m for m in module.modules() if isinstance(m, LargeStatistics)]
        self.before = {dtype: _flat(tensors) for dtype, tensors in self._small().items()}

    @torch.no_grad()
    def settle(self, finite: Tensor) -> None:
        """Ends a step: puts all back, bit for bit, where ``finite``, a bool on the device, is false."""
        for dtype, tensors in self._small().items():
            kept = torch.where(finite, _flat(tensors), self.before[dtype])
            parts = kept.split([t.numel() for t in tensors])
            torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors)])
        for module in self.large:
            module.settle(finite)

    def _small(self) -> dict[torch.dtype, list[Tensor]]:
        """The buffers that are copied, by type."""
        large = {id(b) for m in self.large for b in m.buffers(recurse=False)}
        found: dict[torch.dtype, list[Tensor]] = {}
        for value in self.module.state_dict(keep_vars=True).values():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and id(value) not in large:
                found.setdefault(value.dtype, []).append(value)
        return found


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers in one row, which takes a few kernels however many tensors there are."""
    return torch.cat([t.flatten() for t in tensors])
