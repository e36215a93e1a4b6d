"""The plain Vision Transformer (Dosovitskiy et al. 2020, arXiv 2010.11929)."""

from typing import Unpack

from facetx.contract import InputContract
from facetx.nn import ClassToken, Encoder, EncoderSizes, FaceTransformer, LearnedPositions, PatchTokens

# Table 1 of the paper, ViT-Base: 86 M parameters.
BASE = EncoderSizes(dim=768, depth=12, heads=12, mlp_dim=3072, qkv_bias=True, dropout=0.1)
# Ours, for work on a CPU.
TINY = EncoderSizes(dim=128, depth=6, heads=4, mlp_dim=512, qkv_bias=True, dropout=0.0)


def vit(image_size: int = 112, patch_size: int = 16, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """ViT-B/16: patches without overlap, learned positions, class token.

    Args:
        image_size: Pixels a side, a multiple of ``patch_size``.
        patch_size: Pixels a side.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return _vit(image_size, patch_size, BASE | sizes)


def vit_tiny(image_size: int = 112, patch_size: int = 16, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """A small ViT for CPUs: width 128, depth 6. Arguments as in ``vit``."""
    return _vit(image_size, patch_size, TINY | sizes)


def _vit(image_size: int, patch_size: int, sizes: EncoderSizes) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, patch_size, stride=patch_size, padding=0, dim=dim)
    return FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(ClassToken.prefix + tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=ClassToken(dim),
        embedding_dim=dim,
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )
