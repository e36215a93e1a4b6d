"""ViT with keypoint-relative positions, KP-RPE (Kim et al., CVPR 2024, arXiv 2403.14852), in plain PyTorch."""

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from facetx.backbones.base import layer_count, rename_state
from facetx.backbones.insightface_vit import VIT_NAMES
from facetx.contract import InputContract
from facetx.errors import CheckpointError
from facetx.nn import (
    Encoder,
    EncoderSizes,
    FaceTransformer,
    FlattenPooling,
    KeypointBias,
    LearnedPositions,
    PatchTokens,
)
from facetx.nn.necks import bottleneck_neck, init_linear

# CVLface's sizes, the authors' program.
_VIT = EncoderSizes(dim=512, activation="relu6", drop_path=0.1, dropout=0.0)
SMALL = _VIT | EncoderSizes(depth=12, heads=8, mlp_dim=2560)
BASE = _VIT | EncoderSizes(depth=24, heads=16, mlp_dim=1536)
# Ours, for work on a CPU.
TINY = EncoderSizes(dim=96, depth=4, heads=3, mlp_dim=288, activation="relu6", dropout=0.0)


def vit_kprpe_small(
    image_size: int = 112,
    patch_size: int = 8,
    embedding_dim: int = 512,
    flex: bool = False,
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """ViT-S with KP-RPE: 14x14 patches, no class token; the model needs the five keypoints of each face.

    Args:
        image_size: Pixels a side, a multiple of ``patch_size``.
        patch_size: Pixels a side.
        embedding_dim: Width of the embedding.
        flex: Compiled as a whole on CUDA, look the bias up within FlexAttention; see ``facetx.nn.KeypointBias``.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the authors'.

    Returns a model from (B, 3, image_size, image_size) and keypoints (B, 5, 2) in 0..1 to (B, embedding_dim).
    """
    return _vit_kprpe(image_size, patch_size, embedding_dim, flex, SMALL | sizes)


def vit_kprpe_base(
    image_size: int = 112,
    patch_size: int = 8,
    embedding_dim: int = 512,
    flex: bool = False,
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """ViT-B with KP-RPE: depth 24, 16 heads. Arguments as in ``vit_kprpe_small``."""
    return _vit_kprpe(image_size, patch_size, embedding_dim, flex, BASE | sizes)


def vit_kprpe_tiny(
    image_size: int = 112,
    patch_size: int = 16,
    embedding_dim: int = 128,
    flex: bool = False,
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """A small ViT with KP-RPE for CPUs: 7x7 patches, width 96, depth 4. Arguments as in ``vit_kprpe_small``."""
    return _vit_kprpe(image_size, patch_size, embedding_dim, flex, TINY | sizes)


def _vit_kprpe(
    image_size: int, patch_size: int, embedding_dim: int, flex: bool, sizes: EncoderSizes
) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, patch_size, stride=patch_size, padding=0, dim=dim)
    model = FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=FlattenPooling(),
        embedding_dim=embedding_dim,
        bias=KeypointBias(tokens.grid[0], sizes["depth"], sizes["heads"], flex=flex),
        neck=bottleneck_neck(dim * tokens.num_tokens, dim, embedding_dim),
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )
    init_linear(model.encoder)
    init_linear(model.neck)
    return model


def convert_kprpe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """CVLface's weights of a ViT with KP-RPE (each layer and head with its own table) as ours.

    Args:
        state: A state dict under the names of CVLface. ``mask_token``, for training, is left out.

    Returns the backbone's name, its arguments, and its state dict. Raises ``CheckpointError`` where they cannot be read
    from the weights, and for a table that layers or heads share.
    """
    names = {**VIT_NAMES, "keypoint_linear": "bias.table"}
    needs = (
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "norm.weight",
        "feature.2.weight",
        "keypoint_linear.weight",
    )
    renamed = rename_state(state, names, "CVLface's KP-RPE", needs, ignored=["mask_token"])
    dim, depth = renamed["encoder.norm.weight"].shape[0], layer_count(renamed)
    patch_size = renamed["tokens.proj.weight"].shape[-1]
    buckets = 49  # of ratio 1.9
    mlp_dim, rows = (renamed[key].shape[0] for key in ("encoder.blocks.0.mlp.0.weight", "bias.table.weight"))
    heads, rest = divmod(rows, depth * buckets)
    if rest or not heads:
        raise CheckpointError(
            f"a KP-RPE that layers or heads share has no builder: keypoint_linear has {rows} rows, and no multiple of "
            f"{depth * buckets} ({buckets} for each head of each of {depth} layers)"
        )
    args = {
        "image_size": patch_size * round(renamed["positions.positions"].shape[1] ** 0.5),
        "patch_size": patch_size,
        "embedding_dim": renamed["neck.2.weight"].shape[0],
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_dim": mlp_dim,
    }
    return "vit_kprpe_base" if depth == 24 else "vit_kprpe_small", args, renamed
