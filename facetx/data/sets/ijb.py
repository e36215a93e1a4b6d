"""The images of IJB-B and IJB-C, aligned by the five points of their lists."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.align import ARCFACE_SIZE, similarity, template, transform, warp
from facetx.data.base import Sample
from facetx.data.formats.paths import Paths
from facetx.data.sets.folder import ImageFiles, read_image


class IJBImages(ImageFiles):
    """The loosely cropped images of a benchmark, aligned to the ArcFace template by their points as they are read.

    Args:
        folder: Of the images.
        names: (N,) their files.
        points: (N, 5, 2) in pixels of these.
        size: Pixels a side.

    Items: ``{"image": uint8 RGB (size, size, 3), "label": 0, "keypoints": float32 (5, 2) in [0, 1]}``.
    """

    def __init__(self, folder: str | Path, names: list[str], points: NDArray[np.float32], size: int = ARCFACE_SIZE):
        super().__init__(Paths(folder, names), Path(folder).name, size)
        self.points, self.side = points, size

    def __getitem__(self, index: int) -> Sample:
        matrix = similarity(self.points[index], template(self.side))
        image = warp(read_image(self.paths[index]), matrix, self.side)
        keypoints = (transform(matrix, self.points[index]) / self.side).astype(np.float32)
        return {"image": image, "label": 0, "keypoints": keypoints}
