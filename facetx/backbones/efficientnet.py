"""EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946) as a CNN, and as the stem of a ViT.

The network and its ImageNet weights are those of the package efficientnet-pytorch, under the package's names.
"""

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor, nn

from facetx.backbones.base import NotTheirs, TrunkBackbone, contract_of, rename_state, without_prefix
from facetx.backbones.download import published_weights
from facetx.backbones.face_transformer import BASE, NAMES, NEEDS, TINY, einops_patches, encoder_args
from facetx.contract import InputContract
from facetx.errors import some
from facetx.nn import ClassToken, Encoder, EncoderSizes, FaceTransformer, LearnedPositions, StemTokens
from facetx.nn.freeze import freeze
from facetx.nn.necks import linear_neck


def efficientnet_b0(
    image_size: int = 112, embedding_dim: int = 512, dropout: float = 0.2, pretrained: bool = False
) -> TrunkBackbone:
    """EfficientNet-B0, average pooling, and a linear embedding with batch norm.

    Args:
        image_size: Pixels a side.
        embedding_dim: Width of the embedding.
        dropout: Before the embedding; the paper's.
        pretrained: Starts from ImageNet weights, which are downloaded; the contract is then theirs.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim). Raises ``CheckpointError`` where weights
    cannot be had.
    """
    net = _b0(pretrained)
    net._dropout = net._fc = nn.Identity()
    return EfficientNetBackbone(
        trunk=net,
        neck=linear_neck(1280, embedding_dim, dropout),
        embedding_dim=embedding_dim,
        contract=_contract(image_size, pretrained),
    )


class EfficientNetBackbone(TrunkBackbone):
    """The package's network and a neck; its feature maps are the package's endpoints."""

    def maps(self, images: Tensor) -> list[Tensor]:
        net: Any = self.trunk  # the package has no types
        maps = {m.shape[2]: m for m in net.extract_endpoints(images).values()}  # the last of each resolution
        return list(maps.values())


