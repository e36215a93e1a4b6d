"""A data set from its settings."""

from facetx.config.parts import Part, create
from facetx.data import DATASETS, FaceDataset
from facetx.data.crop import Cropped
from facetx.evaluators import args_with_size


def open_dataset(part: Part, size: int | None, crop: bool = False) -> FaceDataset:
    """The data set that ``part`` names.

    Args:
        part: Its name and arguments.
        size: The model's, to which its images are resized unless its arguments say another; None leaves them.
        crop: Cut images that are not square to the largest square in their middle, which are an error otherwise.
    """
    if not crop:
        return create(DATASETS, Part(name=part.name, args=args_with_size(DATASETS, part.name, part.args, size)))
    args = dict(part.args)
    size = args.pop("size", size)
    return Cropped(create(DATASETS, Part(name=part.name, args=args)), size)
