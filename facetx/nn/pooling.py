"""Tokens to one feature: the third seam of the transformer.

A pooling may put tokens of its own before the patches (``prefix`` of them) and reduces what the encoder returns.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Pooling(nn.Module, ABC):
    """What a pooling is. It has no token of its own, unless it overrides ``prefix`` and ``prepend``.

    Attributes:
        prefix: How many tokens ``prepend`` puts before the patches.
    """

    prefix = 0

    def prepend(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, prefix + N, D)."""
        return x

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, prefix + N, D) -> (B, D), or what the neck takes."""


class ClassToken(Pooling):
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
        return torch.cat([self.token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return x[:, 0]


class SequencePooling(Pooling):
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


class MeanPooling(Pooling):
    """The mean of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return x.mean(dim=1)


class FlattenPooling(Pooling):
    """All tokens side by side, for a neck that reduces them (InsightFace's ViT)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N * D)."""
        return x.flatten(1)
