"""The plain Vision Transformer (Dosovitskiy et al. 2020, arXiv 2010.11929), and what Face Transformer has of it."""

from typing import Literal, Unpack

from facetx.contract import InputContract
from facetx.nn import (
    ClassToken,
    Encoder,
    EncoderSizes,
    FaceTransformer,
    FlattenPooling,
    LearnedPositions,
    PatchTokens,
)
from facetx.nn.necks import bottleneck_neck

# Table 1 of the paper, ViT-Base: 86 M parameters.
BASE = EncoderSizes(dim=768, depth=12, heads=12, mlp_dim=3072, qkv_bias=True, dropout=0.1)
# Ours, for work on a CPU.
TINY = EncoderSizes(dim=128, depth=6, heads=4, mlp_dim=512, qkv_bias=True, dropout=0.0)

TokensToFeature = Literal["class_token", "flatten"]


def vit(
    image_size: int = 112,
    patch_size: int = 16,
    pooling: TokensToFeature = "class_token",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """ViT-B/16: patches without overlap, learned positions, class token.

    Args:
        image_size: Pixels a side, a multiple of ``patch_size``.
        patch_size: Pixels a side.
        pooling: The class token's last state, as in the paper; or "flatten": all tokens side by side, two linear maps
            with batch norm, as in InsightFace's ViT, which learns faster from few images.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return patch_vit(image_size, patch_size, patch_size, 0, pooling, BASE | sizes)


def vit_tiny(
    image_size: int = 112,
    patch_size: int = 16,
    pooling: TokensToFeature = "class_token",
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """A small ViT for CPUs: width 128, depth 6. Arguments as in ``vit``."""
    return patch_vit(image_size, patch_size, patch_size, 0, pooling, TINY | sizes)


def patch_vit(
    image_size: int, patch_size: int, stride: int, padding: int, pooling: TokensToFeature, sizes: EncoderSizes
) -> FaceTransformer:
    """A ViT on patches that a window of ``patch_size`` sees every ``stride`` pixels; see ``vit`` for the others."""
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, patch_size, stride, padding, dim=dim)
    if pooling not in ("class_token", "flatten"):
        raise ValueError(f"pooling must be 'class_token' or 'flatten', got {pooling!r}")
    flat = pooling == "flatten"
    prefix = FlattenPooling.prefix if flat else ClassToken.prefix
    return FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(prefix + tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=FlattenPooling() if flat else ClassToken(dim),
        neck=bottleneck_neck(dim * tokens.num_tokens, dim, dim) if flat else None,
        embedding_dim=dim,
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )
