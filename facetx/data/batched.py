"""Changes of a whole batch at once, on whatever device it lies: each image by numbers of its own.

An image's result depends on its own pixels and numbers alone, whatever else is in the batch. B batch, H and W of the
old image, h and w of the new.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facetx.data.sample import KEYPOINTS_MIRRORED, Sides

MOVED = frozenset({"image", "mask", "keypoints", "attributes"})
"""Fields that a map changes."""
STILL = frozenset({"label", "place"})
"""Fields that none does."""


def moved(batch: Mapping[str, Tensor], matrix: Tensor, new: tuple[int, int], sides: Sides) -> dict[str, Tensor]:
    """All fields of each image moved by its own map, as ``facetx.data.sample.moved`` moves those of one.

    Args:
        batch: Fields (B, ...); an image uint8 (B, 3, H, W).
        matrix: (B, 2, 3) float32, takes a point (x, y) in pixels of the old image to one of the new.
        new: (h, w).
        sides: What a mirror makes of attributes and of the classes of masks.

    Images are bilinear and not antialiased, masks take the nearest pixel; the edge is repeated beyond the image's end.
    """
    out, images = dict(batch), batch["image"]
    (a, b), (c, d) = (row.unbind(1) for row in matrix[:, :, :2].unbind(1))
    mirrors = a * d < b * c  # (B,)
    x, y = _old_places(matrix, new)
    out["image"] = _bilinear(images, x, y)
    if "mask" in batch:
        other = torch.from_numpy(sides.mask).to(images.device, non_blocking=True)
        mask = _nearest(batch["mask"], x, y)
        out["mask"] = torch.where(mirrors[:, None, None], other[mask.long()], mask)
    if "keypoints" in batch:
        old = torch.stack(
            [batch["keypoints"][..., 0] * images.shape[3], batch["keypoints"][..., 1] * images.shape[2]], 2
        )
        at = old @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
        points = torch.stack([at[..., 0] / new[1], at[..., 1] / new[0]], 2)
        out["keypoints"] = torch.where(mirrors[:, None, None], points[:, KEYPOINTS_MIRRORED], points)
    if "attributes" in batch:
        partners = torch.from_numpy(sides.attributes).to(images.device, non_blocking=True)
        values = batch["attributes"]
        out["attributes"] = torch.where(mirrors[:, None], values[:, partners], values)
    return out


def _old_places(matrix: Tensor, new: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x and y (B, h, w) in the old image of the middle of each pixel of the new."""
    (a, b), (c, d) = (row.unbind(1) for row in matrix[:, :, :2].unbind(1))
    tx, ty = matrix[:, :, 2].unbind(1)
    det = a * d - b * c
    x = torch.arange(new[1], device=matrix.device) + 0.5 - tx[:, None]  # (B, w)
    y = torch.arange(new[0], device=matrix.device) + 0.5 - ty[:, None]  # (B, h)
    a, b, c, d = ((n / det)[:, None, None] for n in (a, b, c, d))
    return d * x[:, None] - b * y[:, :, None], a * y[:, :, None] - c * x[:, None]


