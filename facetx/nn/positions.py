"""What tells a token where it stands."""

from typing import Literal

import torch
import torch.nn.functional as F
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


def resized_positions(positions: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Learned positions for another number of tokens: bicubic, antialiased, as timm and DeiT (arXiv 2012.12877) do.

    Args:
        positions: (1, T, D), of T - ``prefix`` tokens in a square.
        prefix: Tokens before them (a class token), whose positions stay.
        grid: Tokens down and across, (h, w), that are wanted.

    Returns (1, prefix + h * w, D). Raises ``ValueError`` where the tokens are no square.
    """
    side = round((positions.shape[1] - prefix) ** 0.5)
    if prefix + side * side != positions.shape[1]:
        raise ValueError(f"{positions.shape[1] - prefix} positions are no square of tokens")
    before, own = positions[:, :prefix], positions[:, prefix:].unflatten(1, (side, side))  # (1, side, side, D)
    moved = F.interpolate(own.permute(0, 3, 1, 2).float(), grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([before, moved.to(own.dtype).permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def positions_of(
    kind: Literal["learned", "sine"], num_tokens: int, dim: int, std: float = 0.02
) -> LearnedPositions | SinePositions:
    """Positions by name, for builders that offer both. Raises ``ValueError`` for another name."""
    if kind == "learned":
        return LearnedPositions(num_tokens, dim, std)
    if kind == "sine":
        return SinePositions(num_tokens, dim)
    raise ValueError(f"positions must be 'learned' or 'sine', got {kind!r}")
