"""InsightFace's IResNets, the CNNs that papers compare with (ArcFace, Deng et al. 2018, arXiv 1801.07698).

Their weights take RGB scaled by (x / 255 - 0.5) / 0.5, as the default contract says.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from facetx.backbones.base import TrunkBackbone, layer_count, rename_state
from facetx.contract import InputContract
from facetx.errors import CheckpointError

_BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


def iresnet18(image_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0) -> TrunkBackbone:
    """IResNet-18.

    Args:
        image_size: Pixels a side, a multiple of 16.
        embedding_dim: Width of the embedding.
        dropout: Before the embedding.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim).
    """
    return _iresnet("iresnet18", image_size, embedding_dim, dropout)


def iresnet34(image_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0) -> TrunkBackbone:
    """IResNet-34. Arguments as in ``iresnet18``."""
    return _iresnet("iresnet34", image_size, embedding_dim, dropout)


def iresnet50(image_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0) -> TrunkBackbone:
    """IResNet-50. Arguments as in ``iresnet18``."""
    return _iresnet("iresnet50", image_size, embedding_dim, dropout)


def iresnet100(image_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0) -> TrunkBackbone:
    """IResNet-100, the CNN that papers compare with. Arguments as in ``iresnet18``."""
    return _iresnet("iresnet100", image_size, embedding_dim, dropout)


class IResNetBlock(nn.Module):
    """Norm, convolution, norm, PReLU, strided convolution, norm, and the identity: (B, C, H, W) -> (B, C', H', W')."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


def _iresnet(name: str, image_size: int, embedding_dim: int, dropout: float) -> TrunkBackbone:
    if image_size % 16:
        raise ValueError(f"{name} halves its image four times: image_size must be a multiple of 16, got {image_size}")
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "prelu": nn.PReLU(64),
    }
    channels = 64
    for i, (out, blocks) in enumerate(zip((64, 128, 256, 512), _BLOCKS[name], strict=True), start=1):
        stage = [IResNetBlock(channels if j == 0 else out, out, stride=2 if j == 0 else 1) for j in range(blocks)]
        layers[f"layer{i}"] = nn.Sequential(*stage)
        channels = out
    layers["bn2"] = nn.BatchNorm2d(channels)
    trunk = nn.Sequential(OrderedDict(layers))
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    width = channels * (image_size // 16) ** 2
    norm = nn.BatchNorm1d(embedding_dim)
    norm.weight.requires_grad = False  # so that each dimension of the embedding keeps unit variance
    return TrunkBackbone(
        trunk=trunk,
        neck=nn.Sequential(nn.Dropout(dropout), nn.Flatten(), nn.Linear(width, embedding_dim), norm),
        embedding_dim=embedding_dim,
        contract=InputContract(size=image_size),
    )


_NAMES = {
    **{name: f"trunk.{name}" for name in ("conv1", "bn1", "prelu", "layer1", "layer2", "layer3", "layer4", "bn2")},
    "fc": "neck.2",
    "features": "neck.3",
}


def convert_iresnet(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """InsightFace's IResNet weights as ours.

    Args:
        state: A state dict under the names of InsightFace's arcface_torch.

    Returns the backbone's name, its arguments, and its state dict. Raises ``CheckpointError`` where they cannot be read
    from the weights.
    """
    renamed = rename_state(state, _NAMES, "InsightFace's IResNet", needs=["fc.weight"])
    embedding_dim, width = renamed["neck.2.weight"].shape
    blocks = tuple(layer_count(renamed, f"trunk.layer{i}.") for i in (1, 2, 3, 4))
    names = {sizes: name for name, sizes in _BLOCKS.items()}
    if blocks not in names:
        raise CheckpointError(f"an IResNet with {blocks} blocks has no builder; there are {', '.join(_BLOCKS)}")
    args = {"image_size": 16 * round((width / 512) ** 0.5), "embedding_dim": embedding_dim}
    return names[blocks], args, renamed
