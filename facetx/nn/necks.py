"""From a pooled feature to the embedding."""

from torch import nn


def linear_neck(width: int, embedding_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Dropout, a linear map and batch norm: (B, width) -> (B, embedding_dim)."""
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
    )


def bottleneck_neck(width: int, hidden: int, embedding_dim: int) -> nn.Sequential:
    """Two linear maps, batch norm after each: (B, width) -> (B, hidden) -> (B, embedding_dim) (InsightFace's ViT)."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden, eps=2e-5),
        nn.Linear(hidden, embedding_dim, bias=False),
        nn.BatchNorm1d(embedding_dim, eps=2e-5),
    )


def init_linear(module: nn.Module, std: float = 0.02) -> None:
    """Draws the weights of all linear layers in ``module`` from a truncated normal; their biases start at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
