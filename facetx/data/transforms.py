"""Augmentations of one item, each a function of the item and of a random generator that belongs to it alone.

An item is a dictionary with ``image`` (uint8 RGB, (H, W, 3)) and, where the data has them, ``keypoints`` ((5, 2)
float32, (x, y) in [0, 1]). A transform returns a new item and leaves its input as it is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from facetx.data.formats import codec
from facetx.registry import Registry

Item = dict[str, Any]
Transform = Callable[[Item, np.random.Generator], Item]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

MIRRORED = [1, 0, 2, 4, 3]
"""Left eye, right eye, nose, left and right mouth corner: which keypoint is which after a mirror."""


def mirror(item: Item) -> Item:
    """The item seen in a mirror, its keypoints renamed so that "left" stays the image's left."""
    out = {**item, "image": np.ascontiguousarray(item["image"][:, ::-1])}
    if "keypoints" in item:
        out["keypoints"] = item["keypoints"][MIRRORED] * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)
    return out


def flip(p: float = 0.5) -> Transform:
    """Mirrors left and right with probability ``p``; all that Face Transformer's training uses."""
    return lambda item, rng: mirror(item) if rng.random() < p else item


def shift(pixels: int = 4) -> Transform:
    """Moves the image by up to ``pixels`` each way, repeating its edge, as an alignment that is a little off would."""

    def apply(item: Item, rng: np.random.Generator) -> Item:
        dx, dy = rng.integers(-pixels, pixels + 1, 2)
        h, w = item["image"].shape[:2]
        padded = np.pad(item["image"], ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        out = {**item, "image": padded[pixels - dy : pixels - dy + h, pixels - dx : pixels - dx + w]}
        if "keypoints" in item:
            out["keypoints"] = item["keypoints"] + np.array([dx / w, dy / h], np.float32)
        return out

    return apply


def color_jitter(brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2) -> Transform:
    """Scales brightness, contrast about the mean gray, and saturation, each by a factor from [1 - x, 1 + x]."""

    def apply(item: Item, rng: np.random.Generator) -> Item:
        b, c, s = 1 + (np.array([brightness, contrast, saturation]) * rng.uniform(-1, 1, 3)).astype(np.float32)
        x = item["image"].astype(np.float32) * b
        gray = x @ LUMA  # (H, W)
        mean = gray.mean()
        # Saturation then contrast, each a blend: gray + s (x - gray), then mean + c (y - mean).
        x = (c * s) * x + (c * (1 - s)) * gray[..., None] + (1 - c) * mean
        return {**item, "image": np.clip(x + 0.5, 0, 255).astype(np.uint8)}

    return apply


def resize(size: int) -> Transform:
    """Resizes to ``size`` x ``size`` pixels, antialiased. Not random: use it where the files have another size."""
    return lambda item, rng: {**item, "image": codec.resize(item["image"], size)}


TRANSFORMS: Registry[Callable[..., Transform]] = Registry("transform", [flip, shift, color_jitter, resize])
