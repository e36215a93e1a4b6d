"""The pre-norm transformer encoder that every model here shares."""

from typing import TypedDict

from torch import Tensor, nn

from facetx.nn.attention import Attention
from facetx.nn.biases import LayerBias


class EncoderSizes(TypedDict, total=False):
    """The arguments of ``Encoder``, for builders that pass them through."""

    dim: int
    depth: int
    heads: int
    mlp_dim: int
    head_dim: int | None
    qkv_bias: bool
    attention_scale: float | None
    dropout: float


class Mlp(nn.Sequential):
    """Linear, GELU, linear, with dropout after each: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0):
        super().__init__(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` (ViT, arXiv 2010.11929, equations 2 and 3)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        attention_scale: float | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim, qkv_bias, attention_scale, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """``depth`` blocks and a last LayerNorm.

    Args:
        dim, depth, heads, mlp_dim: Sizes. Default numbers of a published model stand in its builder.
        head_dim, qkv_bias, attention_scale: As in ``Attention``.
        dropout: After attention, and twice in each MLP.

    Shapes: x (B, T, dim) -> (B, T, dim). ``bias`` gives each layer its additive attention scores.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        attention_scale: float | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.dim = dim
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_dim, head_dim, qkv_bias, attention_scale, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, bias: LayerBias | None = None) -> Tensor:
        for layer, block in enumerate(self.blocks):
            x = block(x, None if bias is None else bias(layer))
        return self.norm(x)
