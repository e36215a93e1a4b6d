"""Images that are not square, cut to squares where that is asked for."""

from facetx.data.base import FaceDataset, Sample, Wrapped
from facetx.data.sample import Map, moved


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
