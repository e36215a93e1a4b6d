"""Compact Convolutional Transformers (Hassani et al. 2021, arXiv 2104.05704).

A name says depth, kernel and convolutions: ``cct_7_3x1`` has 7 layers on the map of one 3x3 convolution.
"""

from collections.abc import Mapping
from typing import Any, Literal, Unpack

from torch import Tensor

from facetx.backbones.base import layer_count, rename_state
from facetx.contract import InputContract
from facetx.errors import CheckpointError
from facetx.nn import (
    ConvTokens,
    Encoder,
    EncoderSizes,
    FaceTransformer,
    SequencePooling,
)
from facetx.nn.necks import init_linear
from facetx.nn.positions import positions_of

# Table 1 of the paper, and the authors' regularization.
_CCT = EncoderSizes(norm_residual=True, attention_dropout=0.1, drop_path=0.1, dropout=0.0)
CCT_7 = _CCT | EncoderSizes(dim=256, depth=7, heads=4, mlp_dim=512)
CCT_14 = _CCT | EncoderSizes(dim=384, depth=14, heads=6, mlp_dim=1152)
# Ours, for work on a CPU.
TINY = _CCT | EncoderSizes(dim=128, depth=4, heads=2, mlp_dim=256, attention_dropout=0.0, drop_path=0.0)


def cct_7_3x1(
    image_size: int = 112, positions: Literal["learned", "sine"] = "learned", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """CCT-7/3x1, made for images of 32 pixels: one token for 2x2 pixels, so 3136 tokens at 112.

    Args:
        image_size: Pixels a side.
        positions: Learned, or fixed sines.
        sizes: Any of the encoder's (``facetx.nn.Encoder``) in place of the paper's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return _cct(image_size, 3, 1, positions, CCT_7 | sizes)


def cct_7_7x2(
    image_size: int = 112, positions: Literal["learned", "sine"] = "learned", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """CCT-7/7x2: two 7x7 convolutions, 49 tokens at 112. Arguments as in ``cct_7_3x1``."""
    return _cct(image_size, 7, 2, positions, CCT_7 | sizes)


def cct_14_7x2(
    image_size: int = 112, positions: Literal["learned", "sine"] = "learned", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """CCT-14/7x2: two 7x7 convolutions, 49 tokens at 112, 14 layers. Arguments as in ``cct_7_3x1``."""
    return _cct(image_size, 7, 2, positions, CCT_14 | sizes)


def cct_tiny(
    image_size: int = 112, positions: Literal["learned", "sine"] = "learned", **sizes: Unpack[EncoderSizes]
) -> FaceTransformer:
    """A small CCT-4/7x2 for CPUs: width 128, 49 tokens at 112. Arguments as in ``cct_7_3x1``."""
    return _cct(image_size, 7, 2, positions, TINY | sizes)


def _cct(
    image_size: int, kernel: int, layers: int, positions: Literal["learned", "sine"], sizes: EncoderSizes
) -> FaceTransformer:
    dim = sizes["dim"]
    tokens = ConvTokens(image_size, dim, kernel, stride=max(1, kernel // 2 - 1), padding=kernel // 2, layers=layers)
    model = FaceTransformer(
        tokens=tokens,
        positions=positions_of(positions, tokens.num_tokens, dim, std=0.2),
        encoder=Encoder(**sizes),
        pooling=SequencePooling(dim),
        embedding_dim=dim,
        dropout=sizes["dropout"],
        contract=InputContract(size=image_size),
    )
    init_linear(model)
    return model


# The authors' names -> ours.
_NAMES = {
    "tokenizer.conv_layers.#.0": "tokens.layers.#",
    "classifier.positional_emb": "positions.positions",
    "classifier.attention_pool": "pooling.score",
    "classifier.norm": "encoder.norm",
    "classifier.blocks.#.pre_norm": "encoder.blocks.#.norm1",
    "classifier.blocks.#.self_attn": "encoder.blocks.#.attention",
    "classifier.blocks.#.norm1": "encoder.blocks.#.norm2",
    "classifier.blocks.#.linear1": "encoder.blocks.#.mlp.0",
    "classifier.blocks.#.linear2": "encoder.blocks.#.mlp.3",
}

_NEEDS = (
    "tokenizer.conv_layers.0.0.weight",
    "classifier.positional_emb",
    "classifier.norm.weight",
    "classifier.blocks.0.linear1.weight",
)
# Widths that they publish, in which each head has 64.
_WIDTHS = (128, 256, 384)


def convert_cct(state: Mapping[str, Tensor], heads: int | None = None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The authors' weights as ours.

    Args:
        state: A state dict under the names of SHI-Labs' Compact-Transformers, with learned positions.
            ``classifier.fc``, their head, is left out.
        heads: Of the attention, which the weights do not show. ``dim / 64``, as in all that they publish, unless given;
            for another width than theirs it must be.

    Returns the backbone's name, its arguments, and its state dict. Raises ``CheckpointError`` where they cannot be read
    from the weights.
    """
    renamed = rename_state(state, _NAMES, "CCT", _NEEDS, ignored=["classifier.fc"])
    kernel, layers = renamed["tokens.layers.0.weight"].shape[-1], layer_count(renamed, "tokens.layers.")
    for layer in reversed(range(layers)):  # a convolution, its ReLU and its pool are three modules of ours
        if (key := f"tokens.layers.{layer}.weight") in renamed:
            renamed[f"tokens.layers.{3 * layer}.weight"] = renamed.pop(key)
    dim, depth = renamed["encoder.norm.weight"].shape[0], layer_count(renamed)
    if heads is None and dim not in _WIDTHS:
        raise CheckpointError(
            f"a CCT of width {dim} is none of the authors' ({', '.join(map(str, _WIDTHS))}, in heads of 64), and the "
            "weights do not show how many heads they have; say it (--heads)"
        )
    side = round(renamed["positions.positions"].shape[1] ** 0.5)
    if (kernel, layers) not in ((3, 1), (7, 2)):
        raise CheckpointError(f"a CCT with {layers} convolutions of {kernel}x{kernel} has no builder; 3x1 and 7x2 have")
    args = {
        "image_size": side * (2 if kernel == 3 else 16),
        "dim": dim,
        "depth": depth,
        "heads": heads or dim // 64,
        "mlp_dim": renamed["encoder.blocks.0.mlp.0.weight"].shape[0],
    }
    name = "cct_7_3x1" if kernel == 3 else "cct_14_7x2" if depth == 14 else "cct_7_7x2"
    return name, args, renamed
