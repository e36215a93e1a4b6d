"""The moving average of a module's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from facetx.processes import own


class MovingAverage:
    """An exponential moving average of a module's weights: ``average += (1 - decay) (weights - average)``.

    The decay rises as (1 + step) / (10 + step) until it reaches ``decay``, so that a short run is not an average of
    its random start. Buffers (batch norm's statistics) are copied. A bad step does not move the average.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, finite: Tensor) -> None:
        """Takes the weights after step ``step`` (from 0) in, unless ``finite``, a bool on the device, is false.

        The module must be as it was before such a step.
        """
        weight = finite * (1 - min(self.decay, (1 + step) / (10 + step)))
        parameters = dict(module.named_parameters())
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in module.state_dict().items():
            if name in parameters:
                averaged.append(own(self.state[name]))
                current.append(own(value))
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averaged, current, [weight.to(a.dtype) for a in averaged])


@contextmanager
def averaged(module: nn.Module, average: MovingAverage | None) -> Iterator[None]:
    """The averaged weights inside, the module's own again afterwards."""
    if average is None:
        yield
        return
    own = {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict(average.state)
    try:
        yield
    finally:
        module.load_state_dict(own)
