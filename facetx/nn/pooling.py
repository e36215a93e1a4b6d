"""Tokens to one feature: the third seam of the transformer.

A pooling may put tokens of its own before the patches (``prefix`` of them) and reduces what the encoder returns.
"""

import torch
from torch import Tensor, nn


class ClassToken(nn.Module):
    """A learned token is put before the patches, and its state at the end is the feature (ViT, BERT).

    Args:
        dim: Width D of a token.
        std: Of the normal initialization.
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


class _Patches(nn.Module):
    """A pooling that has no token of its own."""

    prefix = 0

    def prepend(self, x: Tensor) -> Tensor:
        """(B, N, D) as it is."""
        return x


class SequencePooling(_Patches):
    """A mean of the tokens, weighted by a softmax over scores that they get themselves (CCT, arXiv 2104.05704).

    Args:
        dim: Width D of a token.
        hidden: Width of a hidden layer under the score; without one, the score is a linear function, as in CCT.
    """

    def __init__(self, dim: int, hidden: int | None = None):
        super().__init__()
        self.score: nn.Module = nn.Linear(dim, 1)
        if hidden is not None:
            self.score = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        weights = self.score(x).softmax(dim=1)  # (B, N, 1)
        return (weights.transpose(1, 2) @ x).squeeze(1)  # (B, 1, N) @ (B, N, D)


class MeanPooling(_Patches):
    """The mean of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return x.mean(dim=1)


class FlattenPooling(_Patches):
    """All tokens side by side, for a neck that reduces them (InsightFace's ViT)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N * D)."""
        return x.flatten(1)
