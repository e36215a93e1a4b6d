"""MobileFaceNet: a CNN of a million parameters for phones (Chen et al. 2018, arXiv 1804.07573).

Two sizes of the paper's input are here: whole aligned faces of 112x112, and the SphereFace crop of 112x96, which is the
middle of such a face.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from facetx.backbones.base import TrunkBackbone, layer_count, rename_state, without_prefix
from facetx.contract import InputContract
from facetx.errors import CheckpointError
from facetx.nn.tokens import check_size

# Table 1 of the paper: expansion, channels, repeats, stride of the first.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def mobilefacenet(image_size: int = 112, crop_width: int | None = None, embedding_dim: int = 128) -> TrunkBackbone:
    """MobileFaceNet.

    Args:
        image_size: Pixels a side, a multiple of 16.
        crop_width: The network looks at this many columns in the middle of the image, a multiple of 16; at all of them
            unless given. 96 is the SphereFace crop of a face that is aligned to the ArcFace template.
        embedding_dim: Width of the embedding.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim).
    """
    width = image_size if crop_width is None else crop_width
    if image_size % 16 or width % 16 or not 0 < width <= image_size:
        raise ValueError(
            "mobilefacenet halves its image four times: image_size and crop_width must be multiples of 16, and "
            f"crop_width not above image_size; got {image_size} and {width}"
        )
    model = MobileFaceNet(image_size, width, embedding_dim)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return model


class ConvNorm(nn.Sequential):
    """Convolution and batch norm, and PReLU unless ``linear``: (B, C, H, W) -> (B, C', H', W')."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ):
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False),
            "bn": nn.BatchNorm2d(out),
        }
        if not linear:
            layers["prelu"] = nn.PReLU(out)
        super().__init__(OrderedDict(layers))


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 up, depthwise 3x3, linear 1x1 down; the identity is added where the shape stays."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int):
        super().__init__()
        hidden = expansion * channels
        self.up = ConvNorm(channels, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride, padding=1, groups=hidden)
        self.down = ConvNorm(hidden, out, 1, linear=True)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.depthwise(self.up(x)))
        return x + y if self.residual else y


class MobileFaceNet(TrunkBackbone):
    """Convolutions, bottlenecks, and in place of pooling a depthwise convolution as large as the map (section 3.1).

    Args:
        image_size: Pixels a side.
        width: Columns in the middle that are looked at.
        embedding_dim: Width E of the embedding.
    """

    def __init__(self, image_size: int, width: int, embedding_dim: int):
        blocks: list[nn.Module] = []
        channels = 64
        for expansion, out, repeats, stride in _BOTTLENECKS:
            for i in range(repeats):
                blocks.append(Bottleneck(channels, out, stride if i == 0 else 1, expansion))
                channels = out
        trunk = nn.Sequential(
            OrderedDict(
                conv1=ConvNorm(3, 64, 3, stride=2, padding=1),
                dw_conv1=ConvNorm(64, 64, 3, padding=1, groups=64),
                **{f"block{i}": block for i, block in enumerate(blocks)},
                conv2=ConvNorm(channels, 512, 1),
            )
        )
        neck = nn.Sequential(
            ConvNorm(512, 512, (image_size // 16, width // 16), groups=512, linear=True),
            ConvNorm(512, embedding_dim, 1, linear=True),
            nn.Flatten(),
        )
        super().__init__(trunk, neck, embedding_dim, InputContract(size=image_size))
        self.width = width

    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        check_size(images, self.contract.size)
        return self.neck(self.trunk(self._middle(images)))

    def maps(self, images: Tensor) -> list[Tensor]:
        return super().maps(self._middle(images))

    def _middle(self, images: Tensor) -> Tensor:
        left = (images.shape[3] - self.width) // 2
        return images[..., left : left + self.width]


# The names of Xiaoccer/MobileFaceNet_Pytorch -> ours.
_NAMES = {
    "conv1": "trunk.conv1",
    "dw_conv1": "trunk.dw_conv1",
    "conv2": "trunk.conv2",
    "linear7": "neck.0",
    "linear1": "neck.1",
    **{
        f"blocks.#.conv.{theirs}": f"trunk.block#.{ours}"
        for theirs, ours in enumerate(
            f"{part}.{layer}" for part in ("up", "depthwise", "down") for layer in ("conv", "bn", "prelu")
        )
    },
}


def convert_mobilefacenet(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The weights of Xiaoccer/MobileFaceNet_Pytorch as ours.

    Args:
        state: A state dict under that program's names.

    Returns the backbone's name, its arguments, and its state dict. Images are RGB, ``(x - 127.5) / 128``. Raises
    ``CheckpointError`` where they cannot be read from the weights.
    """
    state = without_prefix(state)
    renamed = rename_state(state, _NAMES, "MobileFaceNet", needs=["linear7.conv.weight", "linear1.conv.weight"])
    rows, columns = renamed["neck.0.conv.weight"].shape[-2:]
    blocks = layer_count(state, "blocks.")
    if blocks != sum(repeats for _, _, repeats, _ in _BOTTLENECKS):
        raise CheckpointError(f"a MobileFaceNet with {blocks} bottlenecks has no builder; the paper's has 15")
    args = {"image_size": 16 * rows, "embedding_dim": renamed["neck.1.conv.weight"].shape[0]}
    return "mobilefacenet", args if rows == columns else {**args, "crop_width": 16 * columns}, renamed
