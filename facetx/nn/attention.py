"""Multi-head self-attention on the fused kernel, with a place for an additive bias."""

import torch.nn.functional as F
from torch import Tensor, nn

from facetx.nn.biases import Bias, Scores
from facetx.nn.dropout import Dropout


class Attention(nn.Module):
    """``softmax(Q K^T * scale + bias) V`` (Vaswani et al. 2017, equation 1), computed by one fused kernel.

    Args:
        dim: Width D of a token.
        heads: Number of heads A.
        head_dim: Width d of a head; ``dim // heads`` unless given (A * d need not equal D).
        qkv_bias: Whether the projection to Q, K, V has a bias.
        scale: Factor on Q K^T; ``head_dim ** -0.5``, the paper's, unless given.
        dropout: On the output, after the last projection.
        attention_dropout: On the attention weights, after the softmax.

    Shapes: x (B, T, D), bias broadcastable to (B, A, T, T), or ``Scores`` -> (B, T, D).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ):
        super().__init__()
        if head_dim is None:
            if dim % heads:
                raise ValueError(f"dim {dim} does not divide into {heads} heads; give head_dim, or other sizes")
            head_dim = dim // heads
        self.heads = heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(heads * head_dim, dim)
        self.dropout = Dropout(dropout)
        self.attention_dropout = attention_dropout

    def forward(self, x: Tensor, bias: Bias | None = None) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)  # 3 of (B, A, T, d)
        dropout = self.attention_dropout if self.training else 0.0
        if isinstance(bias, Scores):
            x = bias.attend(q, k, v, self.scale, dropout)
        else:
            mask = None if bias is None else bias.to(q.dtype)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale)
        return self.dropout(self.proj(x.transpose(1, 2).flatten(2)))  # (B, A, T, d) -> (B, T, A * d) -> (B, T, D)
