"""What a model expects of its input images, kept with its weights.

A face aligned to another template, BGR for RGB, or 0..1 for 0..255 costs points of accuracy and raises no error.
So every backbone carries its contract; it is saved in each checkpoint and each export, and whatever feeds the
model applies it. Loaders, caches and transforms all keep plain uint8 RGB.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputContract:
    """How uint8 RGB images become a model's input: ``(x - mean) / std``, in ``color`` order.

    Attributes:
        size: Height and width in pixels, of a square image.
        color: Channel order that the network wants.
        mean, std: In the units 0..255, one for all channels or one a channel (in ``color`` order).
            (127.5, 127.5) is the field's "(x / 255 - 0.5) / 0.5"; (0, 1) leaves raw 0..255.
        alignment: The template that the faces are warped to. "arcface" is InsightFace's five points for 112x112.
    """

    size: int = 112
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    alignment: str = "arcface"

    def __post_init__(self) -> None:
        if self.color not in ("RGB", "BGR"):
            raise ValueError(f"color must be 'RGB' or 'BGR', got {self.color!r}")
        for name in ("mean", "std"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) not in (1, 3):
                raise ValueError(f"{name} needs one number, or one for each of three channels; got {len(value)}")
            object.__setattr__(self, name, value)
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB images (B, 3, H, W) in 0..255 -> float32 input of the network, same shape and device."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"expected uint8 RGB images of shape (batch, 3, height, width), got {images.dtype} "
                f"{tuple(images.shape)}; facetx keeps images as uint8 0..255 until the model's own contract scales them"
            )
        x = images.float()
        if self.color == "BGR":
            x = x.flip(1)
        # Plain numbers, since a tensor of them would be copied to the device at each step.
        mean, std = (3 * values if len(values) == 1 else values for values in (self.mean, self.std))
        if len({*zip(mean, std)}) == 1:
            return (x - mean[0]) / std[0]
        return torch.stack([(channel - m) / s for channel, m, s in zip(x.unbind(1), mean, std)], dim=1)

    def __str__(self) -> str:
        """In words, for a log: ``112x112 BGR, (x - 127.5) / 128, aligned to arcface``."""
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        mean, std = (f"({text})" if "," in text else text for text in (mean, std))
        scaled = "raw 0..255" if (self.mean, self.std) == ((0.0,), (1.0,)) else f"(x - {mean}) / {std}"
        return f"{self.size}x{self.size} {self.color}, {scaled}, aligned to {self.alignment}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``InputContract(**d)`` takes them back."""
        return asdict(self)


class AppliedElsewhere(InputContract):
    """A contract that whoever runs the network applies: here the images go through as they are."""

    def __call__(self, images: Tensor) -> Tensor:
        return images
