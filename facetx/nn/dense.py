"""From feature maps to a map of classes: a light pyramid on the maps of any backbone, one or many."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from facetx.errors import ConfigError
from facetx.nn.backbone import FeatureInfo


class PyramidDecoder(nn.Module):
    """Feature maps to logits of the image's size, from coarse to fine.

    As in FPN (Lin et al., arXiv 1612.03144) a 1x1 convolution brings each map to one width, and the coarser one is
    doubled in size and added. A 3x3 convolution follows each sum, so the finest one has seen them all, and is the only
    one that is classified. A backbone with one map (a ViT) is doubled in size until ``finest`` is reached.

    Args:
        maps: Of ``Backbone.feature_info``, from fine to coarse.
        classes: M.
        width: Channels of the pyramid.
        finest: Image pixels a side of a cell of the map that is classified, at least: finer maps are left out.
        detail: Channels of a convolution on the image itself, at half its size, which is added as the finest map, where
            a backbone's own are coarse; 0 leaves it out. Then ``finest`` is 2.
        context: Adds the mean of the coarsest map to each of its cells, as ParseNet does (arXiv 1506.04579).
        dropout: Of whole channels before the classifier, in 0..1.

    Shapes: maps (B, C, h, w) and the image (B, 3, H, W) -> (B, M, H, W) float32. Raises ``ConfigError`` for numbers out
    of range.
    """

    def __init__(
        self,
        maps: Sequence[FeatureInfo],
        classes: int,
        width: int = 64,
        finest: int = 4,
        detail: int = 0,
        context: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        if width < 1 or finest < 1 or detail < 0 or not 0 <= dropout < 1:
            raise ConfigError(
                f"width and finest must be at least 1, detail at least 0, dropout at least 0 and below 1; got {width}, "
                f"{finest}, {detail} and {dropout}"
            )
        own = [i for i, m in enumerate(maps) if m.reduction >= finest] or [len(maps) - 1]
        self.first = own[0]
        infos = [maps[i] for i in own]
        if detail:
            infos.insert(0, FeatureInfo(detail, 2))
        self.detail = conv(3, detail, 3, stride=2) if detail else None
        self.laterals = nn.ModuleList(conv(m.channels, width, 1) for m in infos)
        self.context = conv(width, width, 1, norm=False) if context else None
        self.smooth = nn.ModuleList(conv(width, width, 3) for _ in infos)
        doublings, cell = 0, infos[0].reduction
        while cell >= 2 * finest:
            doublings, cell = doublings + 1, cell // 2
        self.finer = nn.ModuleList(conv(width, width, 3) for _ in range(doublings))
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, classes, 1))

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        kept = [*([] if self.detail is None else [self.detail(images)]), *maps[self.first :]]
        sides = [lateral(m) for lateral, m in zip(self.laterals, kept)]
        x = sides[-1]
        if self.context is not None:
            x = x + self.context(x.mean((2, 3), keepdim=True))
        x = self.smooth[-1](x)
        for side, smooth in zip(sides[-2::-1], list(self.smooth)[-2::-1]):
            x = smooth(side + resized(x, side.shape[2:]))
        for smooth in self.finer:
            x = smooth(resized(x, (2 * x.shape[2], 2 * x.shape[3])))
        return resized(self.classifier(x).float(), images.shape[2:])  # in float32 where autocast is on


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, norm: bool = True) -> nn.Sequential:
    """A convolution that keeps the size at stride 1, batch norm and ReLU; without a norm, of single cells, a bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm),
        *([nn.BatchNorm2d(outputs)] if norm else []),
        nn.ReLU(inplace=True),
    )


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) at another size, bilinear."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
