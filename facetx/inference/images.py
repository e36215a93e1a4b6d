"""Images as a notebook has them, as a data set: files are read as they are asked for, one by one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import resize
from facetx.data.lists.folders import is_image
from facetx.data.sets.folder import read_image
from facetx.errors import DataError

READERS = 2
"""Processes that read files."""
KINDS = "an image is a path, a PIL image, a uint8 RGB array (H, W, 3) or a uint8 RGB tensor (3, H, W)"


class GivenImages(FaceDataset):
    """Images without identities, resized to ``size`` pixels a side.

    Args:
        images: One or many, each a path, a PIL image, a uint8 RGB array (H, W, 3), or a uint8 RGB tensor (3, H, W).
        size: Of the model's images.
        keypoints: (N, 5, 2) in [0, 1] as (x, y).

    Raises ``DataError`` for what is no image, before any file is read; an item does for a file that cannot be read, and
    for an image that is not square.
    """

    name = "images"
    num_classes = 1

    def __init__(self, images: Any, size: int, keypoints: NDArray[np.float32] | None = None):
        self.size: int = size
        self.images = _files_in(images) if _is_folder(images) else [images] if _is_one(images) else list(images)
        if not self.images:
            raise DataError(f"{images}: has no images" if _is_folder(images) else "no images were given")
        for i, image in enumerate(self.images):
            if not _is_image(image):
                what = f"{getattr(image, 'dtype', type(image).__name__)} {tuple(getattr(image, 'shape', ()))}"
                raise DataError(f"image {i + 1}: {KINDS}; got {what}")
        if keypoints is not None and len(keypoints) != len(self.images):
            raise DataError(f"{len(self.images)} images, and keypoints for {len(keypoints)}")
        self.keypoints = keypoints
        self.labels = np.zeros(len(self.images), np.int64)

    def __getitem__(self, index: int, /) -> Sample:
        image = _pixels(self.images[index])
        height, width, _ = image.shape
        if height != width:
            raise DataError(
                f"{self.describe(index)}: the image is {width}x{height}, and this model takes aligned faces of "
                f"{self.size}x{self.size} pixels; another shape would be squashed. Align the photos "
                "(scripts/prepare_data.py align), or crop them to squares"
            )
        item: Sample = {"image": image if width == self.size else resize(image, self.size), "label": 0}
        if self.keypoints is not None:
            item["keypoints"] = np.asarray(self.keypoints[index], np.float32)
        return item

    def readers(self, batch_size: int) -> int:
        """How many processes should read them while the network computes: none where one batch of files is all."""
        files = len(self) > batch_size and all(isinstance(image, str | Path) for image in self.images)
        return READERS if files else 0

    def describe(self, index: int) -> str:
        """The image's file, or its number from 1 on."""
        image = self.images[index]
        return str(image) if isinstance(image, str | Path) else f"image {index + 1}"


def _is_folder(images: Any) -> bool:
    return isinstance(images, str | Path) and Path(images).is_dir()


def _files_in(folder: str | Path) -> list[Path]:
    """The image files in a folder, and in those within it, by their names."""
    return sorted(path for path in Path(folder).rglob("*") if is_image(path.name) and path.is_file())


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim < 4
    return isinstance(images, str | Path) or not isinstance(images, Iterable)


def _is_image(image: Any) -> bool:
    if isinstance(image, Tensor):
        return image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return isinstance(image, str | Path | Image.Image)


def _pixels(image: str | Path | Image.Image | NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) of what ``_is_image``."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0).cpu().numpy()  # (3, H, W) -> (H, W, 3)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))  # turned as the same file is by its path
    return image
