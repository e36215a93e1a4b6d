"""Attention biases: the second seam of the transformer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from facetx.errors import ConfigError, DataError


class Scores(ABC):
    """Scores to be added that are never laid out as (B, heads, T, T): they join the attention's own in its kernel."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
        """``dropout(softmax(scale * Q K^T + these)) V`` of q, k, v (B, A, T, d), the same shape."""


Bias = Tensor | Scores
LayerBias = Callable[[int], Bias | None]
"""From a layer's index to what is added to its attention scores: a tensor that is broadcastable to (B, heads, T, T), or
``Scores``."""


@dataclass(frozen=True)
class Product(Scores):
    """``query key^T``, both (B, A, T, e). Put beside q and k they make one product: no kernel needs to know of them."""

    query: Tensor
    key: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
        width, wider = v.shape[3], self.query.shape[3]
        q = torch.cat([q, (self.query / scale).to(q.dtype)], dim=3)
        k = torch.cat([k, self.key.to(k.dtype)], dim=3)
        v = F.pad(v, (0, wider))  # fused kernels want all three of one width
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)[..., :width]


@dataclass(frozen=True)
class LookedUp(Scores):
    """``table[b, i, head, bucket[i, j]]``, looked up within FlexAttention (arXiv 2412.05496), which is compiled.

    Attributes:
        table: (B, N, A, K).
        bucket: (N, N) whole numbers below K.
    """

    table: Tensor
    bucket: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
        from torch.nn.attention.flex_attention import flex_attention  # slow to import

        if dropout:
            raise ConfigError("FlexAttention has no dropout of attention weights; leave flex or attention_dropout out")
        table, bucket = self.table.to(q.dtype), self.bucket

        def mod(score: Tensor, b: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + table[b, i, head, bucket[i, j]]

        return flex_attention(q, k, v, score_mod=mod, scale=scale)


class AttentionBias(nn.Module, ABC):
    """What a bias is: called once an image batch, asked once a layer, so that no layer's bias outlives the layer.

    In training the fused attention keeps what its backward needs, as large as the bias, unless ``Encoder`` recomputes.

    Subclasses implement ``forward(images, keypoints) -> LayerBias``. ``images`` are the network's input
    (B, 3, H, W); ``keypoints`` are (B, 5, 2) in [0, 1] as (x, y), or None.
    """

    needs_keypoints = False

    @abstractmethod
    def forward(self, images: Tensor, keypoints: Tensor | None) -> LayerBias:
        """The bias of each layer, for this batch."""


class KeypointBias(AttentionBias):
    """KP-RPE: how far token i stands from the five facial keypoints says how it attends to its surroundings.

    ``bias[i, j] = table(i)[bucket(i, j)]`` where ``table(i)`` is a linear function of the ten differences between
    token i's center and the keypoints, and ``bucket`` sorts the offset from j to i into ``buckets`` (Kim et al. 2024,
    "KeyPoint Relative Position Encoding for Face Recognition", CVPR; buckets by iRPE's product method, arXiv
    2107.14222). Each layer and each head has its own table, which starts at zero.

    Args:
        side: Tokens a side; the grid is square.
        depth, heads: Of the encoder.
        ratio: Offsets up to this many tokens have a bucket each, those beyond share buckets on a log scale.
        flex: Look the bias up within FlexAttention where the network is compiled as a whole on CUDA, so that a layer
            keeps its table (B, N, heads, 49) and not (B, heads, N, N). Elsewhere it changes nothing.
    """

    needs_keypoints = True
    centers: Tensor
    bucket: Tensor

    def __init__(self, side: int, depth: int, heads: int, ratio: float = 1.9, flex: bool = False):
        super().__init__()
        self.heads = heads
        self.flex = flex
        self.buckets = (2 * int(2 * ratio) + 1) ** 2
        self.table = nn.Linear(10, depth * heads * self.buckets)
        nn.init.zeros_(self.table.weight)
        nn.init.zeros_(self.table.bias)
        center = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(center, center, indexing="ij")
        self.register_buffer("centers", torch.stack([x, y], dim=2).view(-1, 1, 2), persistent=False)  # (N, 1, 2)
        self.register_buffer("bucket", product_buckets(side, ratio), persistent=False)

    def forward(self, images: Tensor, keypoints: Tensor | None) -> LayerBias:
        if keypoints is None:
            raise DataError(
                "this backbone needs the five facial keypoints of each image, and the data has none; give keypoints "
                "(batch, 5, 2) as (x, y) in 0..1, use data with landmarks, or choose a backbone without KP-RPE"
            )
        if keypoints.shape[1:] != (5, 2):
            raise DataError(f"keypoints must be of shape (batch, 5, 2), got {tuple(keypoints.shape)}")
        differences = (self.centers - keypoints[:, None]).flatten(2)  # (N, 1, 2) - (B, 1, 5, 2) -> (B, N, 10)
        differences = differences.to(self.table.weight.dtype)
        B, N, _ = differences.shape
        index = self.bucket[:, None].expand(B, N, self.heads, N)
        size = self.heads * self.buckets

        flex = self.flex and images.is_cuda and torch.compiler.is_compiling()

        def bias_of(layer: int) -> Bias:
            rows = slice(layer * size, (layer + 1) * size)
            table = F.linear(differences, self.table.weight[rows], self.table.bias[rows])
            table = table.view(B, N, self.heads, self.buckets)
            if flex:
                return LookedUp(table, self.bucket)
            return table.gather(3, index).transpose(1, 2)  # (B, N, A, N) -> (B, A, N, N)

        return bias_of


def product_buckets(side: int, ratio: float) -> Tensor:
    """Which bucket the offset from token j to token i falls into, rows and columns apart.

    The piecewise index and the product method of iRPE (arXiv 2107.14222).

    Args:
        side: Tokens a side.
        ratio: alpha; beta is twice and gamma eight times as much.

    Returns (N, N) integers below ``(2 * int(2 * ratio) + 1) ** 2``.
    """
    alpha, beta, gamma = ratio, 2 * ratio, 8 * ratio
    reach = int(beta)
    offset = torch.arange(side)[:, None] - torch.arange(side)  # (side, side), of i from j along one axis
    distance = offset.abs()
    far = alpha + (distance.clamp(min=1) / alpha).log() / math.log(gamma / alpha) * (beta - alpha)
    far = far.round().clamp(max=reach).long()
    line = offset.sign() * torch.where(distance <= alpha, distance, far) + reach  # 0 .. 2 * reach
    product = line[:, None, :, None] * (2 * reach + 1) + line[None, :, None, :]  # (row i, column i, row j, column j)
    return product.view(side * side, side * side)


class ConvAttention(AttentionBias):
    """Attention scores between patches as a small CNN sees them, one patch at a time, the same for every layer.

    ``scale * Q K^T`` of the patches' convolutional embeddings (FaceRec's method). Three blocks of convolution, ReLU and
    max-pool embed a patch; the last pool takes all that is left.

    Args:
        patch_size: Pixels a side, without overlap, as the tokens'. Three convolutions must find room in it.
        heads: Of the encoder.
        dim: Channels of the embedding.
        prefix: Tokens before the patches; their scores get nothing added.
        kernels: Pixels a side of the three blocks' filters.
        widths: Channels after the first two blocks; 1/32 and 1/8 of ``dim`` unless given.
        scale: Factor on Q K^T; one over the root of a head's channels, ``(dim / heads) ** -0.5``, unless given.
    """

    def __init__(
        self,
        patch_size: int,
        heads: int,
        dim: int,
        prefix: int = 0,
        kernels: Sequence[int] = (3, 3, 2),
        widths: Sequence[int] | None = None,
        scale: float | None = None,
    ):
        super().__init__()
        first, second, third = kernels
        least = 2 * (2 * third + second - 1) + first - 1  # so that the third convolution finds its filter's size
        if patch_size < least:
            raise ValueError(f"three convolutions need patches of at least {least} pixels, got {patch_size}")
        if dim % heads or (widths is None and dim % 32):
            rule = "divide by 32 and into" if widths is None else "divide into"
            raise ValueError(f"the convolutional width {dim} must {rule} {heads} heads")
        narrow, middle = (dim // 32, dim // 8) if widths is None else widths
        self.patch_size = patch_size
        self.heads = heads
        self.prefix = prefix
        self.scale = (dim // heads) ** -0.5 if scale is None else scale
        # ReLU after the pool is the same as before it, on a quarter of the values.
        self.embed = nn.Sequential(
            *(nn.Conv2d(3, narrow, first), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(narrow, middle, second), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(middle, dim, third), nn.AdaptiveMaxPool2d(1), nn.ReLU()),
            nn.Flatten(),
        )
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, images: Tensor, keypoints: Tensor | None) -> LayerBias:
        P = self.patch_size
        N = (images.shape[2] // P) * (images.shape[3] // P)
        patches = rearrange(images, "b c (h p) (w q) -> (b h w) c p q", p=P, q=P)
        patches = patches.contiguous(memory_format=torch.channels_last)  # half the time on a CPU
        x = self.embed(patches).unflatten(0, (-1, N))  # (B, N, dim)
        q, k = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key))  # (B, A, N, d)
        q, k = (F.pad(x, (0, 0, self.prefix, 0)) for x in (q * self.scale, k))
        product = Product(q, k)
        return lambda layer: product
