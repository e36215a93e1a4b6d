"""InsightFace's ViTs, as its trainer arcface_torch builds them (after ViT, arXiv 2010.11929).

Their weights take RGB scaled by (x / 255 - 0.5) / 0.5, as the default contract says.
"""

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from facetx.backbones.base import layer_count, rename_state
from facetx.contract import InputContract
from facetx.errors import CheckpointError
from facetx.nn import Encoder, EncoderSizes, FaceTransformer, FlattenPooling, LearnedPositions, PatchTokens
from facetx.nn.necks import bottleneck_neck, init_linear

_VIT = EncoderSizes(depth=12, heads=8, activation="relu6", drop_path=0.1, dropout=0.0)
VIT_T = _VIT | EncoderSizes(dim=256, mlp_dim=1024)
VIT_S = _VIT | EncoderSizes(dim=512, mlp_dim=2048)
VIT_B = _VIT | EncoderSizes(dim=512, mlp_dim=2048, depth=24)
VIT_L = _VIT | EncoderSizes(dim=768, mlp_dim=3072, depth=24, drop_path=0.05)


def insightface_vit_t(
    image_size: int = 112, embedding_dim: int = 512, **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """InsightFace's ViT-T: 12x12 patches of 9 pixels (4 at the right and lower edge stay unseen), no class token.

    All tokens side by side go through two linear maps with batch norm. Its masking of patches in training is left out.

    Args:
        image_size: Pixels a side.
        embedding_dim: Width of the embedding.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of InsightFace's.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim).
    """
    return _vit(image_size, embedding_dim, VIT_T | sizes)


def insightface_vit_s(
    image_size: int = 112, embedding_dim: int = 512, **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """InsightFace's ViT-S: width 512, depth 12. Arguments as in ``insightface_vit_t``."""
    return _vit(image_size, embedding_dim, VIT_S | sizes)


def insightface_vit_b(
    image_size: int = 112, embedding_dim: int = 512, **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """InsightFace's ViT-B: width 512, depth 24. Arguments as in ``insightface_vit_t``."""
    return _vit(image_size, embedding_dim, VIT_B | sizes)


def insightface_vit_l(
    image_size: int = 112, embedding_dim: int = 512, **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """InsightFace's ViT-L: width 768, depth 24. Arguments as in ``insightface_vit_t``."""
    return _vit(image_size, embedding_dim, VIT_L | sizes)


def _vit(image_size: int, embedding_dim: int, sizes: EncoderSizes) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, 9, stride=9, padding=0, dim=dim, cover=False)
    model = FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=FlattenPooling(),
        embedding_dim=embedding_dim,
        neck=bottleneck_neck(dim * tokens.num_tokens, dim, embedding_dim),
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )
    init_linear(model)
    return model


# Also of CVLface, whose ViT is InsightFace's with a bias.
VIT_NAMES = {
    "pos_embed": "positions.positions",
    "patch_embed.proj": "tokens.proj",
    "norm": "encoder.norm",
    "feature": "neck",
    "blocks.#.norm1": "encoder.blocks.#.norm1",
    "blocks.#.norm2": "encoder.blocks.#.norm2",
    "blocks.#.attn": "encoder.blocks.#.attention",
    "blocks.#.mlp.fc1": "encoder.blocks.#.mlp.0",
    "blocks.#.mlp.fc2": "encoder.blocks.#.mlp.3",
}


def convert_insightface_vit(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """InsightFace's ViT weights as ours, for images of 112 pixels.

    Args:
        state: A state dict under the names of InsightFace's arcface_torch. ``mask_token``, for training, is left out.

    Returns the backbone's name, its arguments, and its state dict. Raises ``CheckpointError`` where they cannot be read
    from the weights.
    """
    needs = ("norm.weight", "feature.2.weight")
    renamed = rename_state(state, VIT_NAMES, "InsightFace's ViT", needs, ignored=["mask_token"])
    dim, depth = renamed["encoder.norm.weight"].shape[0], layer_count(renamed)
    names = {(256, 12): "t", (512, 12): "s", (512, 24): "b", (768, 24): "l"}
    if (dim, depth) not in names:
        raise CheckpointError(f"an InsightFace ViT of width {dim} and depth {depth} has no builder; T, S, B and L have")
    return f"insightface_vit_{names[dim, depth]}", {"embedding_dim": renamed["neck.2.weight"].shape[0]}, renamed