def _bilinear(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    grid = torch.stack([x * (2 / images.shape[3]), y * (2 / images.shape[2])], dim=3) - 1  # -1 and 1 are the ends
    values = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return to_uint8(values)


def _nearest(masks: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = masks.shape[1:]
    column, row = x.floor().long().clamp(0, width - 1), y.floor().long().clamp(0, height - 1)
    return masks.flatten(1).gather(1, (row * width + column).flatten(1)).view(x.shape)


def resized(batch: Mapping[str, Tensor], size: int, sides: Sides) -> dict[str, Tensor]:
    """All images as a whole at ``size`` pixels a side, antialiased."""
    old = batch["image"].shape[2:]
    matrix = torch.zeros(len(batch["image"]), 2, 3, device=batch["image"].device)
    matrix[:, 0, 0], matrix[:, 1, 1] = size / old[1], size / old[0]
    out = moved(batch, matrix, (size, size), sides)
    values = F.interpolate(batch["image"].float(), (size, size), mode="bilinear", antialias=True)
    return {**out, "image": to_uint8(values)}


def jittered(images: Tensor, numbers: Tensor) -> Tensor:
    """Images (B, 3, H, W) with other brightness, contrast, saturation and hue.

    ``numbers`` (B, 4) are a factor of each, and the share of the color circle that the hue is turned by, as in
    ``facetx.data.transforms.ColorJitter``.
    """
    b, c, s, hue = (n[:, None, None, None] for n in numbers.unbind(1))
    x = images.float() * b
    gray = _luma(x)
    mean = gray.mean(dim=(2, 3), keepdim=True)
    x = to_uint8((c * s) * x + (c * (1 - s)) * gray + (1 - c) * mean)
    return torch.where(hue == 0, x, to_uint8(_turned(x.float(), hue)))


def _luma(x: Tensor) -> Tensor:
    red, green, blue = x.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _turned(x: Tensor, hue: Tensor) -> Tensor:
    """The hue turned: a color is its value, less a part that follows the hue about the circle."""
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = value - least
    red, green, blue = x.split(1, dim=1)
    safe = spread.clamp_min(1e-6)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    place = (5 - 2 * torch.arange(3, device=x.device))[:, None, None] + sixth + 6 * hue
    place = place % 6
    return value - spread * torch.minimum(place, 4 - place).clamp(0, 1)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, 3, H, W) under a Gaussian of ``sigma`` (B,) pixels each; 0 leaves one as it is."""
    reach = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=images.device)
    kernel = torch.exp(-0.5 * (reach / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)  # (B, K)
    x = images.float()
    for dim in (2, 3):
        x = _along(x, kernel, dim)
    return torch.where(sigma[:, None, None, None] > 0, to_uint8(x), images)


BLUR_REACH = 9
"""Pixels to each side that a blur sees: three times its largest sigma."""


def _along(x: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Each image's own kernel along one of its sides, the edge repeated."""
    pad = (0, 0, BLUR_REACH, BLUR_REACH) if dim == 2 else (BLUR_REACH, BLUR_REACH, 0, 0)
    windows = F.pad(x, pad, mode="replicate")
    length = x.shape[dim]
    total = torch.zeros_like(x)
    for i in range(kernel.shape[1]):
        total += kernel[:, i, None, None, None] * windows.narrow(dim, i, length)
    return total


def coarsened(images: Tensor, factor: Tensor, factors: Sequence[int]) -> Tensor:
    """Images (B, 3, H, W) shrunk by their own ``factor`` (B,) and brought back; one not in ``factors`` stays."""
    out, size = images, (images.shape[2], images.shape[3])
    for one in factors:
        small = F.interpolate(
            images.float(), (max(1, size[0] // one), max(1, size[1] // one)), mode="bilinear", antialias=True
        )
        back = to_uint8(F.interpolate(to_uint8(small).float(), size, mode="bilinear"))
        out = torch.where(factor[:, None, None, None] == one, back, out)
    return out


def covered(images: Tensor, box: Tensor, value: int) -> Tensor:
    """Images (B, 3, H, W) with all pixels within ``box`` (B, 4), left, upper, right, lower edge, set to ``value``."""
    left, upper, right, lower = (edge[:, None, None, None] for edge in box.unbind(1))
    x = torch.arange(images.shape[3], device=images.device) + 0.5
    y = torch.arange(images.shape[2], device=images.device)[:, None] + 0.5
    return images.masked_fill((left < x) & (x < right) & (upper < y) & (y < lower), value)


COLOR_CHANGES = (
    *("identity", "brightness", "color", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
"""What ``recolored`` knows, by number."""


def recolored(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Images (B, 3, H, W), each changed by one of ``COLOR_CHANGES``, ``kind`` (B,), with its own ``strength`` (B,).

    That is a factor of brightness, color, contrast and sharpness, how many bits "posterize" leaves, and the value from
    which on "solarize" turns light to dark; the others have none. As Pillow's ImageEnhance and ImageOps.
    """
    x, s = images.float(), strength[:, None, None, None]
    gray = _luma(x)
    smooth = F.avg_pool2d(x, 3, stride=1) * (9 / 13) + x[..., 1:-1, 1:-1] * (4 / 13)
    soft = x.clone()
    soft[..., 1:-1, 1:-1] = smooth
    least, most = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    step = 2 ** (8 - s)
    made = (
        x,
        x * s,
        gray + s * (x - gray),
        (1 - s) * gray.mean((2, 3), keepdim=True) + s * x,
        soft + s * (x - soft),
        (x / step).floor() * step,
        torch.where(x >= s, 255 - x, x),
        torch.where(most > least, (x - least) * (255 / (most - least).clamp_min(1)), x),
        _equalized(images),
    )
    out = images
    for number, change in enumerate(made[1:], start=1):
        out = torch.where(kind[:, None, None, None] == number, to_uint8(change), out)
    return out


def _equalized(images: Tensor) -> Tensor:
    """Each channel's values spread so that all are about equally frequent, as Pillow's ``ImageOps.equalize``."""
    flat = images.flatten(2).long()  # (B, 3, H W)
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    last = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - last) // 255
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp(max=255)
    found = torch.where(step > 0, table.gather(2, flat), flat)
    return found.view(images.shape).float()


def to_uint8(values: Tensor) -> Tensor:
    """0..255, to the nearest whole number."""
    return (values + 0.5).clamp(0, 255).to(torch.uint8)
