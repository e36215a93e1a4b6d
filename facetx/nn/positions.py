"""What tells a token where it stands."""

import torch
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """One learned vector a token, added (ViT, arXiv 2010.11929, equation 1).

    Args:
        num_tokens: Number of tokens T, a class token counted.
        dim: Width D of a token.
        std: Of the normal initialisation.
    """

    def __init__(self, num_tokens: int, dim: int, std: float = 0.02):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, num_tokens, dim) * std)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.positions
