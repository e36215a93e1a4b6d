"""What tells a token where it stands."""

from typing import Literal

import torch
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """One learned vector a token, added (ViT, arXiv 2010.11929, equation 1).

    Args:
        num_tokens: Number of tokens T, a class token counted.
        dim: Width D of a token.
        std: Of the normal initialization.
    """

    def __init__(self, num_tokens: int, dim: int, std: float = 0.02):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, num_tokens, dim) * std)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.positions.to(x.dtype)


class SinePositions(nn.Module):
    """Fixed sines and cosines of wavelengths from 2 pi to 10000 * 2 pi, added (Vaswani et al. 2017, section 3.5).

    Args:
        num_tokens: Number of tokens T, a class token counted.
        dim: Width D of a token.
    """

    positions: Tensor

    def __init__(self, num_tokens: int, dim: int):
        super().__init__()
        wavelength = 10000 ** (torch.arange(0, dim, 2) / dim)
        angle = torch.arange(num_tokens)[:, None] / wavelength  # (T, D / 2, rounded up)
        positions = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :dim]  # sine, cosine in turn
        self.register_buffer("positions", positions[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.positions.to(x.dtype)


def positions_of(
    kind: Literal["learned", "sine"], num_tokens: int, dim: int, std: float = 0.02
) -> LearnedPositions | SinePositions:
    """Positions by name, for builders that offer both. Raises ``ValueError`` for another name."""
    if kind == "learned":
        return LearnedPositions(num_tokens, dim, std)
    if kind == "sine":
        return SinePositions(num_tokens, dim)
    raise ValueError(f"positions must be 'learned' or 'sine', got {kind!r}")
