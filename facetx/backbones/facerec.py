"""FaceRec: a ViT whose attention also hears what a small CNN says of each patch.

Scores between the patches' convolutional embeddings are computed once an image and added to every layer's scores before
the softmax. Fixed sine positions; the embedding is a weighted mean of all tokens.

The source leaves some of it open. Each of these readings is an argument, or a part that can be exchanged:

- Filters. Its table has "CNN Embedding, {filter sizes}: {256, 512}, {2x2, 3x3}". Braces elsewhere in that table mean
  {first attempt, second attempt}, as they do for 256 and 512 (its text says so), so the filters may be 2x2 in the first
  attempt and 3x3 in the second: ``conv_kernels=(2, 2, 2)`` and ``(3, 3, 3)``. The default takes both in one network,
  (3, 3, 2).
- Widths. 256 or 512 is the embedding's (``conv_dim``); those of the two blocks before it stand nowhere
  (``conv_widths``).
- Scale. ``Q K^T / sqrt(d)``: d is taken to be the width of a head of the convolutional embedding, as in the attention
  beside it. The formula's d is the transformer's width elsewhere in the text: ``conv_scale=1024 ** -0.5``.
- The pooling's "MLP" has one hidden layer, as wide as a token.
"""

from typing import Literal, NamedTuple, Unpack

from facetx.contract import InputContract
from facetx.nn import (
    ClassToken,
    ConvAttention,
    Encoder,
    EncoderSizes,
    FaceTransformer,
    PatchTokens,
    SequencePooling,
)
from facetx.nn.positions import positions_of

# The paper's table of hyperparameters: width 1024, 16 heads, MLP scale 3.
L8 = EncoderSizes(dim=1024, depth=8, heads=16, mlp_dim=3072)
L10 = EncoderSizes(dim=1024, depth=10, heads=16, mlp_dim=3072)
# Ours, for work on a CPU.
TINY = EncoderSizes(dim=128, depth=6, heads=4, mlp_dim=384)


def facerec_l8(
    image_size: int = 256,
    patch_size: int = 32,
    conv_dim: int = 256,
    conv_scores: bool = True,
    conv_kernels: tuple[int, int, int] = (3, 3, 2),
    conv_widths: tuple[int, int] | None = None,
    conv_scale: float | None = None,
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """FaceRec as first tried: 8 layers, convolutional embeddings of 256 channels.

    Args:
        image_size: Pixels a side, a multiple of ``patch_size``.
        patch_size: Pixels a side, at least 14 with the default's filters.
        conv_dim: Channels of a patch's convolutional embedding.
        conv_scores: False leaves the convolutional scores out.
        conv_kernels: Pixels a side of the filters of the three convolutions.
        conv_widths: Channels after the first two; 1/32 and 1/8 of ``conv_dim`` unless given.
        conv_scale: Factor on the convolutional scores' Q K^T; ``(conv_dim / heads) ** -0.5`` unless given.
        pooling: The weighted mean of all tokens, or a class token in its place.
        positions: Fixed sines, or learned ones in their place.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    conv = ConvSettings(conv_dim, conv_kernels, conv_widths, conv_scale) if conv_scores else None
    return _facerec(image_size, patch_size, conv, pooling, positions, L8 | sizes)


def facerec_l10(
    image_size: int = 256,
    patch_size: int = 32,
    conv_dim: int = 512,
    conv_scores: bool = True,
    conv_kernels: tuple[int, int, int] = (3, 3, 2),
    conv_widths: tuple[int, int] | None = None,
    conv_scale: float | None = None,
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """FaceRec as tried next: 10 layers, 512 channels. Arguments as in ``facerec_l8``."""
    conv = ConvSettings(conv_dim, conv_kernels, conv_widths, conv_scale) if conv_scores else None
    return _facerec(image_size, patch_size, conv, pooling, positions, L10 | sizes)


def facerec_tiny(
    image_size: int = 112,
    patch_size: int = 16,
    conv_dim: int = 128,
    conv_scores: bool = True,
    conv_kernels: tuple[int, int, int] = (3, 3, 2),
    conv_widths: tuple[int, int] | None = None,
    conv_scale: float | None = None,
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """A small FaceRec for CPUs and 112x112 faces: width 128, depth 6. Arguments as in ``facerec_l8``."""
    conv = ConvSettings(conv_dim, conv_kernels, conv_widths, conv_scale) if conv_scores else None
    return _facerec(image_size, patch_size, conv, pooling, positions, TINY | sizes)


class ConvSettings(NamedTuple):
    """Those of ``facetx.nn.ConvAttention`` that builders pass through."""

    dim: int
    kernels: tuple[int, int, int]
    widths: tuple[int, int] | None
    scale: float | None


def _facerec(
    image_size: int,
    patch_size: int,
    conv: ConvSettings | None,
    pooling: Literal["sequence", "class_token"],
    positions: Literal["sine", "learned"],
    sizes: EncoderSizes,
) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, patch_size, stride=patch_size, padding=0, dim=dim)
    if pooling not in ("sequence", "class_token"):
        raise ValueError(f"pooling must be 'sequence' or 'class_token', got {pooling!r}")
    pool = SequencePooling(dim, hidden=dim) if pooling == "sequence" else ClassToken(dim)
    return FaceTransformer(
        tokens=tokens,
        positions=positions_of(positions, pool.prefix + tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=pool,
        embedding_dim=dim,
        bias=conv and ConvAttention(patch_size, sizes["heads"], prefix=pool.prefix, **conv._asdict()),
        dropout=sizes.get("dropout", 0.0),
        contract=InputContract(size=image_size),
    )
