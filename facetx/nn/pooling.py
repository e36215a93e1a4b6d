"""Tokens to one feature: the third seam of the transformer.

A pooling may put tokens of its own before the patches (``prefix`` of them) and reduces what the encoder returns.
"""

import torch
from torch import Tensor, nn


class ClassToken(nn.Module):
    """A learned token is put before the patches, and its state at the end is the feature (ViT, BERT).

    Args:
        dim: Width D of a token.
        std: Of the normal initialisation.
    """

    prefix = 1

    def __init__(self, dim: int, std: float = 0.02):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, dim) * std)

    def prepend(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, 1 + N, D)."""
        return torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), x], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return x[:, 0]
