"""Images to tokens: the first seam of the transformer.

B batch, H W image, N = h * w tokens, D dim.
"""

from torch import Tensor, nn


class PatchTokens(nn.Module):
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

    Shapes: (B, 3, image_size, image_size) -> (B, N, D), row by row.
    """

    def __init__(self, image_size: int, patch_size: int, stride: int, padding: int, dim: int, bias: bool = True):
        super().__init__()
        span = image_size + 2 * padding - patch_size
        side = span // stride + 1
        uncovered = span % stride - padding  # pixels at the right and lower edge that no window would see
        if span < 0 or uncovered > 0:
            raise ValueError(
                f"patches of {patch_size} pixels every {stride}, padding {padding}, do not cover an image of "
                f"{image_size} pixels; use an image_size of {max(side, 1) * stride} or {(max(side, 1) + 1) * stride}"
            )
        self.image_size = image_size
        self.grid = (side, side)
        self.num_tokens = side * side
        self.dim = dim
        self.proj = nn.Conv2d(3, dim, patch_size, stride, padding, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"the model was built for images of {self.image_size}x{self.image_size}, got "
                f"{images.shape[-2]}x{images.shape[-1]}; resize or align the faces, or build with image_size="
            )
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, N, D)
