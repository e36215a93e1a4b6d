"""The images of IJB-B and IJB-C, aligned by the five points of their lists."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.align import ARCFACE_SIZE, similarity, template, transform, warp
from facetx.data.sets.folder import read_image
from facetx.files import read_file


class IJBImages:
    """The loosely cropped images of a benchmark, aligned to the ArcFace template by their points as they are read.

    Args:
        folder: Of the images.
        names: (N,) their files.
        points: (N, 5, 2) in pixels of these.
        size: Pixels a side.

    Items: ``{"image": uint8 RGB (size, size, 3), "label": 0, "keypoints": float32 (5, 2) in [0, 1]}``.
    """

    def __init__(self, folder: str | Path, names: list[str], points: NDArray[np.float32], size: int = ARCFACE_SIZE):
        self.name = Path(folder).name
        self.paths = [Path(folder) / name for name in names]
        self.points, self.size = points, size
        self.labels = np.zeros(len(names), np.int64)
        self.num_classes = 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        matrix = similarity(self.points[index], template(self.size))
        image = warp(read_image(self.paths[index]), matrix, self.size)
        keypoints = (transform(matrix, self.points[index]) / self.size).astype(np.float32)
        return {"image": image, "label": 0, "keypoints": keypoints}

    def encoded(self, index: int) -> bytes:
        """The bytes of the image file of item ``index``. Raises ``DataError`` where it cannot be read."""
        return read_file(self.paths[index])

    def describe(self, index: int) -> str:
        """Where item ``index`` comes from, for messages."""
        return str(self.paths[index])
