"""FaceRec: a ViT whose attention also hears what a small CNN says of each patch.

Scores between the patches' convolutional embeddings are computed once an image and added to every layer's scores before
the softmax. Fixed sine positions; the embedding is a weighted mean of all tokens. What its paper leaves open is decided
here: the three blocks' filters and widths (``facetx.nn.ConvAttention``), and one hidden layer in the pooling's MLP.
"""

from typing import Literal, Unpack

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
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """FaceRec as first tried: 8 layers, convolutional embeddings of 256 channels.

    Args:
        image_size: Pixels a side, a multiple of ``patch_size``.
        patch_size: Pixels a side, at least 14.
        conv_dim: Channels of a patch's convolutional embedding.
        conv_scores: False leaves the convolutional scores out.
        pooling: The weighted mean of all tokens, or a class token in its place.
        positions: Fixed sines, or learned ones in their place.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return _facerec(image_size, patch_size, conv_dim, conv_scores, pooling, positions, L8 | sizes)


def facerec_l10(
    image_size: int = 256,
    patch_size: int = 32,
    conv_dim: int = 512,
    conv_scores: bool = True,
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """FaceRec as tried next: 10 layers, 512 channels. Arguments as in ``facerec_l8``."""
    return _facerec(image_size, patch_size, conv_dim, conv_scores, pooling, positions, L10 | sizes)


def facerec_tiny(
    image_size: int = 112,
    patch_size: int = 16,
    conv_dim: int = 128,
    conv_scores: bool = True,
    pooling: Literal["sequence", "class_token"] = "sequence",
    positions: Literal["sine", "learned"] = "sine",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """A small FaceRec for CPUs and 112x112 faces: width 128, depth 6. Arguments as in ``facerec_l8``."""
    return _facerec(image_size, patch_size, conv_dim, conv_scores, pooling, positions, TINY | sizes)


def _facerec(
    image_size: int,
    patch_size: int,
    conv_dim: int,
    conv_scores: bool,
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
        bias=ConvAttention(patch_size, sizes["heads"], conv_dim, pool.prefix) if conv_scores else None,
        dropout=sizes.get("dropout", 0.0),
        contract=InputContract(size=image_size),
    )
