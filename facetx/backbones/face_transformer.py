"""Face Transformer: ViT on overlapping patches (Zhong & Deng 2021, arXiv 2103.14803).

A 112x112 face gives 14 x 14 tokens under a window that moves by 8 pixels. The window's size names the model: 8 does
not overlap, 10 and 12 do. With a class token, whose last state is the embedding.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from facetx.contract import InputContract
from facetx.errors import CheckpointError
from facetx.nn import ClassToken, Encoder, EncoderSizes, FaceTransformer, LearnedPositions, PatchTokens

# Section 4.1 of the paper: 63.2 M parameters (P8S8), 63.3 M (P10S8, P12S8).
BASE = EncoderSizes(dim=512, depth=20, heads=8, head_dim=64, mlp_dim=2048, dropout=0.1)
# Ours, for work on a CPU: 1.3 M parameters.
TINY = EncoderSizes(dim=128, depth=6, heads=4, head_dim=32, mlp_dim=512, dropout=0.0)


def vit_p8s8(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """ViT-P8S8: patches of 8 pixels that do not overlap.

    Args:
        image_size: Pixels a side, a multiple of 8.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's. ``attention_scale`` is
            ``head_dim ** -0.5`` as the paper writes; the authors' code, and so their weights, have ``dim ** -0.5``.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return _sliding_vit(image_size, 8, 0, BASE | sizes)


def vit_p10s8(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """ViT-P10S8: patches of 10 pixels every 8, padding 1. Arguments as in ``vit_p8s8``."""
    return _sliding_vit(image_size, 10, 1, BASE | sizes)


def vit_p12s8(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """ViT-P12S8: patches of 12 pixels every 8, padding 4 as in the authors' code. Arguments as in ``vit_p8s8``."""
    return _sliding_vit(image_size, 12, 4, BASE | sizes)


def vit_p8s8_tiny(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """A small ViT-P8S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return _sliding_vit(image_size, 8, 0, TINY | sizes)


def vit_p10s8_tiny(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """A small ViT-P10S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return _sliding_vit(image_size, 10, 1, TINY | sizes)


def vit_p12s8_tiny(image_size: int = 112, **sizes: Unpack[EncoderSizes]) -> FaceTransformer:
    """A small ViT-P12S8 for CPUs: width 128, depth 6. Arguments as in ``vit_p8s8``."""
    return _sliding_vit(image_size, 12, 4, TINY | sizes)


def _sliding_vit(image_size: int, patch_size: int, padding: int, sizes: EncoderSizes) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = PatchTokens(image_size, patch_size, stride=8, padding=padding, dim=dim)
    return FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(ClassToken.prefix + tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=ClassToken(dim),
        embedding_dim=dim,
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )


# The authors' names of one layer -> ours.
_LAYER = {
    "0.fn.norm": "norm1",
    "0.fn.fn.to_qkv": "attention.qkv",
    "0.fn.fn.to_out.0": "attention.proj",
    "1.fn.norm": "norm2",
    "1.fn.fn.net.0": "mlp.0",
    "1.fn.fn.net.3": "mlp.3",
}
_OUTSIDE = {
    "pos_embedding": "positions.positions",
    "cls_token": "pooling.token",
    "patch_to_embedding.weight": "tokens.proj.weight",
    "patch_to_embedding.bias": "tokens.proj.bias",
    "mlp_head.0.weight": "encoder.norm.weight",
    "mlp_head.0.bias": "encoder.norm.bias",
}


def convert_face_transformer(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The authors' weights as ours.

    Args:
        state: A state dict under the names of the published code. ``loss.weight``, their head, is left out.

    Returns the backbone's name, its arguments, and its state dict. The authors feed raw 0..255 RGB, so give the
    model ``contract = InputContract(mean=(0,), std=(1,))``. Raises ``CheckpointError`` for keys that do not belong.
    """
    converted: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        if key.startswith("transformer.layers."):
            layer, rest = key.removeprefix("transformer.layers.").split(".", 1)
            part, kind = rest.rsplit(".", 1)
            name = f"encoder.blocks.{layer}.{_LAYER[part]}.{kind}" if part in _LAYER else None
        else:
            name = _OUTSIDE.get(key)
        if name is not None:
            converted[name] = value
        elif key != "loss.weight":
            unknown.append(key)
    missing = [k for k in _OUTSIDE if _OUTSIDE[k] not in converted]
    if unknown or missing:
        raise CheckpointError(f"not a Face Transformer state dict: unknown keys {unknown}, missing keys {missing}")

    weight = state["patch_to_embedding.weight"]  # (dim, patch * patch * 3)
    dim = weight.shape[0]
    patch = round((weight.shape[1] / 3) ** 0.5)
    if patch == 8:  # cut by einops: a token is flattened as (row, column, channel)
        weight = weight.view(dim, patch, patch, 3).permute(0, 3, 1, 2).contiguous()
    else:  # cut by unfold: (channel, row, column)
        weight = weight.view(dim, 3, patch, patch)
    converted["tokens.proj.weight"] = weight

    inner = state["transformer.layers.0.0.fn.fn.to_qkv.weight"].shape[0] // 3
    head_dim = 64
    args = {
        "image_size": 8 * round((state["pos_embedding"].shape[1] - 1) ** 0.5),
        "dim": dim,
        "depth": 1 + max(int(k.split(".")[2]) for k in state if k.startswith("transformer.layers.")),
        "heads": inner // head_dim,
        "head_dim": head_dim,
        "mlp_dim": state["transformer.layers.0.1.fn.fn.net.0.weight"].shape[0],
        "attention_scale": dim**-0.5,
    }
    return f"vit_p{patch}s8", args, {k: torch.as_tensor(v) for k, v in converted.items()}
