"""Dropout whose mask costs next to nothing in a compiled network."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014): in training a number is 0 with probability ``p``, else divided by ``1 - p``.

    PyTorch's own where the network is not compiled. In a compiled one its generator is a large part of a step: ten
    rounds of Philox for each number, and a mask in memory. There the mask is a hash of the place and of one number
    that the generator gives: it is made inside the kernels around it, and made again by the backward pass.

    Shapes: any -> the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p in (0, 1) or self.inplace or not torch.compiler.is_compiling():
            return super().forward(x)
        keep = kept(torch.randint(-(2**31), 2**31 - 1, (), dtype=torch.int32, device=x.device), x.shape, self.p)
        return torch.where(keep, x * (1 / (1 - self.p)), 0)


def kept(seed: Tensor, shape: torch.Size, p: float) -> Tensor:
    """Which places of ``shape`` stay, each with probability ``1 - p`` to within 2 ** -24: a bool tensor.

    Two rounds of multiply and shift mix all 32 bits of the place (the constants of Wellons's ``lowbias32``, of the
    form of MurmurHash3's finalizer); the seed enters before each, so that two seeds give no shifted copies.
    """
    place = torch.arange(shape.numel(), dtype=torch.int32, device=seed.device).view(shape)
    x = _mixed(place ^ seed, 16, 0x7FEB352D)
    x = _mixed(x + seed * 0x9E3779B - (seed >> 7), 15, 0x846CA68B - 2**32)
    x = x ^ _shifted(x, 16)
    return (x & 0xFFFFFF) >= round(p * 2**24)


def _mixed(x: Tensor, bits: int, factor: int) -> Tensor:
    return (x ^ _shifted(x, bits)) * factor


def _shifted(x: Tensor, bits: int) -> Tensor:
    """``x >> bits`` of the 32 bits without a sign."""
    return (x >> bits) & (2 ** (32 - bits) - 1)
