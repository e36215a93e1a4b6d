"""Images to tokens: the first seam of the transformer.

B batch, C channels, H W image, N = h * w tokens, D dim.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

from torch import Tensor, nn


class Tokens(nn.Module, ABC):
    """What cuts images into tokens.

    Args:
        image_size: Pixels a side.
        grid: Tokens down and across, (h, w).
        dim: Width D of a token.
    """

    def __init__(self, image_size: int, grid: tuple[int, int], dim: int):
        super().__init__()
        self.image_size = image_size
        self.grid = grid
        self.dim = dim

    @property
    def num_tokens(self) -> int:
        """N = h * w."""
        return self.grid[0] * self.grid[1]

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, N, D), row by row. Raises ``ValueError`` for another size."""


class PatchTokens(Tokens):
    """Square patches under a sliding window, each flattened and projected linearly.

    ``stride == patch_size`` gives the plain patches of ViT (arXiv 2010.11929); a smaller stride gives the
    overlapping ones of Face Transformer (arXiv 2103.14803, section 3.1). Unfolding and projecting is one
    strided convolution, so no unfolded copy of the image is made.

    Args:
        image_size: Pixels a side.
        patch_size, stride, padding: In pixels. The windows must see every pixel of the image;
            beyond it they may leave some of the padding out.
        dim: Width D of a token.
        bias: Whether the projection has one.
        channels: Of the image C, or of the feature map that stands for it.
        cover: False lets the windows leave the right and lower edge unseen (InsightFace's patches of 9 on 112).

    Shapes: (B, C, image_size, image_size) -> (B, N, D), row by row.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        stride: int,
        padding: int,
        dim: int,
        bias: bool = True,
        channels: int = 3,
        cover: bool = True,
    ):
        span = image_size + 2 * padding - patch_size
        side = span // stride + 1
        uncovered = span % stride - padding  # pixels at the right and lower edge that no window would see
        if span < 0 or (cover and uncovered > 0):
            raise ValueError(
                f"patches of {patch_size} pixels every {stride}, padding {padding}, do not cover an image of "
                f"{image_size} pixels; use an image_size of {max(side, 1) * stride} or {(max(side, 1) + 1) * stride}"
            )
        super().__init__(image_size, (side, side), dim)
        self.proj = nn.Conv2d(channels, dim, patch_size, stride, padding, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        check_size(images, self.image_size)
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, N, D)


class StemTokens(Tokens):
    """A convolutional stem, and patches of its feature map (hybrid ViT, arXiv 2010.11929, section 3.1).

    Args:
        stem: (B, 3, H, W) -> (B, channels, H / reduction, W / reduction).
        channels, reduction: Of the stem's map: its depth, and how many image pixels a cell has a side.
        image_size: Pixels a side.
        patch_size: Cells a side of the feature map, without overlap.
        dim: Width D of a token.

    Shapes: (B, 3, image_size, image_size) -> (B, N, D), row by row.
    """

    def __init__(self, stem: nn.Module, channels: int, reduction: int, image_size: int, patch_size: int, dim: int):
        step = reduction * patch_size
        if image_size % step:
            raise ValueError(
                f"patches of {patch_size}x{patch_size} cells of a map at 1/{reduction} do not divide an image of "
                f"{image_size} pixels; use an image_size that is a multiple of {step}, such as "
                f"{max(image_size // step, 1) * step}"
            )
        side = image_size // step
        super().__init__(image_size, (side, side), dim)
        self.stem = stem
        self.patches = PatchTokens(image_size // reduction, patch_size, patch_size, 0, dim, channels=channels)

    def forward(self, images: Tensor) -> Tensor:
        check_size(images, self.image_size)
        return self.patches(self.stem(images))  # (B, C, H / reduction, W / reduction) -> (B, N, D)


class ConvTokens(Tokens):
    """Convolutions, each with ReLU and a 3x3 max-pool of stride 2, and every cell a token (CCT, arXiv 2104.05704).

    Args:
        image_size: Pixels a side.
        dim: Width D of a token.
        kernel_size, stride, padding: Of every convolution.
        layers: How many; all but the last have ``hidden`` channels.

    Shapes: (B, 3, image_size, image_size) -> (B, N, D), row by row.
    """

    def __init__(
        self, image_size: int, dim: int, kernel_size: int, stride: int, padding: int, layers: int, hidden: int = 64
    ):
        channels = [3, *[hidden] * (layers - 1), dim]
        side = image_size
        stages = nn.Sequential()
        for c_in, c_out in pairwise(channels):
            conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            stages += nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
            side = ((side + 2 * padding - kernel_size) // stride) // 2 + 1  # after the convolution and its pool
        if side < 1:
            raise ValueError(
                f"{layers} convolutions leave nothing of an image of {image_size} pixels; use a larger one"
            )
        super().__init__(image_size, (side, side), dim)
        self.layers = stages

    def forward(self, images: Tensor) -> Tensor:
        check_size(images, self.image_size)
        return self.layers(images).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, N, D)


def check_size(images: Tensor, image_size: int) -> None:
    """Raises ``ValueError`` where images (B, C, H, W) are not of the size that the model was built for."""
    if images.shape[-2:] != (image_size, image_size):
        raise ValueError(
            f"the model was built for images of {image_size}x{image_size}, got "
            f"{images.shape[-2]}x{images.shape[-1]}; resize or align the faces, or build with image_size="
        )
