"""Squares that are cut out of images: their middle, or the face in them."""

import numpy as np

from facetx.data.align import similarity, template
from facetx.data.base import FaceDataset, Sample, Wrapped
from facetx.data.sample import Map, moved
from facetx.errors import DataError

FACE = 0.6
"""Side of the ArcFace template in an aligned square, so that hair, ears and neck are in it."""


class Cropped(Wrapped):
    """The largest square in the middle of each image, resized, and with it all that lies on the image.

    CelebA's 178x218 lose 20 rows above and below by it.

    Args:
        dataset: Gives images of any shape.
        size: Pixels a side of what is given; None leaves the square as large as it is.
    """

    def __init__(self, dataset: FaceDataset, size: int | None):
        super().__init__(dataset)
        self.size = size

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        height, width = sample["image"].shape[:2]
        side = min(height, width)
        new = self.size or side
        left, upper = (width - side) // 2, (height - side) // 2
        square = Map.box((height, width), (left, upper, left + side, upper + side), (new, new))
        return moved(sample, square)


class Aligned(Wrapped):
    """The face of each image, turned upright about the middle of a square, by the keypoints, with all that lies on it.

    The ArcFace template has 0.6 of the square's side. Where the image ends, its edge is repeated.

    Args:
        dataset: Gives images with ``keypoints``.
        size: Pixels a side of what is given; None gives the shorter side of each image.
    """

    def __init__(self, dataset: FaceDataset, size: int | None):
        super().__init__(dataset)
        self.size = size

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        if "keypoints" not in sample:
            raise DataError(
                f"{self.describe(index)}: has no keypoints to align the face by; take data that has (of lapa, "
                "landmarks: true), or say crop: true"
            )
        height, width = sample["image"].shape[:2]
        side = self.size or min(height, width)
        points = np.asarray(sample["keypoints"], np.float64) * (width, height)
        # The template counts from the middle of the first pixel, a map from its corner.
        goal = (template(side) + 0.5 - side / 2) * FACE + side / 2
        return moved(sample, Map(similarity(points, goal), (height, width), (side, side)))