def effnet_vit(
    image_size: int = 112,
    freeze_stem: bool = False,
    pretrained: bool = False,
    stem_swish: bool = True,
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """EfficientNet + ViT: 4x4 patches of B0's map at 1/4 (24x28x28 for 112x112) are the tokens: 49 and a class token.

    Args:
        image_size: Pixels a side, a multiple of 16.
        freeze_stem: The stem is a fixed function, its batch norms' statistics too.
        pretrained: The stem starts from ImageNet weights, which are downloaded; the contract is then theirs.
        stem_swish: False leaves out the activation after the first convolution, as the fork's trimmed stem does.
        sizes: Any of the encoder's in place of Face Transformer's.

    Returns a model from (B, 3, image_size, image_size) to (B, dim).
    """
    return _effnet_vit(image_size, freeze_stem, pretrained, stem_swish, BASE | sizes)


def effnet_vit_tiny(
    image_size: int = 112,
    freeze_stem: bool = False,
    pretrained: bool = False,
    stem_swish: bool = True,
    **sizes: Unpack[EncoderSizes],
) -> FaceTransformer:
    """A small EfficientNet + ViT for CPUs: width 128, depth 6. Arguments as in ``effnet_vit``."""
    return _effnet_vit(image_size, freeze_stem, pretrained, stem_swish, TINY | sizes)


def _effnet_vit(
    image_size: int, freeze_stem: bool, pretrained: bool, stem_swish: bool, sizes: EncoderSizes
) -> FaceTransformer:
    dim = sizes["dim"]
    stem = EfficientNetStem(pretrained, stem_swish)
    tokens = StemTokens(stem, stem.channels, stem.reduction, image_size, patch_size=4, dim=dim)
    model = FaceTransformer(
        tokens=tokens,
        positions=LearnedPositions(ClassToken.prefix + tokens.num_tokens, dim),
        encoder=Encoder(**sizes),
        pooling=ClassToken(dim),
        embedding_dim=dim,
        dropout=sizes["dropout"],
        contract=_contract(image_size, pretrained),
    )
    if freeze_stem:
        freeze(model, ["tokens.stem"])
    return model


class EfficientNetStem(nn.Module):
    """B0 up to the package's endpoint ``reduction_2``: the stem and blocks 0, 1, 2, and nothing behind them.

    Shapes: (B, 3, H, W) -> (B, 24, H / 4, W / 4).
    """

    channels = 24
    reduction = 4

    def __init__(self, pretrained: bool = False, swish: bool = True):
        super().__init__()
        net = _b0(pretrained)
        self._conv_stem = net._conv_stem
        self._bn0 = net._bn0
        self._swish = net._swish if swish else nn.Identity()
        self._blocks = net._blocks[:3]
        rate = net._global_params.drop_connect_rate / len(net._blocks)
        self.drop_connect = [rate * i for i in range(len(self._blocks))]  # rises with depth, as in the whole network

    def forward(self, images: Tensor) -> Tensor:
        x = self._swish(self._bn0(self._conv_stem(images)))
        for block, rate in zip(self._blocks, self.drop_connect, strict=True):
            x = block(x, drop_connect_rate=rate)
        return x


def _b0(pretrained: bool) -> Any:
    """The package's B0, padded for its own 224 pixels whatever the images' size, as its users have it."""
    from efficientnet_pytorch import EfficientNet
    from efficientnet_pytorch.utils import url_map

    net = EfficientNet.from_name("efficientnet-b0")
    if pretrained:
        net.load_state_dict(published_weights(url_map["efficientnet-b0"], "efficientnet-b0"))
    net.set_swish(memory_efficient=False)  # the package's other one cannot be exported; torch's is as frugal
    return net


def _contract(image_size: int, pretrained: bool) -> InputContract:
    if not pretrained:
        return InputContract(size=image_size)
    return contract_of((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), image_size)  # of the package's weights


def convert_effnet_vit(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The weights of Face Transformer's EfficientNet fork as ours.

    Args:
        state: B0 under efficientnet-pytorch's names below one prefix (the fork's is ``efficient_net.`` for the whole
            network and ``pt_model_trim.`` for the one cut after block 2, which has no activation after its first
            convolution), and Face Transformer's names below another (``vit.``). Both prefixes are found by what stands
            below them. What ``reduction_2`` never reaches and the heads are left out.

    Returns the backbone's name, its arguments, and its state dict. Like Face Transformer it takes raw 0..255 RGB.
    Raises ``CheckpointError`` where they cannot be read from the weights.
    """
    state = without_prefix(state)
    stem, vit = _prefix(state, "_conv_stem.weight"), _prefix(state, "cls_token")
    whole = any(key.startswith(f"{stem}_blocks.3.") for key in state)
    parts = ("_conv_stem", "_bn0", "_blocks.0", "_blocks.1", "_blocks.2")
    names = {f"{stem}{part}": f"tokens.stem.{part}" for part in parts} | {vit + k: v for k, v in NAMES.items()}
    unused = [f"{stem}{part}" for part in ("_blocks.", "_conv_head.", "_bn1.", "_fc.")]
    needs = [vit + key for key in (*NEEDS, "patch_to_embedding.bias")]
    ignored = ["loss.", f"{vit}loss.", *unused]
    renamed = rename_state(state, names, "Face Transformer's EfficientNet fork", needs, ignored)
    for kind in ("weight", "bias"):
        renamed[f"tokens.patches.proj.{kind}"] = renamed.pop(f"tokens.proj.{kind}")
    renamed["tokens.patches.proj.weight"] = einops_patches(renamed["tokens.patches.proj.weight"], patch=4)
    side = round((renamed["positions.positions"].shape[1] - 1) ** 0.5)
    return "effnet_vit", {"image_size": 16 * side, "stem_swish": whole, **encoder_args(renamed)}, renamed


def _prefix(state: Mapping[str, Tensor], key: str) -> str:
    """What stands before ``key`` in the one name that ends with it."""
    found = [name.removesuffix(key) for name in state if name.endswith(key)]
    if len(found) != 1:
        raise NotTheirs(
            f"not a state dict of Face Transformer's EfficientNet fork: {len(found)} keys end with {key!r}, expected "
            f"one; there are {some(state)}"
        )
    return found[0]
