"""Face Transformer: ViT on overlapping patches (Zhong & Deng 2021, arXiv 2103.14803).

A 112x112 face gives 14 x 14 tokens under a window that moves by 8 pixels. The window's size names the model: 8 does
not overlap, 10 and 12 do.
"""

from collections.abc import Mapping
from typing import Any, Unpack

from einops import rearrange
from torch import Tensor

from facetx.backbones.base import layer_count, rename_state
from facetx.backbones.vit import TokensToFeature, patch_vit
from facetx.nn import EncoderSizes, FaceTransformer

# Section 4.1 of the paper: 63.2 M parameters (P8S8), 63.3 M (P10S8, P12S8).
BASE = EncoderSizes(dim=512, depth=20, heads=8, head_dim=64, mlp_dim=2048, dropout=0.1)
# Ours, for work on a CPU: 1.3 M parameters.
TINY = EncoderSizes(dim=128, depth=6, heads=4, head_dim=32, mlp_dim=512, dropout=0.0)


def vit_p8s8(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """ViT-P8S8: patches of 8 pixels that do not overlap.

    Args:
        image_size: Pixels a side, a multiple of 8.
        pooling: The class token's last state, as in the paper, or "flatten" as in ``facetx.backbones.vit.vit``.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's. ``attention_scale`` is
            ``head_dim ** -0.5`` as the paper writes; the authors' code, and so their weights, have ``dim ** -0.5``.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return patch_vit(image_size, 8, 8, 0, pooling, BASE | sizes)


def vit_p10s8(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """ViT-P10S8: patches of 10 pixels every 8, padding 1. Arguments as in ``vit_p8s8``."""
    return patch_vit(image_size, 10, 8, 1, pooling, BASE | sizes)


def vit_p12s8(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """ViT-P12S8: patches of 12 pixels every 8, padding 4 as in the authors' code. Arguments as in ``vit_p8s8``."""
    return patch_vit(image_size, 12, 8, 4, pooling, BASE | sizes)


def vit_p8s8_tiny(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """A small ViT-P8S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return patch_vit(image_size, 8, 8, 0, pooling, TINY | sizes)


def vit_p10s8_tiny(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """A small ViT-P10S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return patch_vit(image_size, 10, 8, 1, pooling, TINY | sizes)


def vit_p12s8_tiny(
    image_size: int = 112, pooling: TokensToFeature = "class_token", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """A small ViT-P12S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return patch_vit(image_size, 12, 8, 4, pooling, TINY | sizes)


# The authors' names -> ours.
NAMES = {
    "pos_embedding": "positions.positions",
    "cls_token": "pooling.token",
    "patch_to_embedding": "tokens.proj",
    "mlp_head.0": "encoder.norm",
    "transformer.layers.#.0.fn.norm": "encoder.blocks.#.norm1",
    "transformer.layers.#.0.fn.fn.to_qkv": "encoder.blocks.#.attention.qkv",
    "transformer.layers.#.0.fn.fn.to_out.0": "encoder.blocks.#.attention.proj",
    "transformer.layers.#.1.fn.norm": "encoder.blocks.#.norm2",
    "transformer.layers.#.1.fn.fn.net.0": "encoder.blocks.#.mlp.0",
    "transformer.layers.#.1.fn.fn.net.3": "encoder.blocks.#.mlp.3",
}
# Of these, what the sizes are read from.
NEEDS = (
    "pos_embedding",
    "patch_to_embedding.weight",
    "mlp_head.0.weight",
    "transformer.layers.0.0.fn.fn.to_qkv.weight",
    "transformer.layers.0.1.fn.fn.net.0.weight",
)


def convert_face_transformer(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The authors' weights as ours.

    Args:
        state: A state dict under the names of the published code. ``loss``, their head, is left out.

    Returns the backbone's name, its arguments, and its state dict. The authors feed raw 0..255 RGB, so give the
    model ``contract = InputContract(mean=(0,), std=(1,))``. Raises ``CheckpointError`` where they cannot be read from
    the weights.
    """
    renamed = rename_state(state, NAMES, "Face Transformer", NEEDS, ignored=["loss."])
    weight = renamed["tokens.proj.weight"]  # (dim, patch * patch * 3)
    patch = round((weight.shape[1] / 3) ** 0.5)
    if patch == 8:  # cut by einops
        renamed["tokens.proj.weight"] = einops_patches(weight, patch)
    else:  # cut by unfold: a token is flattened as (channel, row, column)
        renamed["tokens.proj.weight"] = rearrange(weight, "d (c h w) -> d c h w", h=patch, w=patch)
    side = round((renamed["positions.positions"].shape[1] - 1) ** 0.5)
    return f"vit_p{patch}s8", {"image_size": 8 * side, **encoder_args(renamed)}, renamed


def einops_patches(weight: Tensor, patch: int) -> Tensor:
    """A linear map of tokens that are flattened as (row, column, channel), as a convolution's weight.

    (D, patch * patch * C) -> (D, C, patch, patch).
    """
    return rearrange(weight, "d (h w c) -> d c h w", h=patch, w=patch).contiguous()


def encoder_args(renamed: Mapping[str, Tensor]) -> dict[str, Any]:
    """The encoder's arguments, from converted weights and what the authors' code fixes: heads of 64, and its scale."""
    dim = renamed["encoder.norm.weight"].shape[0]
    return {
        "dim": dim,
        "depth": layer_count(renamed),
        "heads": renamed["encoder.blocks.0.attention.qkv.weight"].shape[0] // (3 * 64),
        "head_dim": 64,
        "mlp_dim": renamed["encoder.blocks.0.mlp.0.weight"].shape[0],
        "attention_scale": dim**-0.5,
    }
