"""The pre-norm transformer encoder that every model here shares."""

from typing import Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from facetx.nn.attention import Attention
from facetx.nn.biases import Bias, LayerBias
from facetx.nn.dropout import Dropout


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
    attention_dropout: float
    drop_path: float
    activation: Literal["gelu", "relu6"]
    norm_residual: bool
    fp32_residual: bool
    recompute: bool


_ACTIVATIONS = {"gelu": nn.GELU, "relu6": nn.ReLU6}


class Mlp(nn.Sequential):
    """Linear, activation, linear, with dropout after each: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, activation: Literal["gelu", "relu6"] = "gelu"):
        super().__init__(
            nn.Linear(dim, hidden),
            _ACTIVATIONS[activation](),
            Dropout(dropout),
            nn.Linear(hidden, dim),
            Dropout(dropout),
        )


class DropPath(nn.Module):
    """Stochastic depth: in training a sample's branch is left out with probability ``rate`` (arXiv 1603.09382).

    Where it may be left out in one of the blocks, all of them draw, so that blocks of several rates are one compiled
    graph; the rate is a tensor for the same reason.

    Args:
        rate: In 0..1; None leaves nothing out and draws nothing.
    """

    def __init__(self, rate: float | None = None):
        super().__init__()
        self.rate = rate
        self.keep = None if rate is None else torch.tensor(1 - rate, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), those that stay scaled by ``1 / (1 - rate)``."""
        if not self.training or self.keep is None:
            return x
        stays = torch.rand(x.shape[0], 1, 1, device=x.device) < self.keep
        return x * (stays / self.keep).to(x.dtype)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` (ViT, arXiv 2010.11929, equations 2 and 3).

    With ``norm_residual`` the second norm stands on the residual stream: ``x = norm(x)``, then ``x + mlp(x)``.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        attention_scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float | None = None,
        activation: Literal["gelu", "relu6"] = "gelu",
        norm_residual: bool = False,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim, qkv_bias, attention_scale, dropout, attention_dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, dropout, activation)
        self.drop_path = DropPath(drop_path)
        self.norm_residual = norm_residual

    def forward(self, x: Tensor, bias: Bias | None = None) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x), bias))
        y = self.norm2(x)
        return (y if self.norm_residual else x) + self.drop_path(self.mlp(y))


class Encoder(nn.Module):
    """``depth`` blocks and a last LayerNorm.

    Args:
        dim, depth, heads, mlp_dim: Sizes. Default numbers of a published model stand in its builder.
        head_dim, qkv_bias, attention_scale: As in ``Attention``.
        dropout: After attention, and twice in each MLP.
        attention_dropout: On the attention weights.
        drop_path: Stochastic depth of the last block; it rises linearly from 0 at the first.
        activation: Of the MLP.
        norm_residual: Each block's second norm stands on the residual stream, as in CCT.
        fp32_residual: The sums between the blocks stay in float32 under autocast. Else they have the type that the
            tokens come in, bf16 of a run in bf16, which takes 7 % less time and shows no loss of accuracy
            (docs/benchmarks.md).
        recompute: In training a block keeps its input alone, and is computed again by the backward pass: far less
            memory, for about a fifth more time.

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
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        activation: Literal["gelu", "relu6"] = "gelu",
        norm_residual: bool = False,
        fp32_residual: bool = False,
        recompute: bool = False,
    ):
        super().__init__()
        self.dim = dim
        self.fp32_residual = fp32_residual
        self.recompute = recompute
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads,
                mlp_dim,
                head_dim,
                qkv_bias,
                attention_scale,
                dropout,
                attention_dropout,
                drop_path * layer / max(depth - 1, 1) if drop_path else None,
                activation,
                norm_residual,
            )
            for layer in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, bias: LayerBias | None = None) -> Tensor:
        if self.fp32_residual:
            x = x.float()
        for layer in range(len(self.blocks)):
            if self.recompute and self.training:
                x = checkpoint(self._layer, x, layer, bias, use_reentrant=False)
            else:
                x = self._layer(x, layer, bias)
        return self.norm(x)

    def _layer(self, x: Tensor, layer: int, bias: LayerBias | None) -> Tensor:
        return self.blocks[layer](x, None if bias is None else bias(layer))
